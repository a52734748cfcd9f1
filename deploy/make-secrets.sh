#!/bin/sh
# Makes the secrets of docker-compose.yml where they are missing, and leaves those that are there alone.
#
# The folder is for its owner only; the files in it can be read by all, because each container reads its own as a user of
# its own, and compose hands over files with the rights that they have.
set -eu
umask 022
folder=${1:-$(dirname "$0")/secrets}
mkdir -p "$folder"
chmod 0700 "$folder"
for name in store_password ledger_password grafana_password; do
    if [ ! -s "$folder/$name" ]; then
        # Hexadecimal, so that they can stand in a URL as they are.
        od -An -N24 -tx1 /dev/urandom | tr -d ' \n' >"$folder/$name"
        echo "made $folder/$name"
    fi
done
