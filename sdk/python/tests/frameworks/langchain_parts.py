"""What the cells of LangChain and LangGraph are made of."""

from __future__ import annotations

import contextlib
from typing import Annotated, Any, AsyncContextManager, Dict, List, TypedDict

from langchain_core.tools import StructuredTool
from langchain_openai import ChatOpenAI
from langgraph.graph import START, StateGraph
from langgraph.types import Send
from openai import DefaultAsyncHttpxClient

from .scene import FINAL, Scene


class State(TypedDict):
    said: Annotated[List[str], lambda old, new: old + new]


def fan_out(work: Any) -> Any:
    graph = StateGraph(State)
    graph.add_node("work", work)
    graph.add_node("join", lambda state: {"said": [FINAL]})
    graph.add_conditional_edges(START, lambda state: [Send("work", n) for n in range(6)], ["work"])
    graph.add_edge("work", "join")
    return graph.compile()


EARLY: List[Scene] = []
BEFORE = fan_out(lambda n: {"said": [EARLY[-1].tool(n)]})  # a graph that is there before the adapter is imported: it keeps LangChain's own function

from machineid_client.integrations.langchain import OffSwitch  # noqa: E402

from .model import Call, Say  # noqa: E402

GO = {"messages": [("user", "go")]}


def chat(scene: Scene, name: str = "m", retries: int = 0, **options: Any) -> ChatOpenAI:
    client = DefaultAsyncHttpxClient()  # its own: the one that LangChain keeps for all belongs to the event loop of an earlier play
    return ChatOpenAI(model=name, base_url=scene.model_url, api_key="none", max_retries=retries, http_async_client=client, **options)


def config(scene: Scene) -> Dict[str, Any]:
    return {"callbacks": [OffSwitch(scene.client, scene.device)]} if scene.guarded else {}


def block(scene: Scene) -> Any:
    return OffSwitch(scene.client, scene.device).run() if scene.guarded else contextlib.nullcontext()


def ablock(scene: Scene, **options: Any) -> AsyncContextManager[Any]:
    return OffSwitch(scene.async_client, scene.device, **options).run() if scene.guarded else contextlib.nullcontext()


def act(scene: Scene, **options: Any) -> StructuredTool:
    def act(n: int) -> str:
        "acts"
        return scene.tool(n)

    async def aact(n: int) -> str:
        return await scene.atool(n)

    return StructuredTool.from_function(act, coroutine=aact, name="act", **options)


def last(state: Dict[str, Any]) -> str:
    return str(state["messages"][-1].content)


def calls(scene: Scene, count: int = 2, name: str = "m", text: str = FINAL) -> None:
    scene.model.script(name, *[Call("act", n=i) for i in range(count)], Say(text))


def together(scene: Scene, count: int) -> StructuredTool:
    tool, atool = scene.together(count), scene.atogether(count)

    def act(n: int) -> str:
        "acts"
        return tool(n)

    async def aact(n: int) -> str:
        return await atool(n)

    return StructuredTool.from_function(act, coroutine=aact, name="act")
