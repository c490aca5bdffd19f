"""What an adapter says where its framework is not installed, or is another version than it knows."""

from __future__ import annotations

import importlib
import sys
import types
import unittest
from pathlib import Path
from unittest import mock

import machineid_client
from machineid_client.integrations._extra import extra

HERE = Path(machineid_client.__file__).resolve().parent / "integrations"
ADAPTERS = sorted(p.stem for p in HERE.glob("[a-z]*.py"))
FRAMEWORKS = ["agents", "autogen_agentchat", "autogen_core", "crewai", "google", "google.adk", "langchain_core", "mcp", "openai", "pydantic_ai"]


class ExtraTest(unittest.TestCase):
    def test_each_adapter_says_which_extra_it_needs(self) -> None:
        self.assertEqual(len(ADAPTERS), 7)
        missing = mock.patch.dict(sys.modules, {name: None for name in FRAMEWORKS})  # as if they were not installed
        for adapter in ADAPTERS:
            module = f"machineid_client.integrations.{adapter}"
            with self.subTest(adapter), missing:
                sys.modules.pop(module, None)
                with self.assertRaises(ModuleNotFoundError) as caught:
                    importlib.import_module(module)
                self.assertIn(f"pip install 'machineid-client[{adapter.replace('_', '-')}]'", str(caught.exception))
                self.assertIn(str(caught.exception.name).partition(".")[0], FRAMEWORKS)

    def test_another_version_of_the_framework(self) -> None:
        older = types.ModuleType("framework")
        with mock.patch.dict(sys.modules, {"framework": older}):
            with self.assertRaisesRegex(ImportError, "cannot import name 'Hook'.*machineid-client.framework.") as caught:
                with extra("framework"):
                    from framework import Hook  # type: ignore[import-not-found]  # noqa: F401
        self.assertNotIsInstance(caught.exception, ModuleNotFoundError)

    def test_other_errors_stay_what_they_are(self) -> None:
        with self.assertRaises(ValueError):
            with extra("framework"):
                raise ValueError("the framework's own")


if __name__ == "__main__":
    unittest.main()
