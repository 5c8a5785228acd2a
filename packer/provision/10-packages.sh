#!/usr/bin/env bash
# Brings Debian up to date and what the appliance needs of it. The base disk is made of today's packages and has all of it:
# there nothing is fetched.
set -euo pipefail
export DEBIAN_FRONTEND=noninteractive

# Debian's own updates at a boot hold the locks of apt and dpkg: none begins any more until the next boot, and one that runs is waited for.
systemctl stop apt-daily.timer apt-daily-upgrade.timer
systemd-run --quiet --wait --property="After=apt-daily.service apt-daily-upgrade.service" /usr/bin/true
apt_get() {
    apt-get --quiet=2 --yes --option=DPkg::Lock::Timeout=300 "$@"
}

packages=(ca-certificates chrony curl ethtool iproute2 unattended-upgrades)
if ! dpkg-query --show "${packages[@]}" >/dev/null 2>&1 || [[ $(</sys/class/dmi/id/sys_vendor) == Amazon* ]]; then
    apt_get update
    apt_get full-upgrade
    apt_get --no-install-recommends install "${packages[@]}"
fi

# Amazon's agent is not in Debian. Its checksum comes with its place, since nothing else vouches for it.
if [[ -n ${SSM_AGENT_URL:-} ]]; then
    agent=/tmp/ssm-agent.deb
    curl --fail --silent --show-error --location --output "$agent" "$SSM_AGENT_URL"
    echo "${SSM_AGENT_SHA256:?of the agent} $agent" | sha256sum --check --quiet
    dpkg --install "$agent"
    rm "$agent"
fi
