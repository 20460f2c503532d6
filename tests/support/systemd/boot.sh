#!/bin/bash
# Boots a systemd of its own from this machine's binaries: process 1 of new namespaces, with no unit but those given.
#
#   boot.sh FOLDER     as root; becomes `unshare`, whose death takes the whole system with it
#
# FOLDER/etc becomes /etc/systemd/system, FOLDER/units a second place for units, and FOLDER/run the system's /run, so
# that its D-Bus is at FOLDER/run/dbus/system_bus_socket. It boots into stopgap-test.target, in a control group of its
# own: stopgap-test-PID, which whoever stops it removes.
set -euo pipefail
FOLDER=$(realpath "$1")
export FOLDER
mkdir -p "$FOLDER"/{etc,run,units}

groups=/sys/fs/cgroup
[[ -d $groups/unified ]] && groups=$groups/unified
mkdir "$groups/stopgap-test-$$"
echo $$ >"$groups/stopgap-test-$$/cgroup.procs"

exec unshare --cgroup --ipc --mount --pid --uts --fork --kill-child --propagation private bash -euo pipefail -c '
  mount -t proc proc /proc
  for place in /proc/sys /sys; do
    mount --bind "$place" "$place"
    mount -o remount,bind,ro "$place"
  done
  umount --recursive /sys/fs/cgroup || true
  mount -t cgroup2 cgroup2 /sys/fs/cgroup
  mount --bind "$FOLDER/run" /run
  mkdir -p /run/lock /run/systemd/system /run/given-units
  mount --bind "$FOLDER/units" /run/given-units
  mount --bind "$FOLDER/etc" /etc/systemd/system
  for place in /var/lib /var/log /var/tmp; do
    mount -t tmpfs tmpfs "$place"
  done
  hostname stopgap-test
  exec env --ignore-environment container=stopgap-test PATH=/usr/sbin:/usr/bin:/sbin:/bin \
    SYSTEMD_UNIT_PATH=/etc/systemd/system:/run/systemd/system:/run/given-units \
    /lib/systemd/systemd --system --unit=stopgap-test.target --show-status=no --log-target=console --log-level=warning
'
