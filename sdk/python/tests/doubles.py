"""Minimal doubles of the agent frameworks that the examples hook into: just the names that they import, and a run that calls the hooks where the
framework does. They show that the examples do what they say at these points; they cannot show that a framework still has them."""

from __future__ import annotations

import contextlib
import importlib.util
import sys
import types
from pathlib import Path
from typing import Any, Callable, List, Optional
from unittest import mock

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"


def load(name: str, **modules: Any) -> Any:
    """Imports an example with these modules in the place of its framework."""
    with mock.patch.dict(sys.modules, {key.replace("__", "."): value for key, value in modules.items()}):
        spec = importlib.util.spec_from_file_location("example_" + name, EXAMPLES / f"{name}.py")
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module


def module(name: str, **names: Any) -> types.ModuleType:
    made = types.ModuleType(name)
    vars(made).update(names)
    return made


# LangChain: an error of a handler is swallowed unless the handler says raise_error.


class BaseCallbackHandler:
    raise_error = False
    run_inline = False


def langchain_run(handler: Any, steps: List[str], done: List[str]) -> None:
    for step in steps:
        with contextlib.suppress(Exception) if not handler.raise_error else contextlib.nullcontext():
            getattr(handler, f"on_{step}_start")({}, "input", run_id=1)
        done.append(step)


langchain = {"langchain_core": module("langchain_core"), "langchain_core__callbacks": module("callbacks", BaseCallbackHandler=BaseCallbackHandler)}


# CrewAI: callbacks after each step; a task that raises is tried again.


class Crew:
    def __init__(self, step_callback: Callable[[Any], None], retries: int = 2) -> None:
        self.step_callback, self.retries, self.done = step_callback, retries, 0

    def kickoff(self, inputs: Optional[Any] = None) -> str:
        for attempt in range(self.retries + 1):
            try:
                for _ in range(4):
                    self.done += 1
                    self.step_callback("step")
                return "result"
            except Exception:
                if attempt == self.retries:
                    raise
        return ""


# OpenAI Agents SDK.


class RunHooks:
    async def on_agent_end(self, *args: Any) -> None: ...


class GuardrailFunctionOutput:
    def __init__(self, output_info: Any, tripwire_triggered: bool) -> None:
        self.output_info, self.tripwire_triggered = output_info, tripwire_triggered


async def agents_run(hooks: Any, steps: List[str], done: List[str]) -> None:
    for step in steps:
        await getattr(hooks, "on_" + step)(object(), object(), object())
        done.append(step)
    await hooks.on_agent_end(object(), object(), object())


agents = {"agents": module("agents", RunHooks=RunHooks, GuardrailFunctionOutput=GuardrailFunctionOutput)}


# AutoGen AgentChat: the team asks its condition after each turn.


class TerminatedException(BaseException): ...


class TerminationCondition: ...


class StopMessage:
    def __init__(self, content: str, source: str) -> None:
        self.content, self.source = content, source


async def team_run(condition: Any, turns: int, done: List[int]) -> Optional[StopMessage]:
    for turn in range(turns):
        done.append(turn)
        stop: Optional[StopMessage] = await condition(["message"])
        if stop is not None:
            return stop
    return None


autogen = {
    "autogen_agentchat": module("autogen_agentchat"),
    "autogen_agentchat__base": module("base", TerminatedException=TerminatedException, TerminationCondition=TerminationCondition),
    "autogen_agentchat__messages": module("messages", StopMessage=StopMessage),
}
