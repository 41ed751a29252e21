#!/bin/sh
# render.sh TEMPLATE OUTPUT COMMAND...
#
# Replaces every @NAME@ of TEMPLATE by the environment's NAME, writes OUTPUT (mode 0600) and becomes COMMAND.
# Values are restricted to URL-safe characters: passwords go into connection URLs, JSON and ACL rules alike, and
# none of these three then needs quoting.
set -eu

fail() {
    printf 'render.sh: %s\n' "$1" >&2
    exit 1
}

[ $# -ge 3 ] || fail 'usage: render.sh TEMPLATE OUTPUT COMMAND...'
template=$1
output=$2
shift 2
[ -r "$template" ] || fail "cannot read $template"

rules=
for name in $(grep -o '@[A-Z][A-Z_]*@' "$template" | tr -d @ | sort -u); do
    value=$(printenv "$name") || fail "$name is not set; see .env.example"
    case $value in
        '') fail "$name is empty; see .env.example" ;;
        *[!A-Za-z0-9._~-]*) fail "$name may hold only letters, digits and . _ ~ -" ;;
    esac
    rules="$rules;s/@$name@/$value/g"
done

(umask 077 && printf '%s\n' "$rules" | sed -f /dev/stdin "$template" >"$output")
exec "$@"
