"""Plays the cells of frameworks that are installed beside each other, prints their tables, and holds docs/frameworks.md against them.

    python3 -B -m tests.frameworks.table [--write] [--loose] [--cells WORD] NAME=PYTHON ...

NAME is a framework (on_NAME.py), PYTHON the interpreter of the environment that has it. --write puts the tables into the document instead of comparing.
--loose only wants the cells right: for versions that the document does not speak of. Exits 1 if a cell is not as it should be.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Dict, List, Optional, Tuple

from ..world import REPOSITORY, server_binary

DOCUMENT = REPOSITORY / "docs" / "frameworks.md"
HERE = REPOSITORY / "sdk" / "python"
ENDS = {"revoke": "revoked", "beforehand": "revoked beforehand", "silent edge": "silent edge", "authority lost": "authority lost"}
AT_ONCE = 2  # frameworks are played beside each other: what they do most is wait
LONG = 1500.0  # seconds for a framework: a bound of safety


def play(name: str, python: str, cells: str) -> Tuple[Optional[Dict[str, Any]], str]:
    """Plays one framework's cells; returns what it found, and what it printed besides."""
    with tempfile.TemporaryDirectory() as home:  # frameworks keep things there, and ask about what they find
        env = dict(os.environ, MACHINEID_TEST_SERVER=server_binary(), PYTHONDONTWRITEBYTECODE="1", HOME=home, TMPDIR=home)
        done = subprocess.run(
            [python, "-B", "-m", f"tests.frameworks.on_{name}", cells], cwd=HERE, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            encoding="utf-8", errors="replace", timeout=LONG,
        )
    try:
        return json.loads(done.stdout.strip().rpartition("\n")[2]), done.stderr
    except ValueError:
        return None, done.stderr + done.stdout


def table(found: Dict[str, Any]) -> str:
    """A framework's table, in Markdown."""
    versions = ", ".join(f"{name} {version}" for name, version in found["versions"].items())
    lines = [
        f"Measured with {versions}.", "", "| way of use | " + " | ".join(ENDS.values()) + " | without the adapter |",
        "|---" + "|--:" * (len(ENDS) + 1) + "|",
    ]
    for row in found["rows"]:
        cells = [str(row["after"].get(end, "")) for end in ENDS]
        bare = row.get("bare", "")
        lines.append(f"| {row['cell']} | " + " | ".join(cells) + f" | {'some' if row['varies'] and bare else bare} |")
    return "\n".join(lines)


def part(name: str) -> "re.Pattern[str]":
    return re.compile(rf"(?<=<!-- measured: {name} -->\n)(.*?)(?=\n<!-- end -->)", re.DOTALL)


def main() -> int:
    options = argparse.ArgumentParser()
    options.add_argument("--write", action="store_true")
    options.add_argument("--loose", action="store_true")
    options.add_argument("--cells", default="")
    options.add_argument("frameworks", nargs="+", metavar="NAME=PYTHON")
    given = options.parse_args()
    wanted = [one.split("=", 1) for one in given.frameworks]
    server_binary()
    with ThreadPoolExecutor(AT_ONCE) as pool:
        plays = [(name, pool.submit(play, name, python, given.cells)) for name, python in wanted]
    document = DOCUMENT.read_text("utf-8")
    passed = 0
    faults: List[str] = []
    for name, future in plays:
        found, printed = future.result()
        if found is None:
            faults.append(f"{name}: its program broke off:\n{printed[-4000:]}")
            continue
        made = table(found)
        print(f"{name}\n\n{made}\n", flush=True)
        for row in found["rows"]:
            passed += not row["faults"]
            faults += [f"{name}, {row['cell']}: {fault}" for fault in row["faults"]]
        if given.cells or given.loose:
            continue
        if not part(name).search(document):
            faults.append(f"{name}: docs/frameworks.md has no place for its table: <!-- measured: {name} -->, a line, <!-- end -->")
        elif given.write:
            document = part(name).sub(lambda _: made, document, count=1)
        elif part(name).search(document)[0] != made:  # type: ignore[index]
            faults.append(f"{name}: docs/frameworks.md says something else: run 'make frameworks WRITE=1'")
    if given.write and not faults:
        DOCUMENT.write_text(document, "utf-8")
    for fault in faults:
        print(fault, file=sys.stderr)
    print(f"{passed} passed, {len(faults)} failed", flush=True)
    return 1 if faults or not passed else 0


if __name__ == "__main__":
    sys.exit(main())
