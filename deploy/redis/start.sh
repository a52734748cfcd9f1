#!/bin/sh
# Takes its own place by Redis with the gateway's user, whose password comes from a file: it stands in no argument, where
# others could see it, and in no variable. Arguments are Redis' own.
set -eu
exec redis-server - "$@" <<CONFIG
$(cat "$(dirname "$0")/redis.conf")
user gateway on >$(cat "$STORE_PASSWORD_FILE") ~aion:* +@all
CONFIG
