"""CrewAI."""

from __future__ import annotations

from typing import Any

from crewai.hooks.dispatch import HookAborted, InterceptionPoint, register

from .._errors import Denied
from ._run import OffSwitch as _OffSwitch, current


class CrewDenied(Denied, HookAborted):
    """Denied, and what CrewAI lets through to the caller without trying again."""


class OffSwitch(_OffSwitch):
    raises = CrewDenied


def _ask(context: Any) -> None:
    run = current()
    if run is not None:
        run.check()

register(InterceptionPoint.PRE_MODEL_CALL, _ask)
register(InterceptionPoint.PRE_TOOL_CALL, _ask)
