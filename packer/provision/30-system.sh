#!/usr/bin/env bash
# The machine around Gatehouse: time, logs, security updates, the names of interfaces.
set -euo pipefail

# Logs are bounded in size and age; a line of access log is about 300 bytes.
install --directory /etc/systemd/journald.conf.d
cat >/etc/systemd/journald.conf.d/60-gatehouse.conf <<'CONF'
[Journal]
Storage=persistent
SystemMaxUse=256M
SystemKeepFree=256M
MaxRetentionSec=30day
RateLimitIntervalSec=10s
RateLimitBurst=20000
CONF

# Names come from DNS servers alone; asking neighbours would keep a port open to them.
install --directory /etc/systemd/resolved.conf.d
cat >/etc/systemd/resolved.conf.d/60-gatehouse.conf <<'CONF'
[Resolve]
LLMNR=no
MulticastDNS=no
CONF

# Certificates and leases need the time. Amazon's source answers on every instance without a route to the internet;
# elsewhere it does not, and the pool of Debian's own configuration is used.
cat >/etc/chrony/sources.d/aws.sources <<'CONF'
server 169.254.169.123 prefer iburst minpoll 4 maxpoll 4
CONF
systemctl enable --quiet chrony

# Security updates come by themselves; a restart of the machine is the fleet's matter.
cat >/etc/apt/apt.conf.d/60-gatehouse <<'CONF'
APT::Periodic::Update-Package-Lists "1";
APT::Periodic::Unattended-Upgrade "1";
Unattended-Upgrade::Automatic-Reboot "false";
Unattended-Upgrade::Remove-Unused-Dependencies "true";
CONF
systemctl enable --quiet unattended-upgrades apt-daily.timer apt-daily-upgrade.timer

# A machine without a way in tells at its console how it is.
systemctl enable --quiet gatehouse-console

# Where a boot loader is configured by Debian's tools: plain names, so that `eth0` is the first interface everywhere.
if [[ -d /etc/default/grub.d ]]; then
    # shellcheck disable=SC2016 # expanded by the reader of that file
    echo 'GRUB_CMDLINE_LINUX="$GRUB_CMDLINE_LINUX net.ifnames=0"' >/etc/default/grub.d/60-gatehouse.cfg
    update-grub
fi
