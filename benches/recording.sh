#!/usr/bin/env bash
# What recording costs: the same source with and without `--cfg leakfree_norecord`, on the same workloads in the same run, by time and by
# counted instructions; beside it what instruments cost on tokio. Options are those of the bench: --reps N, --only WORKLOAD, --quick, ...
set -euo pipefail
cd "$(dirname "$0")/.."

# The other peers would only make the two builds longer.
features=(-p leakfree-benches --no-default-features --features leakfree,instruments)
norecord=target/norecord
say() { printf '\n## %s\n\n' "$1"; }

# The path of the bench, as cargo prints it.
built() { sed -n 's/.*Executable benches\/main.rs (\(.*\))$/\1/p; s/.*Executable benches\/peers\/main.rs (\(.*\))$/\1/p'; }

echo "building without the recorder" >&2
plain=$(RUSTFLAGS="--cfg leakfree_norecord" CARGO_TARGET_DIR=$norecord \
    cargo bench "${features[@]}" --bench peers --no-run 2>&1 | tee /dev/stderr | built)
echo "building with the recorder" >&2
recording=$(cargo bench "${features[@]}" --bench peers --no-run 2>&1 | tee /dev/stderr | built)

say "By time"
"$recording" --bench --peers leakfree,tokio,tokio-metrics,await-tree --norecord "$PWD/$plain" "$@" || true

say "By instructions"
only=()
while [ $# -gt 0 ]; do
    [ "$1" = --only ] && only+=(--only "$2")
    shift
done
if command -v valgrind >/dev/null; then
    target/release/counts instructions --against $norecord/release/counts "${only[@]}"
    echo
    target/release/counts instructions --peers tokio,tokio-metrics,await-tree "${only[@]}"
else
    echo "NOT COUNTED: there is no valgrind on this machine." | tee /dev/stderr
fi
