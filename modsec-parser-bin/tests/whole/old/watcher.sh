#!/bin/sh
# Stands in for watch_dir.sh: gives every directory that appears to the server's user and the
# common group.   Usage: watcher.sh DIR
inotifywait -q -m -r -e create --format '%w%f' "$1" | while read -r path; do
    if [ -d "$path" ]; then
        chmod 770 "$path"
        chown apache:fastsecure "$path"
    fi
done
