#!/usr/bin/env bash
# Installs Gatehouse and does not start it: what a first start makes (a CA's key, a store) is each machine's own.
set -euo pipefail
package=${PACKAGE:?the .deb}

# invoke-rc.d and deb-systemd-invoke ask this whether they may start a service.
printf '#!/bin/sh\nexit 101\n' >/usr/sbin/policy-rc.d
chmod 0755 /usr/sbin/policy-rc.d
dpkg --install "$package"
rm --force /usr/sbin/policy-rc.d "$package"

# Both sources name the first interface so (30-system.sh).
cat >/etc/gatehouse/conf.d/10-image.toml <<'TOML'
# Of the image. Later fragments (conf.d/*.toml, by name) and variables come after it.
[guard]
interfaces = ["eth0"]
TOML
gatehouse validate

mkdir --parents /etc/systemd/system/gatehouse.service.d
cat >/etc/systemd/system/gatehouse.service.d/nic.conf <<'UNIT'
# Of the image, whose guard is native.
[Unit]
Wants=gatehouse-nic.service
UNIT
