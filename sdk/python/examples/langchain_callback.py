"""LangChain: a callback handler that stops a chain or an agent before its next model or tool call.

    handler = OffSwitch(MachineID.from_env(), "agent-01")
    agent.invoke({"input": "..."}, config={"callbacks": [handler]})     # raises machineid_client.Denied

Tested in this repository against a minimal double of langchain_core (tests/doubles.py), not against LangChain itself.
"""

from __future__ import annotations

from typing import Any

from langchain_core.callbacks import BaseCallbackHandler

from machineid_client import Denied, MachineID


class OffSwitch(BaseCallbackHandler):
    """Asks before everything that costs or acts. One instance serves any number of runs."""

    raise_error = True  # without it LangChain only logs what a handler raises, and goes on
    run_inline = True  # in the thread of the run, before the call that it stands before

    def __init__(self, client: MachineID, device_id: str) -> None:
        self.client, self.device_id = client, device_id

    def _check(self) -> None:
        decision = self.client.validate(self.device_id)
        if decision["allowed"] is not True:
            raise Denied(self.device_id, decision)

    def on_chain_start(self, *args: Any, **kwargs: Any) -> None:
        self._check()

    def on_llm_start(self, *args: Any, **kwargs: Any) -> None:
        self._check()

    def on_chat_model_start(self, *args: Any, **kwargs: Any) -> None:
        self._check()

    def on_tool_start(self, *args: Any, **kwargs: Any) -> None:
        self._check()

    def on_retriever_start(self, *args: Any, **kwargs: Any) -> None:
        self._check()
