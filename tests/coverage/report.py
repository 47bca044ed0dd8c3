# SPDX-License-Identifier: GPL-2.0
"""Which lines of src/ were executed, and whether README.md explains the others.

usage: tests/coverage/report.py DIR

DIR has host.lcov and kernel.lcov. See tests/coverage/run.
"""

import re
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
CHECKOUT = HERE.parent.parent
LEAST = 90


def executed(lcov):
    """{file in src/: {line: how often}}."""
    files, lines = {}, {}
    for record in lcov.read_text().splitlines():
        kind, _, value = record.partition(":")
        if kind == "SF":
            of_src = re.search(r"^/odp/src/(.*)|/source/lib/odp/(?!tests/|profile)(.*)", value)
            lines = files.setdefault("src/" + (of_src[1] or of_src[2]), {}) if of_src else {}
        elif kind == "DA":
            line, count = map(int, value.split(",")[:2])
            lines[line] = lines.get(line, 0) + count
    return files


def pure():
    """The files of src/ that tests/model compiles."""
    found = set()
    for source in (CHECKOUT / "tests/model/src").rglob("*.rs"):
        for path in re.findall(r'^#\[path = "(.*/src/.*)"\]', source.read_text(), re.MULTILINE):
            found.add(str((source.parent / path).resolve().relative_to(CHECKOUT)))
    return found


def functions(name, text):
    """[(first line, last line, name)], an inner one behind the one that it is in."""
    if name.endswith(".rs"):
        head = r'(\s*)(?:pub(?:\(.*?\))? )?(?:const )?(?:unsafe )?(?:extern "C" )?fn (\w+)'
    else:
        head = r"()(?!return)\w[^=;]*?(\w+)\([^;]*$"
    found = []
    for first, line in enumerate(text, 1):
        match = re.match(head, line)
        if match:
            signature = next(end for end in text[first - 1 :] if end.endswith(("{", "}", ";")))
            if signature.endswith(";"):
                # What is declared has no lines of its own.
                continue
            last = first
            while not line.endswith("}") and text[last - 1] != match[1] + "}":
                last += 1
            found.append((first, last, match[2]))
    return found


def says_something(line):
    return re.search(r"\w", line) and not line.lstrip().startswith(("//", "/*", "* "))


def runs(name, lines):
    """(key, [(line, text)]) for lines of one function that follow each other and were not executed.
    The key is "fn NAME" if that is all of it, or else "fn NAME: TEXT" with what they begin with.
    """
    text = (CHECKOUT / name).read_text().splitlines()
    within = {}
    for function in functions(name, text):
        for line in range(function[0], function[1] + 1):
            within[line] = function
    some = {within.get(line) for line, count in lines.items() if count}
    found, before = [], None
    for line, count in sorted(lines.items()):
        function = within.get(line)
        if count:
            before = None
            continue
        if before is None or function != before:
            found.append([function, []])
            before = function
        found[-1][1].append(line)
    for function, run in found:
        telling = [n for n in run if says_something(text[n - 1])]
        telling += [n for n in range(run[0], 0, -1) if says_something(text[n - 1])]
        key = text[telling[0] - 1].strip()
        if function:
            key = f"fn {function[2]}" + (f": {key}" if function in some else "")
        yield key, [(n, text[n - 1].strip()) for n in run]


def explanations():
    """{(file, key): (heading, whether it cannot run)}."""
    found, heading, chapter, file = {}, None, None, None
    for line in (HERE / "README.md").read_text().splitlines():
        if line.startswith("## "):
            chapter = line[3:]
        elif line.startswith("### "):
            heading = line[4:]
        elif match := re.match(r"- `(src/.*?)`:$", line):
            file = match[1]
        elif match := re.match(r"  - `(.*)`$", line):
            found[file, match[1]] = (heading, chapter == "What cannot run")
    return found


def main():
    directory = Path(sys.argv[1])
    host, kernel = executed(directory / "host.lcov"), executed(directory / "kernel.lcov")
    explained, of_host = explanations(), pure()
    used, uncovered, rows, failures = set(), {}, [], []
    for name in sorted(host.keys() | kernel.keys()):
        lines = dict(kernel.get(name, {}))
        for line, count in host.get(name, {}).items():
            lines[line] = lines.get(line, 0) + count
        # What the model compiles its own tests have to execute.
        for key, run in list(runs(name, host[name] if name in of_host else lines)):
            heading, cannot_run = explained.get((name, key), ("Not explained", False))
            used.add((name, key))
            uncovered.setdefault(heading, []).extend((name, *line) for line in run)
            if cannot_run:
                for line, _ in run:
                    del lines[line]
            elif name in of_host:
                failures.append(f"{name}: the tests of the host do not execute `{key}`")
            elif (name, key) not in explained:
                failures.append(f"{name}: `{key}` was not executed, and README.md does not say why")
        if lines:
            rows.append((name, len(lines), sum(count > 0 for count in lines.values())))

    for heading, lines in uncovered.items():
        print(f"\n{heading}:")
        for name, line, text in lines:
            print(f"  {name}:{line}: {text}")
    sums = (sum(row[column] for row in rows) for column in (1, 2))
    rows.append(("all lines that can run", *sums))
    print(f"\n{'file':40}{'lines':>7}{'executed':>10}{'%':>8}")
    for name, there, done in rows:
        print(f"{name:40}{there:7}{done:10}{100 * done / there:8.1f}")
    if 100 * done < LEAST * there:
        failures.append(f"less than {LEAST} % of src/ was executed")

    print()
    for name, key in sorted(explained.keys() - used):
        print(f"{name}: README.md explains `{key}`, which was executed, or is not there any more")
    print("\n".join(failures) or "every line was executed, or README.md says why not")
    return 1 if failures else 0


sys.exit(main())
