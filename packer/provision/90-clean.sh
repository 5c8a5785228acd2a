#!/usr/bin/env bash
# Takes away what belongs to this one machine or to its making. Runs last: it ends the way in.
set -euo pipefail
export DEBIAN_FRONTEND=noninteractive

# No SSH daemon by default. The session that runs this lives on, and is the last one.
if [[ ${KEEP_SSH:-no} != yes ]]; then
    apt-get --quiet=2 --yes purge openssh-server openssh-sftp-server openssh-client
    rm --recursive --force /etc/ssh/sshd_config.d
fi

apt-get --quiet=2 clean
rm --recursive --force /var/lib/apt/lists/* /var/cache/debconf/*-old /var/cache/apt/*.bin
rm --force /etc/ssh/ssh_host_*
# Packer's own copies of these scripts, and what cloud-init worked with.
rm --recursive --force /tmp/script_*.sh /var/tmp/*
rm --force /root/.bash_history /root/.wget-hsts /home/*/.bash_history
rm --recursive --force /root/.ssh /home/*/.ssh /root/.aws /home/*/.aws
# Stopped now, or it would save a seed as the machine stops, one for all instances.
systemctl stop systemd-random-seed.service
rm --recursive --force /var/lib/gatehouse /var/lib/systemd/random-seed /var/lib/dhcp/*
# From here on the journal is kept in memory; else it would begin a new file.
journalctl --relinquish-var
rm --recursive --force /var/log/journal/* /var/log/unattended-upgrades/* /var/log/apt/* /var/log/*.log

# The next boot is a first boot. Its user, network and keys come from its own user data.
cloud-init clean --logs --seed
rm --force /etc/systemd/network/10-cloud-init-*.network
# The user's right to become root goes last, as the machine stops: Packer stops one of QEMU's by it.
systemd-run --quiet --unit=last-hand --property=Type=oneshot --property=RemainAfterExit=yes \
    --property="ExecStop=/usr/bin/rm --force /etc/sudoers.d/90-cloud-init-users" /usr/bin/true
: >/etc/machine-id
rm --force /var/lib/dbus/machine-id

# Free blocks become holes, and the image small.
fstrim --all || true
sync
