//! GRUB for the BIOS, put where `grub-install` would put it if there were a device: its first sector into the disk's
//! first, its core into the partition made for it. A PC without UEFI, and every QEMU, starts here.

use anyhow::{Context, ensure};

/// `boot.img`, which loads the first sector of the core, cut to what lies before the partition table.
pub(super) fn first_sector(mut boot: Vec<u8>, core_sector: u64) -> anyhow::Result<Vec<u8>> {
    ensure!(boot.len() == SECTOR, "GRUB's boot.img is {} bytes and not a sector", boot.len());
    put(&mut boot, BOOT_CORE_SECTOR, &core_sector.to_le_bytes())?;
    // Two no-operations instead of a jump: trust the drive number that the BIOS gives.
    put(&mut boot, BOOT_DRIVE_CHECK, &[0x90, 0x90])?;
    boot.truncate(PARTITION_TABLE);
    Ok(boot)
}

/// The core, whose first sector (`diskboot.img`) loads those behind it.
pub(super) fn core(mut core: Vec<u8>, core_sector: u64, room: usize) -> anyhow::Result<Vec<u8>> {
    ensure!(core.len() <= room, "GRUB's core is {} bytes, and its partition {room}", core.len());
    put(&mut core, CORE_REST_SECTOR, &(core_sector + 1).to_le_bytes())?;
    Ok(core)
}

fn put(image: &mut [u8], at: usize, bytes: &[u8]) -> anyhow::Result<()> {
    let place = image.get_mut(at..at + bytes.len()).context("the image is too short to be GRUB's")?;
    place.copy_from_slice(bytes);
    Ok(())
}

pub(super) const SECTOR: usize = 512;
/// `GRUB_BOOT_MACHINE_KERNEL_SECTOR` of GRUB's `include/grub/i386/pc/boot.h`.
const BOOT_CORE_SECTOR: usize = 0x5c;
/// `GRUB_BOOT_MACHINE_DRIVE_CHECK`, likewise.
const BOOT_DRIVE_CHECK: usize = 0x66;
/// The first block list of `diskboot.img`: 12 bytes from the end of its sector.
const CORE_REST_SECTOR: usize = SECTOR - 12;
/// Disk signature and partition table of a master boot record begin here, and are not ours.
const PARTITION_TABLE: usize = 440;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_part_knows_where_the_next_one_lies() {
        let boot = first_sector(vec![0xff; SECTOR], 2048).unwrap();
        assert_eq!(boot.len(), 440);
        assert_eq!(boot[0x5c..0x64], [0, 8, 0, 0, 0, 0, 0, 0]);
        assert_eq!(boot[0x66..0x68], [0x90, 0x90]);
        let core = core(vec![0xff; 1024], 2048, 1 << 20).unwrap();
        assert_eq!(core[0x1f4..0x1fc], [1, 8, 0, 0, 0, 0, 0, 0]);
        assert_eq!(core.len(), 1024);
    }

    #[test]
    fn what_is_no_grub_is_refused() {
        assert!(first_sector(vec![0; 100], 2048).is_err());
        assert!(core(vec![0; 100], 2048, 1 << 20).is_err());
        assert!(core(vec![0; 2048], 2048, 1024).is_err());
    }
}
