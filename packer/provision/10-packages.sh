#!/usr/bin/env bash
# Brings Debian up to date and what the appliance needs of it. The base disk is made of today's packages and has all of it:
# there nothing is fetched.
set -euo pipefail
export DEBIAN_FRONTEND=noninteractive

packages=(ca-certificates chrony curl ethtool iproute2 unattended-upgrades)
if [[ $(</sys/class/dmi/id/sys_vendor) == Amazon* ]] || ! dpkg-query --show "${packages[@]}" >/dev/null 2>&1; then
    apt-get --quiet=2 update
    apt-get --quiet=2 --yes full-upgrade
    apt-get --quiet=2 --yes --no-install-recommends install "${packages[@]}"
fi

# Amazon's agent is not in Debian. Its checksum comes with its place, since nothing else vouches for it.
if [[ -n ${SSM_AGENT_URL:-} ]]; then
    agent=/tmp/ssm-agent.deb
    curl --fail --silent --show-error --location --output "$agent" "$SSM_AGENT_URL"
    echo "${SSM_AGENT_SHA256:?of the agent} $agent" | sha256sum --check --quiet
    dpkg --install "$agent"
    rm "$agent"
fi
