"""The public package's starter and its three framework templates, unmodified, against a real edge.

MACHINEID_TEST_TEMPLATES names a folder with clones of them, by the names of their repositories under github.com/machineid-io: they come from no package
index, so CI has none, and nothing of them is kept here. Stand-ins take the frameworks' places: what is tried is whether a script gets as far as a model.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path
from typing import Tuple

from machineid_client import MachineID
from tests.world import RealServer, Tiers, eventually

HERE = Path(__file__).resolve().parent
FOLDER = os.environ.get("MACHINEID_TEST_TEMPLATES", "")
# Each script, and what it prints once it works.
SCRIPTS = {
    "machineid-python-starter/agent.py": "Start/continue work here",
    "crewai-machineid-template/crewai_agent.py": "MODEL CALL",
    "langchain-machineid-template/langchain_agent.py": "MODEL CALL",
    "swarm-machineid-template/swarm_agent.py": "MODEL CALL",
}


def play(script: str, edge: str, key: str) -> Tuple[str, str]:
    env = {name: value for name, value in os.environ.items() if not name.startswith("MACHINEID_")}
    env.update(
        MACHINEID_ORG_KEY=key, MACHINEID_DEVICE_ID="agent-01", MACHINEID_TEST_EDGE=edge, OPENAI_API_KEY="sk-none", PYTHONPATH=str(HERE / "redirect"),
        PYTHONIOENCODING="utf-8", MACHINEID_TEST_STAND_INS="crewai langchain_openai langchain_core swarm",
    )
    ran = subprocess.run([sys.executable, "-B", os.path.join(FOLDER, script)], env=env, capture_output=True, text=True, encoding="utf-8", timeout=120)
    return ran.stdout, ran.stderr


@unittest.skipUnless(FOLDER, "MACHINEID_TEST_TEMPLATES names no folder with clones of the starter and the templates")
class TemplatesTest(RealServer):
    def plays(self, edge: str, key: str, works: bool) -> None:
        for script, sign in SCRIPTS.items():
            with self.subTest(script):
                said, complaint = play(script, edge, key)
                self.assertEqual(sign in said, works, said + complaint)
                if not works:  # else a stand-in's answer is no text, over which what follows may stumble
                    self.assertNotIn("MODEL CALL", said)
                    self.assertNotIn("Traceback", complaint)

    def test_allow(self) -> None:
        for key in (self.org["orgApiKey"], self.org["agentKey"]):
            self.plays(self.dev.edge, key, True)

    def test_revoked(self) -> None:
        self.admin.register("agent-01")
        self.admin.revoke("agent-01")
        self.plays(self.dev.edge, self.org["agentKey"], False)

    def test_the_plans_limit(self) -> None:
        for version in (2, 1):
            self.admin.org_settings(version)
            for i in range(3):
                self.admin.register(f"other-{i}")
            self.plays(self.dev.edge, self.org["agentKey"], False)

    def test_the_org_is_off(self) -> None:
        self.admin.register("agent-01")
        self.admin.org_execution(False)
        self.plays(self.dev.edge, self.org["agentKey"], False)

    def test_the_authority_is_lost(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            tiers = Tiers(os.path.join(folder, "a1"))
            try:
                org = MachineID.org_create(tiers.edge)
                with MachineID(org["agentKey"], tiers.edge) as agent:
                    agent.register("agent-01")
                    tiers.authority.kill()
                    eventually("the lease has run out", lambda: agent.validate("agent-01")["code"] == "SYSTEM_UNAVAILABLE")
                self.plays(tiers.edge, org["agentKey"], False)
            finally:
                tiers.kill()

    def test_revoked_in_generation_1(self) -> None:
        """The org's own choice: there an admin key's register restores, so the agent must not carry one."""
        self.admin.org_settings(1)
        self.admin.register("agent-01")
        self.admin.revoke("agent-01")
        self.plays(self.dev.edge, self.org["agentKey"], False)
        self.assertEqual(self.agent.validate("agent-01")["code"], "DEVICE_REVOKED")
        self.assertEqual(self.admin.register("agent-01")["status"], "restored")
