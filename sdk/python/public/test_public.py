"""Coming from machineid-io 0.1.6: both in one environment, and what its README types, with each of them, against a real edge.

Run by checks/checks.py in an environment with both. The README is the one in the installed package's metadata: nothing of it is kept here.
"""

from __future__ import annotations

import importlib.metadata
import os
import re
import subprocess
import sys
import tempfile
import textwrap
import unittest
import venv
from pathlib import Path
from typing import Dict, List, Set, Tuple

from machineid_client import MachineID
from tests.world import RealServer, Tiers, eventually

HERE = Path(__file__).resolve().parent
THEIRS, OURS = "machineid-io", "machineid-client"
UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


def snippets() -> List[str]:
    """The README's blocks of Python."""
    text = importlib.metadata.metadata(THEIRS).get_payload()
    blocks = re.findall(r"(?:^    .*\n|^\n)+", text, re.MULTILINE)
    return [textwrap.dedent(block).strip() + "\n" for block in blocks if re.search(r"^    (from|import) machineid\b", block, re.MULTILINE)]


def ours(snippet: str) -> str:
    """The same with nothing but its import line changed."""
    changed = re.sub(r"^from machineid import", "from machineid_client import", snippet, flags=re.MULTILINE)
    return re.sub(r"^import machineid$", "import machineid_client as machineid", changed, flags=re.MULTILINE)


def play(program: str, edge: str, key: str) -> Tuple[int, str, str]:
    """Runs it as the README says; returns its exit code, what it printed but for request ids, and the last line of what it complained of."""
    env = {name: value for name, value in os.environ.items() if not name.startswith("MACHINEID_")}
    env.update(MACHINEID_ORG_KEY=key, MACHINEID_BASE_URL=edge, MACHINEID_TEST_EDGE=edge, PYTHONPATH=str(HERE / "redirect"))
    ran = subprocess.run([sys.executable, "-B", "-c", program], env=env, cwd=HERE / "redirect", capture_output=True, text=True, timeout=120)
    return ran.returncode, UUID.sub("ID", ran.stdout), (ran.stderr.splitlines() or [""])[-1]


def files(distribution: str) -> Set[str]:
    return {str(f) for f in importlib.metadata.files(distribution) or [] if ".dist-info" not in str(f) and "__pycache__" not in str(f)}


