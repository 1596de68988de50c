# What the gates share. Sourced, from the repository's root.

set -euo pipefail

step() { printf '\n=== %s (%s s)\n' "$1" "$SECONDS"; }

# What this machine cannot do is said where it would have been, and again at the end.
SKIPPED=()
skip() {
    printf '\n!!! SKIPPED: %s\n' "$1" >&2
    SKIPPED+=("$1")
}

done_with() {
    step "$1: done"
    for what in ${SKIPPED[@]+"${SKIPPED[@]}"}; do
        printf '!!! SKIPPED: %s\n' "$what"
    done
}

# rustup would fetch a toolchain that is not there; asking for the list fetches nothing.
has_nightly() { rustup toolchain list 2>/dev/null | grep -q '^nightly'; }
has_component() { rustup component list --toolchain nightly 2>/dev/null | grep -q "^$1.*(installed)"; }

# A component of the nightly toolchain, fetched if it can be.
need_component() {
    has_component "$1" || rustup component add --toolchain nightly "$1" >/dev/null 2>&1 || true
    has_component "$1"
}
