#!/usr/bin/env python3
"""Mutation test of the models: applies every mutant of table.py, and shows which model kills it.

    loom-tests/mutants/run.py [number ...]

All mutants are compiled into one build, in a worktree of HEAD under target/, each behind a switch that the environment sets;
then each one's killer is run with it, at three preemptions, for three minutes at the most. Exits with 1 if one survives."""

import os, pathlib, re, subprocess, sys, time

ROOT = pathlib.Path(__file__).resolve().parents[2]
TREE = ROOT / "target" / "mutants"
sys.path.insert(0, str(ROOT / "loom-tests" / "mutants"))
from table import MUTANTS

SWITCH = """
/// Whether the mutant of that number is to be: see `loom-tests/mutants`.
#[cfg(loom)]
pub(crate) fn mutant(number: usize) -> bool {
    static NUMBER: std::sync::LazyLock<usize> =
        std::sync::LazyLock::new(|| std::env::var("LEAKFREE_MUTANT").map_or(0, |number| number.parse().unwrap()));
    *NUMBER == number
}
"""


def mutate(number, file, text, part, mutant):
    path = TREE / "runtime" / "src" / file
    source = path.read_text()
    # An earlier mutant may have changed what is around this one's part.
    assert source.count(text) == 1, f"{number}: {source.count(text)} times in {file}: {text!r}"
    assert text.count(part) == 1, f"{number}: {part!r} in {text!r}"
    # The file may not import it.
    mutant = re.sub(r"\bRelaxed\b", "std::sync::atomic::Ordering::Relaxed", mutant)
    switch = f"if crate::loom::mutant({number}) {{ {mutant} }} else {{ {part} }}"
    if not part.endswith(";"):
        switch = f"({switch})"
    path.write_text(source.replace(text, text.replace(part, switch)))


def main():
    begin = time.time()
    if TREE.exists():
        subprocess.run(["git", "worktree", "remove", "--force", TREE], cwd=ROOT, check=True)
    subprocess.run(["git", "worktree", "prune"], cwd=ROOT, check=True)
    subprocess.run(["git", "worktree", "add", "--detach", TREE, "HEAD"], cwd=ROOT, check=True, capture_output=True)
    for number, (file, text, part, mutant, _) in enumerate(MUTANTS, 1):
        mutate(number, file, text, part, mutant)
    shim = TREE / "runtime" / "src" / "loom.rs"
    shim.write_text(shim.read_text() + SWITCH)
    env = dict(os.environ, RUSTFLAGS="--cfg loom -A warnings", CARGO_TARGET_DIR=str(ROOT / "target" / "loom"),
               LOOM_MAX_PREEMPTIONS="3", RUST_BACKTRACE="0")
    build = subprocess.run(["cargo", "test", "--profile", "loom", "-p", "leakfree-loom-tests", "--no-run"],
                           cwd=TREE, env=env, capture_output=True, text=True)
    if build.returncode != 0:
        sys.exit(build.stderr)
    binaries = dict(re.findall(r"tests/(\w+)\.rs \((\S+)\)", build.stderr))
    print(f"built in {time.time() - begin:.0f} s", flush=True)

    chosen = [int(number) for number in sys.argv[1:]] or range(1, len(MUTANTS) + 1)
    survived, unharmed = [], {}
    for number in chosen:
        file, _, part, mutant, killer = MUTANTS[number - 1]
        test_file, name = killer.split("::")
        test = [str(TREE / binaries[test_file]), "--exact", name]
        start = time.time()

        def run(number):
            try:
                with_mutant = dict(env, LEAKFREE_MUTANT=str(number))
                ran = subprocess.run(test, env=with_mutant, timeout=180, capture_output=True, text=True)
                assert "running 1 test" in ran.stdout, f"no model {killer}"
                return "passed" if ran.returncode == 0 else "failed"
            except subprocess.TimeoutExpired:
                return "took too long"

        # Without the mutant it must pass, or it shows nothing.
        if killer not in unharmed:
            unharmed[killer] = run(0)
        outcome = run(number)
        killed = outcome == "failed" and unharmed[killer] == "passed"
        if not killed:
            survived.append(number)
        verdict = "killed" if killed else f"SURVIVED ({outcome}; without it: {unharmed[killer]})"
        change = f"{' '.join(part.split())} -> {' '.join(mutant.split()) or 'nothing'}"
        print(f"{number:3} {verdict} by {killer} in {time.time() - start:.1f} s: {file}: {change}", flush=True)
    killed = len(chosen) - len(survived)
    print(f"{killed} of {len(chosen)} killed in {time.time() - begin:.0f} s; survived: {survived}")
    sys.exit(1 if survived else 0)


main()
