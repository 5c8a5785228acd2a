#!/usr/bin/env bash
# The file tree of the base disk, from Debian's packages alone: what Debian's cloud image is on AWS, for QEMU.
# `cargo xtask image base` calls it and keeps what it made for as long as this file does not change.
set -euo pipefail

tree=${1:?the folder to make}
suite=bookworm

packages=(
    # boots, and finds its disk and its network
    linux-image-cloud-amd64 initramfs-tools systemd systemd-sysv systemd-resolved udev kmod zstd e2fsprogs dbus
    libpam-systemd iproute2
    # first boot: user data, and a root file system as large as its disk
    cloud-init cloud-guest-utils fdisk
    # provisioning comes by SSH; its last step takes the server away
    openssh-server sudo
    # what Gatehouse's package depends on, and what provisioning installs: a build fetches nothing
    ca-certificates ethtool chrony unattended-upgrades
    # for the operator at the console
    curl procps
)

# An appliance has no reader of manuals and no translations; whose licence applies stays known.
documentation=(
    --dpkgopt='path-exclude=/usr/share/man/*'
    --dpkgopt='path-exclude=/usr/share/locale/*'
    --dpkgopt='path-exclude=/usr/share/doc/*'
    --dpkgopt='path-include=/usr/share/doc/*/copyright'
    --dpkgopt='path-include=/usr/share/doc/gatehouse/*'
)

IFS=, && include="${packages[*]}" && unset IFS
# Not `--quiet`: it would hide what apt said of a failure. An archive that does not answer is asked again.
mmdebstrap --mode=root --variant=minbase --include="$include" \
    --aptopt='Apt::Install-Recommends "false"' --aptopt='Acquire::Retries "5"' "${documentation[@]}" \
    --customize-hook="chroot \"\$1\" systemctl enable --quiet systemd-networkd systemd-resolved ssh serial-getty@ttyS0" \
    "$suite" "$tree"

install --directory "$tree/boot/efi"
cat >"$tree/etc/fstab" <<'FSTAB'
LABEL=root / ext4 defaults,discard,errors=remount-ro 0 1
LABEL=ESP /boot/efi vfat umask=0077,nofail,x-systemd.automount 0 1
FSTAB
echo gatehouse >"$tree/etc/hostname"
: >"$tree/etc/machine-id"
rm --force "$tree"/etc/ssh/ssh_host_*
# Without `locales` cloud-init's own locale cannot be set, and it reports an error on every boot.
echo 'locale: C.UTF-8' >"$tree/etc/cloud/cloud.cfg.d/10-locale.cfg"
# The instance asks these, and no others, where its user data lies: others cost time and may be strangers.
echo 'datasource_list: [NoCloud, Ec2, None]' >"$tree/etc/cloud/cloud.cfg.d/20-sources.cfg"
