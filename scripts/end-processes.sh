#!/usr/bin/env bash
# Ends every process whose command line names a directory: end-processes.sh DIR. What a cluster left
# behind below DIR, paused processes too; nothing else.
set -euo pipefail

dir="${1%/}/"
for line in /proc/[0-9]*/cmdline; do
    pid=${line#/proc/}
    pid=${pid%/cmdline}
    [ "$pid" != $$ ] && [ "$pid" != "$PPID" ] || continue
    if tr '\0' ' ' 2>/dev/null <"$line" | grep -qF -- "$dir"; then
        kill -KILL "$pid" 2>/dev/null || true
    fi
done
