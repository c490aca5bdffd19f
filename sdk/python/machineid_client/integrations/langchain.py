"""LangChain and LangGraph.

    switch = OffSwitch(client, "agent-01")
    agent.invoke(..., config={"callbacks": [switch]})       # and ainvoke, stream, batch, ...; raises Denied

    with switch.run():                                      # or async with: whatever runs inside asks, callbacks or not
        agent.invoke(...)
"""

from __future__ import annotations

import threading
from typing import Any, Dict, Optional
from uuid import UUID

from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.tracers.context import register_configure_hook

from . import _run
from ._ask import ask_before_requests
from ._run import Client, Run, current

__all__ = ["OffSwitch"]

MOST = 100_000  # runs and their parts that are remembered at once; beyond that the oldest are taken for ended


class _Handler(BaseCallbackHandler):
    """Asks before each chain, node, model call, tool and retriever; ends what ends after a denial in Denied."""

    raise_error = True  # without it LangChain logs what a handler raises, and goes on
    run_inline = False  # from coroutines it is called in a thread, and awaited: a silent edge must not stop the event loop

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._parts: Dict[UUID, Run] = {}  # by LangChain's run ids

    def _new(self) -> Run:
        raise NotImplementedError

    def _begin(self, *_: Any, run_id: UUID, parent_run_id: Optional[UUID] = None, **__: Any) -> None:
        with self._lock:
            run = self._parts.get(parent_run_id) if parent_run_id is not None else None
            if run is None:
                run = self._new()
            self._parts[run_id] = run
            while len(self._parts) > MOST:
                del self._parts[next(iter(self._parts))]
        try:
            run.check()
        except BaseException:
            self._failed(run_id=run_id)
            raise

    def _end(self, *_: Any, run_id: UUID, **__: Any) -> None:
        run = self._failed(run_id=run_id)
        if run is not None:
            run.look()  # some middleware makes words of an error, and goes on with them

    def _failed(self, *_: Any, run_id: UUID, **__: Any) -> Optional[Run]:
        with self._lock:
            return self._parts.pop(run_id, None)

    on_chain_start = on_llm_start = on_chat_model_start = on_tool_start = on_retriever_start = _begin
    on_chain_end = on_llm_end = on_tool_end = on_retriever_end = _end
    on_chain_error = on_llm_error = on_tool_error = on_retriever_error = _failed

    def on_retry(self, retry_state: Any, *, run_id: UUID, **_: Any) -> None:
        with self._lock:
            run = self._parts.get(run_id)
        if run is not None:
            run.check()


class OffSwitch(_run.OffSwitch, _Handler):
    """Give it to a call as one of its callbacks, or make a block of its run. It serves any number of runs, also at once.

    Given as a callback, each outermost call is a run of its own. every counts in blocks only: a callback cannot interrupt.
    """

    def __init__(self, client: Client, device_id: str, *, every: Optional[float] = None) -> None:
        _run.OffSwitch.__init__(self, client, device_id, every=every)
        _Handler.__init__(self)

    def _new(self) -> Run:
        self.prepare()
        here = current()
        return here if here is not None and here.switch is self else Run(self, here)

    def prepare(self) -> None:
        ask_before_requests()


class _OfAnotherFramework(_Handler):
    """LangChain inside a run of another framework's adapter."""

    def __init__(self, run: Run) -> None:
        super().__init__()
        self._run = run

    def _new(self) -> Run:
        return self._run


class _Present:
    """Stands for a context variable: the handler of the run that this code is part of."""

    def get(self) -> Optional[BaseCallbackHandler]:
        run = current()
        if run is None:
            return None
        if isinstance(run.switch, OffSwitch):
            return run.switch
        handler: Optional[BaseCallbackHandler] = run.notes.get(__name__)
        if handler is None:
            handler = run.notes[__name__] = _OfAnotherFramework(run)
        return handler


register_configure_hook(_Present(), inheritable=True)
