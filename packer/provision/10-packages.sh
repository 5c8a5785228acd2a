#!/usr/bin/env bash
# Brings Debian up to date and what the appliance needs of it. On the base disk all of it is there, and nothing is fetched.
set -euo pipefail
export DEBIAN_FRONTEND=noninteractive

packages=(ca-certificates chrony ethtool iproute2 unattended-upgrades)
if ! dpkg-query --show "${packages[@]}" >/dev/null 2>&1; then
    apt-get --quiet=2 update
    apt-get --quiet=2 --yes full-upgrade
    apt-get --quiet=2 --yes --no-install-recommends install "${packages[@]}"
fi
