#!/usr/bin/env python3
"""What became of the mutants: ci/mutants.py DIRECTORY FLOOR. Exits with 1 if fewer percent of them were caught."""

import collections, pathlib, re, sys

directory, floor = pathlib.Path(sys.argv[1]), float(sys.argv[2])
ENDS = ["caught", "timeout", "missed", "unviable"]
counts = collections.defaultdict(collections.Counter)
for end in ENDS:
    for line in (directory / f"{end}.txt").read_text().splitlines():
        counts[re.match(r"runtime/src/([^:]+)", line)[1]][end] += 1


def row(name, count):
    viable = count["caught"] + count["timeout"] + count["missed"]
    percent = 100 * (viable - count["missed"]) / viable if viable else 100.0
    print(f"{percent:6.1f} %  " + "  ".join(f"{end} {count[end]:3}" for end in ENDS) + f"  {name}")
    return percent


for name in sorted(counts):
    row(name, counts[name])
percent = row("all", sum(counts.values(), collections.Counter()))
print((directory / "missed.txt").read_text(), end="")
sys.exit(percent < floor)