class SnippetsTest(RealServer):
    def setUp(self) -> None:
        super().setUp()
        self.gate = next(s for s in snippets() if ".validate(" in s)

    def same(self, edge: str, key: str, code: int, said: str) -> None:
        """Both do this."""
        for name, program in ((THEIRS, self.gate), (OURS, ours(self.gate))):
            with self.subTest(name):
                self.assertEqual(play(program, edge, key), (code, said, ""))

    def test_the_readme_is_found(self) -> None:
        self.assertEqual(importlib.metadata.version(THEIRS), "0.1.6")
        found = snippets()
        self.assertEqual(len(found), 3, found)
        for snippet in found:
            changed = [new for old, new in zip(snippet.splitlines(), ours(snippet).splitlines()) if old != new]
            self.assertEqual(len(changed), 1, "one import line is all that changes")

    def test_allow(self) -> None:
        for key in (self.org["orgApiKey"], self.org["agentKey"]):
            self.same(self.dev.edge, key, 0, "Execution allowed\n")

    def test_revoked(self) -> None:
        self.admin.register("agent-01")
        self.admin.revoke("agent-01")
        self.same(self.dev.edge, self.org["agentKey"], 1, "Execution denied: DEVICE_REVOKED ID\n")

    def test_the_plans_limit(self) -> None:
        for i in range(3):
            self.admin.register(f"other-{i}")
        self.same(self.dev.edge, self.org["agentKey"], 1, "Execution denied: DEVICE_NOT_FOUND ID\n")

    def test_the_plans_limit_in_generation_1(self) -> None:
        self.admin.org_settings(1)
        self.test_the_plans_limit()

    def test_the_org_is_off(self) -> None:
        self.admin.org_execution(False)
        self.same(self.dev.edge, self.org["agentKey"], 1, "Execution denied: ORG_DISABLED ID\n")

    def test_keys_that_are_none(self) -> None:
        self.same(self.dev.edge, "org_your_key_here", 1, "Execution denied: INVALID_ORG_KEY ID\n")
        made = self.admin.org_keys_create("old", "agent")
        self.admin.org_keys_revoke(made["keyId"])
        self.same(self.dev.edge, made["orgApiKey"], 1, "Execution denied: ORG_NOT_FOUND ID\n")
        reader = self.admin.org_keys_create("reader", "validate")  # may not register, and the gate still decides
        self.same(self.dev.edge, reader["orgApiKey"], 1, "Execution denied: DEVICE_NOT_FOUND ID\n")

    def test_nobody_is_there(self) -> None:
        for name, program, last in ((THEIRS, self.gate, "ConnectionError"), (OURS, ours(self.gate), "Unavailable: connection_failed")):
            with self.subTest(name):
                code, said, complaint = play(program, "http://127.0.0.1:1", self.org["agentKey"])
                self.assertEqual((code, said), (1, ""))
                self.assertIn(last, complaint)

    def test_the_authority_is_lost(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            tiers = Tiers(os.path.join(folder, "a1"))
            try:
                org = MachineID.org_create(tiers.edge)
                with MachineID(org["agentKey"], tiers.edge) as agent:
                    agent.register("agent-01")
                    self.same(tiers.edge, org["agentKey"], 0, "Execution allowed\n")
                    tiers.authority.kill()
                    eventually("the lease has run out", lambda: agent.validate("agent-01")["code"] == "SYSTEM_UNAVAILABLE")
                self.same(tiers.edge, org["agentKey"], 1, "Execution denied: SYSTEM_UNAVAILABLE ID\n")
            finally:
                tiers.kill()

    def test_the_other_snippets(self) -> None:
        for snippet in snippets():
            if snippet != self.gate:
                code, said, complaint = play(ours(snippet), self.dev.edge, self.org["agentKey"])
                self.assertEqual((code, complaint), (0, ""), snippet)
        version = next(s for s in snippets() if "__version__" in s)
        self.assertEqual(play(ours(version), self.dev.edge, "org_x")[1].strip(), importlib.metadata.version(OURS))
        self.assertIn("AttributeError", play(version, self.dev.edge, "org_x")[2], "0.1.6 has no __version__, whatever its README says")


class TogetherTest(unittest.TestCase):
    def test_they_share_no_file(self) -> None:
        self.assertGreater(len(files(THEIRS)), 1)
        self.assertGreater(len(files(OURS)), 10)
        self.assertEqual({f.partition("/")[0] for f in files(OURS)} & {f.partition("/")[0] for f in files(THEIRS)}, set())

    def test_whichever_comes_first_and_whichever_goes(self) -> None:
        wheel, wheels = os.environ["MACHINEID_TEST_WHEEL"], os.environ["MACHINEID_TEST_WHEELS"]
        packages: Dict[str, str] = {OURS: wheel, THEIRS: THEIRS}
        modules = {OURS: "machineid_client", THEIRS: "machineid"}
        with tempfile.TemporaryDirectory() as folder:
            venv.create(folder, with_pip=True)
            python = os.path.join(folder, "bin", "python")

            def pip(*args: str) -> None:
                subprocess.run([python, "-m", "pip", "--disable-pip-version-check", "--quiet", *args], check=True, timeout=300)

            def works(name: str) -> bool:
                return subprocess.run([python, "-I", "-c", f"from {modules[name]} import MachineID; MachineID('org_x')"], capture_output=True, timeout=60).returncode == 0

            pip("install", "--no-index", "--find-links", wheels, "requests")
            for first, second in ((OURS, THEIRS), (THEIRS, OURS)):
                for gone, stays in ((first, second), (second, first)):
                    with self.subTest(first=first, gone=gone):
                        pip("install", "--no-index", "--find-links", wheels, packages[first])
                        pip("install", "--no-index", "--find-links", wheels, packages[second])
                        self.assertTrue(works(OURS) and works(THEIRS))
                        pip("uninstall", "--yes", gone)
                        self.assertEqual((works(gone), works(stays)), (False, True))
                        pip("uninstall", "--yes", stays)

    def test_one_who_imports_theirs_is_told(self) -> None:
        """Its from_env would send the key elsewhere."""
        for program in ("import machineid, machineid_client", "import machineid_client, machineid; machineid_client.MachineID('org_x')"):
            for base_url, told in (("http://127.0.0.1:1", True), (None, False)):
                env = {name: value for name, value in os.environ.items() if not name.startswith("MACHINEID_")}
                if base_url is not None:
                    env["MACHINEID_BASE_URL"] = base_url
                ran = subprocess.run([sys.executable, "-B", "-I", "-c", program], env=env, capture_output=True, text=True, timeout=60)
                self.assertEqual((ran.returncode, "MACHINEID_BASE_URL" in ran.stderr), (0, told), ran.stderr)
