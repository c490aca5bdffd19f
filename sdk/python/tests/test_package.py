"""The package itself: what it may be made of."""

from __future__ import annotations

import ast
import subprocess
import sys
import unittest
from pathlib import Path

import machineid_client

HERE = Path(__file__).resolve().parents[1]
LIBRARY = sorted(HERE.glob("machineid_client/**/*.py"))
SOURCES = LIBRARY + sorted(HERE.glob("tests/**/*.py")) + sorted(HERE.glob("examples/*.py"))

# What the library may import: all of it is in Python 3.9 on every system.
STANDARD = {
    "__future__", "asyncio", "concurrent", "contextlib", "contextvars", "copy", "errno", "functools", "http", "inspect", "io", "json", "logging", "math", "os", "random", "re", "select",
    "selectors", "socket", "ssl", "sys", "threading", "time", "types", "typing", "urllib", "uuid", "warnings", "weakref", "machineid_client",
}

# An adapter imports its framework besides, and nobody imports an adapter but its user.
FRAMEWORKS = {
    "autogen": {"autogen_agentchat", "autogen_core", "openai"}, "crewai": {"crewai", "openai"}, "google_adk": {"google"}, "langchain": {"langchain_core"},
    "mcp": {"mcp"}, "openai_agents": {"agents"}, "pydantic_ai": {"pydantic_ai", "pydantic_graph"},
}


class PackageTest(unittest.TestCase):
    def test_python_3_9_reads_it(self) -> None:
        self.assertGreater(len(SOURCES), 15)
        for path in SOURCES:
            text = path.read_text("utf-8")
            ast.parse(text, str(path), feature_version=(3, 9))

    def test_the_check_for_3_9_can_fail(self) -> None:
        with self.assertRaises(SyntaxError):
            ast.parse("match x:\n  case 1: pass\n", feature_version=(3, 9))

    def test_only_the_standard_library(self) -> None:
        for path in LIBRARY:
            allowed = STANDARD | FRAMEWORKS.get(path.stem if path.parent.name == "integrations" else "", set())
            for node in ast.walk(ast.parse(path.read_text("utf-8"))):
                names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
                if isinstance(node, ast.ImportFrom) and node.level == 0:
                    names = [node.module or ""]
                for name in names:
                    self.assertIn(name.partition(".")[0], allowed, path)

    def test_it_prints_nothing(self) -> None:
        for path in LIBRARY:
            for node in ast.walk(ast.parse(path.read_text("utf-8"))):
                if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                    self.assertNotEqual(node.func.id, "print", path)

    def test_it_is_the_only_module(self) -> None:
        self.assertRegex(machineid_client.__version__, r"^\d+\.\d+\.\d+$")
        self.assertTrue((HERE / "machineid_client" / "py.typed").is_file())
        self.assertEqual(sorted(p.parent.name for p in HERE.glob("*/__init__.py")), ["machineid_client", "tests"], "machineid/ belongs to others' distributions")

    def test_everything_public_says_what_it_is(self) -> None:
        for name in machineid_client.__all__:
            value = getattr(machineid_client, name)
            if isinstance(value, type):
                self.assertTrue(value.__doc__, name)

    def test_it_imports_alone(self) -> None:
        subprocess.run([sys.executable, "-I", "-S", "-c", f"import sys; sys.path.insert(0, {str(HERE)!r}); import machineid_client"], check=True, timeout=60)
