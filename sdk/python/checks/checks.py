"""What must hold of the Python client besides its tests under one interpreter: `make python` runs it.

    python3 checks.py TOOLS SERVER

TOOLS is the virtual environment made of requirements.txt, with pyright in node/ and the wheels of ../public/requirements.txt in public/; SERVER a machineid
binary. Types are checked for every Python from 3.9 to 3.14, by mypy and by pyright. A wheel is built, looked at, and the tests run against what it installs,
outside the tree, under each of these Pythons that is found. One that is not found is named: its types are checked, its tests not run.
"""

from __future__ import annotations

import concurrent.futures
import glob
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import Any, Callable, Dict, List, Mapping, Optional, Tuple

HERE = Path(__file__).resolve().parents[1]
MINORS = range(9, 15)
# What looks at the tree itself, or at a cluster of processes, which TestPythonClient of cmd/machineid does.
ELSEWHERE = {"test_package", "test_examples", "test_cluster"}
PATIENT = 900.0


class Failed(Exception):
    """A check failed; the text is what it said."""


def run(*args: object, cwd: Path = HERE, env: Optional[Mapping[str, str]] = None) -> str:
    """Runs a program to its end and returns what it said. Raises Failed."""
    given = [str(a) for a in args]
    ran = subprocess.run(
        given, cwd=cwd, env={**os.environ, **(env or {})}, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=PATIENT
    )
    if ran.returncode != 0:
        raise Failed(f"{' '.join(given)}: exit {ran.returncode}\n{ran.stdout}")
    return ran.stdout


def interpreter(minor: int) -> Optional[str]:
    """A Python of this version that runs: a name on the PATH may be a shim without one behind it."""
    name = f"python3.{minor}"
    pyenv = os.environ.get("PYENV_ROOT") or os.path.expanduser("~/.pyenv")
    uv = os.path.expanduser("~/.local/share/uv/python")
    kept = [*glob.glob(f"{pyenv}/versions/3.{minor}.*/bin/{name}"), *glob.glob(f"{uv}/cpython-3.{minor}.*/bin/{name}")]
    found = [sys.executable, shutil.which(name), *sorted(kept)]
    for one in found:
        if one is None:
            continue
        try:
            said = run(one, "-I", "-c", "import ensurepip, ssl, sys, venv; print(*sys.version_info[:2])")
        except (Failed, OSError):
            continue
        if said.split() == ["3", str(minor)]:
            return one
    return None


def types(tools: Path, scratch: Path, minor: int) -> str:
    run(tools / "bin/mypy", "--python-version", f"3.{minor}", "--cache-dir", scratch / f"mypy-{minor}")
    run(tools / "bin/node", tools / "node/node_modules/pyright/index.js", "--pythonversion", f"3.{minor}")
    return f"types 3.{minor}: mypy --strict and pyright strict"


