#!/bin/bash
# What counting repeat offenders costs when every file takes a dozen processes: the yardstick of
# benches/recidive.rs.   Usage: recidive.bash STATE JAIL THRESHOLD < list of files
state=$1 jail=$2 threshold=$3
: >"$state"
: >"$jail"
while IFS= read -r file; do
    status=$(grep -a '^HTTP/1\.' "$file" | head -n 1 | awk '{print $2}')
    [ "$status" = 403 ] || continue
    client=$(sed -n 2p "$file" | awk '{print $(NF - 3)}')
    count=$(grep "^$client " "$state" | awk '{print $2}')
    count=$((${count:-0} + 1))
    now=$(date +%s)
    sed -i "/^$client /d" "$state"
    echo "$client $count $now" >>"$state"
    if [ $((count % threshold)) -eq 0 ]; then
        echo "$client - $(date '+%Y-%m-%d %H:%M:%S')" >>"$jail"
    fi
done
