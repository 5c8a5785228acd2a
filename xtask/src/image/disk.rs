//! A file tree as a disk that boots by BIOS and by UEFI. No loop device, no mount: partitions are made as files and
//! copied into place, so it works in a container, too.

use std::{
    fs::{self, File},
    io::{Seek, SeekFrom, Write},
    path::Path,
};

use anyhow::Context;
use xshell::{Shell, cmd};

use super::boot;

/// Writes `tree` to `disk` as compressed qcow2.
pub(super) fn make(shell: &Shell, tree: &Path, disk: &Path) -> anyhow::Result<()> {
    println!("image: writing the disk");
    let folder = shell.create_temp_dir()?;
    let raw = folder.path().join("raw");
    partition(shell, &raw)?;
    root(shell, tree, folder.path(), &raw)?;
    efi(shell, folder.path(), &raw)?;
    bios(shell, folder.path(), &raw)?;
    cmd!(shell, "qemu-img convert -O qcow2 -c {raw} {disk}").quiet().run()?;
    Ok(())
}

/// The partitions lie behind each other: BIOS boot, EFI system, root up to the copy of the table at the end.
fn partition(shell: &Shell, raw: &Path) -> anyhow::Result<()> {
    let sectors = |mib: u64| mib * MIB / boot::SECTOR as u64;
    let (bios, efi, root) = (sectors(BIOS_MIB), sectors(EFI_MIB), sectors(ROOT_MIB));
    let (bios_start, efi_start) = (sectors(FIRST_MIB), sectors(FIRST_MIB) + bios);
    let root_start = efi_start + efi;
    let table = format!(
        "label: gpt\n\
         start={bios_start}, size={bios}, type=21686148-6449-6E6F-744E-656564454649, name=bios\n\
         start={efi_start}, size={efi}, type=U, name=esp\n\
         start={root_start}, size={root}, type=4F68BCE3-E8CD-4DB1-96E7-FBCAF984B709, name=root\n"
    );
    File::create(raw)?.set_len((FIRST_MIB + BIOS_MIB + EFI_MIB + ROOT_MIB + LAST_MIB) * MIB)?;
    cmd!(shell, "sfdisk --quiet {raw}").stdin(table).quiet().run().context("the disk cannot be partitioned")
}

fn root(shell: &Shell, tree: &Path, folder: &Path, raw: &Path) -> anyhow::Result<()> {
    let menu = tree.join("boot/grub");
    shell.create_dir(&menu)?;
    fs::copy(shell.current_dir().join(GRUB_MENU), menu.join("grub.cfg"))?;
    let image = folder.join("root");
    File::create(&image)?.set_len(ROOT_MIB * MIB)?;
    cmd!(shell, "mke2fs -q -t ext4 -L root -m 1 -d {tree} {image}").quiet().run()?;
    let seek = (ROOT_AT / MIB).to_string();
    cmd!(shell, "dd if={image} of={raw} bs=1M seek={seek} conv=notrunc,sparse status=none").quiet().run()?;
    shell.remove_path(image)?;
    Ok(())
}

fn efi(shell: &Shell, folder: &Path, raw: &Path) -> anyhow::Result<()> {
    let (image, loader) = (folder.join("esp"), folder.join("BOOTX64.EFI"));
    grub(shell, "x86_64-efi", &loader, &["efi_gop", "all_video"])?;
    File::create(&image)?.set_len(EFI_MIB * MIB)?;
    cmd!(shell, "mkfs.vfat -F 32 -n ESP {image}").quiet().ignore_stdout().run()?;
    cmd!(shell, "mmd -i {image} ::/EFI ::/EFI/BOOT").quiet().run()?;
    cmd!(shell, "mcopy -i {image} {loader} ::/EFI/BOOT/BOOTX64.EFI").quiet().run()?;
    write_at(raw, (FIRST_MIB + BIOS_MIB) * MIB, &fs::read(&image)?)
}

fn bios(shell: &Shell, folder: &Path, raw: &Path) -> anyhow::Result<()> {
    let core = folder.join("core.img");
    grub(shell, "i386-pc", &core, &["biosdisk"])?;
    let sector = FIRST_MIB * MIB / boot::SECTOR as u64;
    let first = boot::first_sector(fs::read(GRUB_BOOT).context("grub-pc-bin is missing")?, sector)?;
    write_at(raw, 0, &first)?;
    let room = usize::try_from(BIOS_MIB * MIB)?;
    write_at(raw, FIRST_MIB * MIB, &boot::core(fs::read(core)?, sector, room)?)
}

fn grub(shell: &Shell, format: &str, to: &Path, modules: &[&str]) -> anyhow::Result<()> {
    cmd!(shell, "grub-mkimage -O {format} -o {to} -p /boot/grub -c {GRUB_EARLY}")
        .args(GRUB_MODULES)
        .args(modules)
        .quiet()
        .run()
        .context("GRUB cannot be made")
}

fn write_at(raw: &Path, offset: u64, bytes: &[u8]) -> anyhow::Result<()> {
    let mut file = File::options().write(true).open(raw)?;
    file.seek(SeekFrom::Start(offset))?;
    Ok(file.write_all(bytes)?)
}

/// What GRUB shows and starts.
pub(super) const GRUB_MENU: &str = "packer/base/grub.cfg";
/// How GRUB finds that.
pub(super) const GRUB_EARLY: &str = "packer/base/early.cfg";
const GRUB_BOOT: &str = "/usr/lib/grub/i386-pc/boot.img";
const GRUB_MODULES: [&str; 12] = [
    "part_gpt",
    "fat",
    "ext2",
    "normal",
    "configfile",
    "search",
    "search_label",
    "linux",
    "serial",
    "terminal",
    "test",
    "boot",
];
const MIB: u64 = 1 << 20;
const FIRST_MIB: u64 = 1;
const BIOS_MIB: u64 = 1;
const EFI_MIB: u64 = 64;
/// Where the root's file system begins, in bytes.
pub(super) const ROOT_AT: u64 = (FIRST_MIB + BIOS_MIB + EFI_MIB) * MIB;
/// A first boot grows it to the disk it is given.
const ROOT_MIB: u64 = 1980;
const LAST_MIB: u64 = 1;