def build(tools: Path, scratch: Path) -> Path:
    """Builds the sdist and, from it alone, the wheel; looks at both. Returns the wheel."""
    source = scratch / "source"  # building writes beside what it builds
    shutil.copytree(HERE, source, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info", "build", "dist"))
    run(tools / "bin/python", "-m", "validate_pyproject", source / "pyproject.toml")
    dist = scratch / "dist"
    run(tools / "bin/python", "-m", "build", "--no-isolation", "--outdir", dist, source)
    wheels, sdists = sorted(dist.glob("*.whl")), sorted(dist.glob("*.tar.gz"))
    if len(wheels) != 1 or len(sdists) != 1:
        raise Failed(f"build made {sorted(dist.iterdir())}")
    run(tools / "bin/twine", "check", "--strict", *wheels, *sdists)
    run(tools / "bin/check-wheel-contents", wheels[0])
    tree = {str(p.relative_to(HERE)) for p in (HERE / "machineid_client").rglob("*") if p.suffix == ".py" or p.name == "py.typed"}
    packed = {name for name in zipfile.ZipFile(wheels[0]).namelist() if ".dist-info/" not in name}
    if packed != tree:
        raise Failed(f"the wheel and the tree differ in {sorted(packed ^ tree)}")
    return wheels[0]


def environment(python: str, at: Path, *wheels: Path) -> Path:
    """Makes a virtual environment with these wheels; returns its interpreter."""
    run(python, "-m", "venv", at)
    mine = at / "bin/python"
    run(mine, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-index", "--no-deps", *wheels)
    run(mine, "-m", "pip", "check", "--disable-pip-version-check")
    return mine


def complete(tools: Path, scratch: Path, wheel: Path) -> str:
    """Everything public of what is installed has a type. What is derived from a framework's class has none here."""
    mine = environment(sys.executable, scratch / "typed", wheel)
    for adapter in scratch.glob("typed/lib/python*/site-packages/machineid_client/integrations/[a-z]*.py"):
        adapter.unlink()
    env = {"PATH": f"{mine.parent}{os.pathsep}{os.environ['PATH']}"}
    said = run(tools / "bin/node", tools / "node/node_modules/pyright/index.js", "--verifytypes", "machineid_client", "--ignoreexternal", cwd=scratch, env=env)
    if "Type completeness score: 100%" not in said:
        raise Failed(said)
    return "types: all that is public has one"


def tested(scratch: Path, wheel: Path, server: Path, minor: int, python: str) -> str:
    """Runs the tests against the installed wheel, with no file of the tree's package in reach."""
    tree = scratch / f"tests-{minor}" / "python"
    shutil.copytree(HERE / "tests", tree / "tests", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(HERE.parent / "judged.json", tree.parent)
    mine = environment(python, scratch / f"python-{minor}", wheel)
    where = run(mine, "-c", "import machineid_client; print(machineid_client.__file__)", cwd=tree).strip()
    if not where.startswith(str(scratch)):
        raise Failed(f"the tests would try {where}")
    names = [f"tests.{p.stem}" for p in sorted(tree.glob("tests/test_*.py")) if p.stem not in ELSEWHERE]
    said = run(
        mine, "-B", "-W", "error::ResourceWarning", "-m", "unittest", *names, cwd=tree,
        env={"MACHINEID_TEST_SERVER": str(server), "MACHINEID_TEST_FUZZ": "5000"},
    )
    counted = [line for line in said.splitlines() if line.startswith("Ran ")]
    if not counted or said.splitlines()[-1] != "OK":
        raise Failed(f"3.{minor}: tests were skipped, or none ran:\n{said}")
    return f"tests 3.{minor}: {counted[0]}"


def public(tools: Path, scratch: Path, wheel: Path, server: Path) -> str:
    """Ours beside the public package: see ../public."""
    theirs = sorted((tools / "public").glob("*.whl"))
    mine = environment(sys.executable, scratch / "public", wheel, *theirs)
    names = ["public.test_public"] + (["public.test_templates"] if os.environ.get("MACHINEID_TEST_TEMPLATES") else [])
    said = run(
        mine, "-B", "-m", "unittest", *names,
        env={"MACHINEID_TEST_SERVER": str(server), "MACHINEID_TEST_WHEEL": str(wheel), "MACHINEID_TEST_WHEELS": str(tools / "public")},
    )
    return "machineid-io beside it: " + next(line for line in said.splitlines() if line.startswith("Ran "))


def main() -> int:
    tools, server = Path(sys.argv[1]).absolute(), Path(sys.argv[2]).absolute()
    failed = False
    with tempfile.TemporaryDirectory() as folder, concurrent.futures.ThreadPoolExecutor(4) as pool:
        scratch = Path(folder)
        found: Dict[int, Optional[str]] = {minor: interpreter(minor) for minor in MINORS}
        tasks: List[Tuple[Callable[..., str], Tuple[Any, ...]]] = []
        try:
            wheel = build(tools, scratch)
        except Failed as err:
            print(err)
            return 1
        print(f"build: {wheel.name} and its sdist; validate-pyproject, twine check --strict, check-wheel-contents")
        tasks += [(public, (tools, scratch, wheel, server))]  # the longest first
        tasks += [(tested, (scratch, wheel, server, minor, python)) for minor, python in found.items() if python is not None]
        tasks += [(complete, (tools, scratch, wheel))]
        tasks += [(types, (tools, scratch, minor)) for minor in MINORS]
        for done in concurrent.futures.as_completed([pool.submit(what, *args) for what, args in tasks]):
            try:
                print(done.result(), flush=True)
            except Failed as err:
                failed = True
                print(err, flush=True)
        for minor, python in found.items():
            if python is None:
                print(f"tests 3.{minor}: NOT RUN, no python3.{minor} is here; its types are checked")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
