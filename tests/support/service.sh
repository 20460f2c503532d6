#!/bin/sh
# A service manager in a folder: `service.sh FOLDER VERB NAME`. A service is a folder; it runs while it holds a file
# named running, and is barred while it holds one named disabled.
service=$1/$3
[ -d "$service" ] || exit 4
case $2 in
state)
    [ ! -e "$service/disabled" ] || echo disabled
    [ -e "$service/running" ] || exit 3
    ;;
start)
    [ ! -e "$service/disabled" ] || exit 1
    : >"$service/running"
    ;;
stop) rm -f "$service/running" ;;
disable) : >"$service/disabled" ;;
enable) rm -f "$service/disabled" ;;
*) exit 2 ;;
esac
