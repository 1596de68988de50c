#!/usr/bin/env python3
"""Judges a run of the tests: ci/covered.py LCOV JSON FLOOR. Exits with 1 below the floor, or if an `unsafe` block was never entered.

Counted are the lines of runtime/src and runtime-macros/src that hold code, without the tests that stand in them. LCOV says how often each line
ran; JSON, which knows columns, whether an `unsafe` block was entered."""

import json, pathlib, re, sys

ROOT = pathlib.Path(__file__).resolve().parents[1]

# Blocks that no test can enter, with why: (file, a text in the block).
UNENTERED = [
    ("runtime/src/task/cell.rs", "raw::free(ptr)", "a race: the handle goes between completion and its joiner's wake; a loom model has it"),
    ("runtime/src/task/join.rs", "raw::free(self.header)", "the same race, seen from the handle"),
    ("runtime/src/task/header.rs", "Box::from_raw(new)", "a race: two threads make the same task's extra record"),
    ("runtime/src/scope/tree.rs", "ScopeInner::leave(address(&scope))", "a race: the scope ends while it is adopted"),
    ("runtime/src/task/block.rs", "list.push(block)", "a thread frees a task when its own lists are gone: only in a destructor of a thread-local"),
]


def is_test(file, lines):
    """Which lines belong to tests: all of a file of tests, and all from `mod tests {` on, which stands last."""
    if file.name == "tests.rs":
        return 0
    for at, line in enumerate(lines):
        if re.match(r"(pub\S* )?mod (tests|test_util) \{", line) and "cfg(" in lines[at - 1] and "test" in lines[at - 1]:
            return at
    return len(lines)


def spans(numbers):
    """1, 2, 3, 7 as 1-3, 7."""
    found = []
    for number in numbers:
        if found and found[-1][1] == number - 1:
            found[-1][1] = number
        else:
            found.append([number, number])
    return ", ".join(f"{a}-{b}" if a != b else f"{a}" for a, b in found)


def position(text, at):
    """Line and column, both from 1."""
    return text.count("\n", 0, at) + 1, at - text.rfind("\n", 0, at)


def block(text, at):
    """From an opening brace to the one that closes it; strings and comments of such blocks hold none that are not paired."""
    depth = 0
    for end in range(at, len(text)):
        depth += {"{": 1, "}": -1}.get(text[end], 0)
        if depth == 0:
            return text[at:end + 1]
    return text[at:]


def main():
    lcov, regions, floor = sys.argv[1], sys.argv[2], float(sys.argv[3])
    counts, file = {}, None
    for line in open(lcov):
        if line.startswith("SF:"):
            file = counts.setdefault(pathlib.Path(line[3:].strip()), {})
        elif line.startswith("DA:"):
            number, count = line[3:].split(",")[:2]
            file[int(number)] = max(file.get(int(number), 0), int(count))
    segments = {pathlib.Path(file["filename"]): file["segments"]
                for data in json.load(open(regions))["data"] for file in data["files"]}

    ours = [ROOT / "runtime/src", ROOT / "runtime-macros/src"]
    total = covered = blocks = 0
    rows, bare = [], []
    for path in sorted(path for root in ours for path in root.rglob("*.rs")):
        text = path.read_text()
        lines = text.splitlines()
        end = is_test(path, lines)
        name = str(path.relative_to(ROOT))
        known = {number: count for number, count in counts.get(path, {}).items() if number <= end}
        missed = sorted(number for number, count in known.items() if count == 0)
        total += len(known)
        covered += len(known) - len(missed)
        if known:
            rows.append((100 * (1 - len(missed) / len(known)), name, len(known), missed))
        marks = [(at, column, count) for at, column, count, counted, *_ in segments.get(path, []) if counted]
        for found in re.finditer(r"\bunsafe \{", text):
            first, column = position(text, found.end())
            if first > end or "//" in lines[first - 1][:column]:
                continue
            body = block(text, found.end() - 1)
            last = position(text, found.end() + len(body))
            inside = [mark for mark in marks if (first, column) <= mark[:2] < last]
            # Only a place, which is no code by itself: as often as what stands before it. What is for the models has no marks.
            before = [mark for mark in marks if first - 3 <= mark[0] and mark[:2] < (first, column)]
            if not inside and not before:
                continue
            blocks += 1
            if not any(count for *_, count in inside or before[-1:]):
                why = next((why for file, part, why in UNENTERED if name == file and part in body), None)
                bare.append((f"{name}:{first}", why))

    for percent, name, n, missed in sorted(rows):
        print(f"{percent:6.1f} %  {n:5}  {name}" + (f"  not run: {spans(missed)}" if missed else ""))
    percent = 100 * covered / total
    print(f"\nlines: {covered} of {total}, {percent:.2f} %, at least {floor} %")
    print(f"unsafe blocks: {blocks - len(bare)} of {blocks} entered")
    for place, why in bare:
        print(f"  not entered: {place}" + (f"  ({why})" if why else ""))
    sys.exit(percent < floor or any(why is None for _, why in bare))


if __name__ == "__main__":
    main()
