"""Cells of LangChain and LangGraph."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any, List

from langchain.agents import create_agent
from langchain.agents.middleware import ModelFallbackMiddleware, ModelRetryMiddleware, ToolRetryMiddleware
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.runnables import RunnableLambda, RunnableParallel
from langchain_core.tools import StructuredTool
from langgraph.func import entrypoint, task
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.prebuilt import ToolNode, tools_condition
from langgraph.types import Command, RetryPolicy

from machineid_client import Denied

from ..test_examples import load
from .langchain_parts import GO, OffSwitch, State, act, calls, chat, config, last, together
from .langchain_waiting import WAITING
from .model import Call, Fail, Say, While
from .scene import EVERY_END, FINAL, REVOKE, Cell, Scene, main


def sequential(scene: Scene) -> Any:
    calls(scene, 3)
    return last(create_agent(chat(scene), [act(scene)]).invoke(GO, config(scene)))


async def in_coroutines(scene: Scene) -> Any:
    calls(scene, 3)
    return last(await create_agent(chat(scene), [act(scene)]).ainvoke(GO, config(scene)))


def streamed(scene: Scene) -> Any:
    calls(scene)
    said: List[Any] = list(create_agent(chat(scene), [act(scene)]).stream(GO, config(scene), stream_mode=["messages", "values"]))
    return last(said[-1][1])


async def astreamed(scene: Scene) -> Any:
    calls(scene)
    said = [one async for one in create_agent(chat(scene), [act(scene)]).astream(GO, config(scene), stream_mode=["messages", "values"])]
    return last(said[-1][1])


async def as_events(scene: Scene) -> Any:
    calls(scene)
    said = [one async for one in create_agent(chat(scene), [act(scene)]).astream_events(GO, config(scene), version="v2")]
    return last(said[-1]["data"]["output"])


def parallel(scene: Scene) -> Any:
    scene.model.script("m", [Call("act", n=i) for i in range(3)], Say(FINAL))
    return last(create_agent(chat(scene), [together(scene, 3)]).invoke(GO, config(scene)))


async def aparallel(scene: Scene) -> Any:
    scene.model.script("m", [Call("act", n=i) for i in range(3)], Say(FINAL))
    return last(await create_agent(chat(scene), [together(scene, 3)]).ainvoke(GO, config(scene)))


def one_at_a_time(scene: Scene) -> Any:
    scene.model.script("m", [Call("act", n=i) for i in range(4)], Say(FINAL))
    return last(create_agent(chat(scene), [act(scene)]).invoke(GO, dict(config(scene), max_concurrency=1)))


def agent_in_a_tool(scene: Scene) -> Any:
    """A tool that runs an agent, gives it no config, and catches what comes of it."""
    calls(scene, 2, "inner", "done")
    scene.model.script("m", Call("delegate"), Call("delegate"), Say(FINAL))
    inner = create_agent(chat(scene, "inner"), [act(scene)])

    def delegate() -> str:
        "delegates"
        try:
            return last(inner.invoke(GO))
        except Exception as err:
            return f"failed: {err}"

    return last(create_agent(chat(scene), [StructuredTool.from_function(delegate)]).invoke(GO, config(scene)))


async def agent_in_a_tool_async(scene: Scene) -> Any:
    calls(scene, 2, "inner", "done")
    scene.model.script("m", Call("delegate"), Call("delegate"), Say(FINAL))
    inner = create_agent(chat(scene, "inner"), [act(scene)])

    async def delegate() -> str:
        "delegates"
        try:
            return last(await inner.ainvoke(GO))
        except Exception as err:
            return f"failed: {err}"

    return last(await create_agent(chat(scene), [StructuredTool.from_function(coroutine=delegate)]).ainvoke(GO, config(scene)))


def restored_meanwhile(scene: Scene) -> Any:
    """The first denial is kept: a tool swallows it, and the device may work again before the run asks next."""
    calls(scene, 2, "inner", "done")
    scene.model.script("m", Call("delegate"), Call("delegate"), Say(FINAL))
    inner = create_agent(chat(scene, "inner"), [act(scene)])

    def delegate() -> str:
        "delegates"
        try:
            return last(inner.invoke(GO))
        except Exception as err:
            scene.stage.admin.restore(scene.device)
            return f"failed: {err}"

    return last(create_agent(chat(scene), [StructuredTool.from_function(delegate)]).invoke(GO, config(scene)))


def subgraph(scene: Scene) -> Any:
    calls(scene, 2, "inner", "done")
    scene.model.script("m", Say(FINAL))
    graph = StateGraph(MessagesState)
    graph.add_node("inner", create_agent(chat(scene, "inner"), [act(scene)]))
    graph.add_node("after", lambda state: {"messages": [chat(scene).invoke(state["messages"])]})
    graph.add_edge(START, "inner")
    graph.add_edge("inner", "after")
    return last(graph.compile().invoke(GO, config(scene)))


def handed_over(scene: Scene) -> Any:
    """A tool sends the graph on to another agent."""
    scene.model.script("m", Call("transfer"), Say(FINAL))
    scene.model.script("b", Say(FINAL))

    def transfer() -> Command:
        "hands over"
        scene.tool()
        return Command(goto="b", graph=Command.PARENT)

    graph = StateGraph(MessagesState)
    graph.add_node("a", create_agent(chat(scene), [StructuredTool.from_function(transfer)]))
    graph.add_node("b", lambda state: {"messages": [chat(scene, "b").invoke([("user", "go")])]})
    graph.add_edge(START, "a")
    return last(graph.compile().invoke(GO, config(scene)))


async def during_a_model_call(scene: Scene) -> Any:
    """The end comes while the model thinks of its tools."""
    scene.model.script("m", While(scene.end, [Call("act", n=0), Call("act", n=1)]), Say(FINAL))
    return last(await create_agent(chat(scene), [act(scene)]).ainvoke(GO, config(scene)))


async def parallel_nodes(scene: Scene) -> Any:
    """Two branches at once; the second branch's next node would begin after the end."""

    scene.model.script("m", Say(FINAL))
    begun, ended = asyncio.Event(), asyncio.Event()

    async def a(state: Any) -> Any:
        await begun.wait()  # what asked before the end may begin behind it
        await scene.atool(0)
        ended.set()
        return {"said": ["a"]}

    async def b(state: Any) -> Any:
        scene.began("b")
        begun.set()
        await ended.wait()
        said = await chat(scene).ainvoke("go")
        return {"said": [str(said.content)]}

    def join(state: Any) -> Any:
        scene.began("join")
        return {"said": state["said"][-1:]}

    graph = StateGraph(State)
    for node in (a, b, join):
        graph.add_node(node.__name__, node)
    graph.add_edge(START, "a")
    graph.add_edge(START, "b")
    graph.add_edge(["a", "b"], "join")
    return (await graph.compile().ainvoke({"said": []}, config(scene)))["said"][-1]


def tool_node_that_swallows(scene: Scene) -> Any:
    """A ToolNode that makes words of all errors, and nodes that are tried again."""
    scene.model.script("m", [Call("act", n=0), Call("act", n=1)], Call("act", n=2), Say(FINAL))
    model = chat(scene).bind_tools([act(scene)])
    graph = StateGraph(MessagesState)
    again = RetryPolicy(initial_interval=0.01, max_attempts=3, retry_on=Exception)
    graph.add_node("model", lambda state: {"messages": [model.invoke(state["messages"])]}, retry_policy=again)
    graph.add_node("tools", ToolNode([act(scene)], handle_tool_errors=True), retry_policy=again)
    graph.add_edge(START, "model")
    graph.add_conditional_edges("model", tools_condition)
    graph.add_edge("tools", "model")
    return last(graph.compile().invoke(GO, dict(config(scene), max_concurrency=1)))


def middleware_that_retries(scene: Scene) -> Any:
    """Middleware that tries models and tools again, and in the end goes on with the error as text."""
    scene.model.script("m", Call("act", n=0), Call("act", n=1), Say(FINAL))

    def act(n: int) -> str:
        "acts"
        scene.tool(n)
        raise ValueError("it did not work")

    again = dict(max_retries=2, initial_delay=0.01, jitter=False, on_failure="continue")
    agent = create_agent(
        chat(scene), [StructuredTool.from_function(act)], middleware=[ModelRetryMiddleware(**again), ToolRetryMiddleware(**again)]
    )
    return last(agent.invoke(GO, config(scene)))


async def middleware_that_falls_back(scene: Scene) -> Any:
    scene.model.script("m", Call("act", n=0), Say(FINAL))
    scene.model.script("other", Say(FINAL))
    agent = create_agent(chat(scene), [act(scene)], middleware=[ModelFallbackMiddleware(chat(scene, "other"), chat(scene, "other"))])
    return last(await agent.ainvoke(GO, config(scene)))


def node_that_retries(scene: Scene) -> Any:
    """A node of a graph without a model, tried again by its policy."""
    tries: List[int] = []

    def node(state: Any) -> Any:
        tries.append(1)
        scene.tool(len(tries))
        if len(tries) < 3:
            raise ConnectionError("it did not work")
        return {"messages": [("assistant", FINAL)]}

    graph = StateGraph(MessagesState)
    graph.add_node("node", node, retry_policy=RetryPolicy(initial_interval=0.01, max_attempts=3))
    graph.add_edge(START, "node")
    return last(graph.compile().invoke(GO, config(scene)))


def chain(scene: Scene) -> Any:
    """A plain chain, of which a step acts."""
    scene.model.script("m", Say("done"))
    scene.model.script("second", Say(FINAL))
    made = (
        ChatPromptTemplate.from_template("{x}") | chat(scene) | RunnableLambda(lambda said: scene.tool()) | RunnableParallel(a=chat(scene, "second"))
    )
    return made.invoke({"x": "go"}, config(scene))["a"].content


async def chain_async(scene: Scene) -> Any:
    """A step makes an error of its own of what ends it."""
    scene.model.script("m", Say("done"))
    scene.model.script("second", Say(FINAL))

    async def step(said: Any) -> Any:
        try:
            return await chat(scene, "second").ainvoke(await scene.atool())
        except Exception:
            raise ValueError("its own")

    made = ChatPromptTemplate.from_template("{x}") | chat(scene) | RunnableLambda(step)
    return (await made.ainvoke({"x": "go"}, config(scene))).content


def chain_that_falls_back(scene: Scene) -> Any:
    """with_retry around with_fallbacks around a chain that fails after it acted."""
    scene.model.script("other", Say(FINAL))

    def step(said: Any) -> Any:
        scene.tool()
        raise ConnectionError("it did not work")

    made = RunnableLambda(step).with_fallbacks([chat(scene, "other")]).with_retry(stop_after_attempt=3, wait_exponential_jitter=False)
    return made.invoke("go", config(scene)).content


def batch(scene: Scene) -> Any:
    scene.model.script("m", Say(FINAL))

    def step(n: int) -> str:
        scene.tool(n)
        return str(chat(scene).invoke("go").content)

    return RunnableLambda(step).batch([1, 2, 3], dict(config(scene), max_concurrency=1))


async def abatch(scene: Scene) -> Any:
    scene.model.script("m", Say(FINAL))

    async def step(n: int) -> str:
        await scene.atool(n)
        return str((await chat(scene).ainvoke("go")).content)

    return await RunnableLambda(step).abatch([1, 2, 3], dict(config(scene), max_concurrency=1))


def functional(scene: Scene) -> Any:
    """LangGraph's functional form: an entrypoint and its tasks."""

    @task
    def step(n: int) -> str:
        return scene.tool(n)

    @entrypoint()
    def flow(given: Any) -> str:
        for n in range(3):
            step(n).result()
        return FINAL

    return flow.invoke("go", config(scene))


async def in_the_background(scene: Scene) -> Any:
    """A tool leaves a run behind as a task, which goes on beside the run that began it."""
    calls(scene, 2, "inner", "done")
    scene.model.script("m", Call("start"), Say(FINAL))
    inner, left = create_agent(chat(scene, "inner"), [act(scene)]), []

    async def start() -> str:
        "starts something"
        left.append(asyncio.create_task(inner.ainvoke(GO)))
        return "started"

    try:
        async with contextlib.AsyncExitStack() as stack:
            if scene.guarded:
                await stack.enter_async_context(OffSwitch(scene.async_client, scene.device).run())
            said = last(await create_agent(chat(scene), [StructuredTool.from_function(coroutine=start)]).ainvoke(GO))
            await asyncio.gather(*left)
            return said
    finally:
        await asyncio.gather(*left, return_exceptions=True)


async def several(scene: Scene) -> Any:
    """Two runs of one callback at once."""
    given, tool = config(scene), together(scene, 2)

    def one(name: str) -> Any:
        calls(scene, 2, name)
        return create_agent(chat(scene, name), [tool]).ainvoke(GO, given)

    said = await asyncio.gather(one("a"), one("b"), return_exceptions=True)
    for error in said:
        if isinstance(error, BaseException):
            raise error
    return last(said[0])


def again(scene: Scene) -> Any:
    """A callback whose run was denied serves the next run, when the device may work again."""
    agent, given = create_agent(chat(scene), [act(scene)]), config(scene)
    calls(scene)
    if scene.guarded and scene.ends is None:
        scene.ends = REVOKE
        with contextlib.suppress(Denied):
            agent.invoke(GO, given)
            return "not denied"
        scene.stage.admin.restore(scene.device)
        calls(scene)
    return last(agent.invoke(GO, given))


def in_a_block(scene: Scene) -> Any:
    """with switch.run(): nothing is given any callbacks."""
    calls(scene)
    with OffSwitch(scene.client, scene.device).run() if scene.guarded else contextlib.nullcontext():
        create_agent(chat(scene), [act(scene)]).invoke(GO)
        return last(create_agent(chat(scene), [act(scene)]).invoke(GO))


async def interrupted(scene: Scene) -> Any:
    """every=: what is under way is cancelled."""
    scene.model.script("m", Call("wait"), Say(FINAL))

    async def wait() -> str:
        "waits"
        await scene.atool(0)
        if scene.guarded and scene.ends:
            await asyncio.Event().wait()
        scene.began("the rest of the tool")
        return "did"

    async with contextlib.AsyncExitStack() as stack:
        if scene.guarded:
            await stack.enter_async_context(OffSwitch(scene.async_client, scene.device, every=0.1).run())
        return last(await create_agent(chat(scene), [StructuredTool.from_function(coroutine=wait)]).ainvoke(GO))


def example(scene: Scene) -> Any:
    """examples/langchain_agent.py."""
    calls(scene)
    agent = create_agent(chat(scene), [act(scene)])
    return load("langchain_agent").run(scene.client, scene.device, agent, "go") if scene.guarded else last(agent.invoke(GO))


def client_that_retries(scene: Scene) -> Any:
    """The provider's client tries again by itself."""
    scene.model.script("m", While(scene.end, Fail(503)), Fail(503), Say(FINAL))
    with OffSwitch(scene.client, scene.device).run() if scene.guarded else contextlib.nullcontext():
        return (ChatPromptTemplate.from_template("{x}") | chat(scene, retries=4)).invoke({"x": "go"}).content


CELLS = [
    Cell("sequential", sequential, EVERY_END),
    Cell("async", in_coroutines, EVERY_END),
    Cell("streamed", streamed),
    Cell("streamed, async", astreamed, EVERY_END),
    Cell("streamed, as events", as_events),
    Cell("parallel", parallel),
    Cell("parallel, async", aparallel),
    Cell("parallel, one at a time", one_at_a_time),
    Cell("parallel nodes", parallel_nodes),
    Cell("nested: agent in a tool", agent_in_a_tool),
    Cell("nested: agent in a tool, async", agent_in_a_tool_async, EVERY_END),
    Cell("nested: subgraph", subgraph),
    Cell("restored meanwhile", restored_meanwhile),
    Cell("hand-over", handed_over),
    Cell("during a model call", during_a_model_call),
    Cell("retry: tool node that swallows", tool_node_that_swallows),
    Cell("retry: middleware", middleware_that_retries),
    Cell("retry: fallback models", middleware_that_falls_back),
    Cell("retry: node", node_that_retries),
    Cell("retry: with_fallbacks, with_retry", chain_that_falls_back),
    Cell("retry: the provider's client", client_that_retries),
    Cell("chain", chain),
    Cell("chain, async", chain_async),
    Cell("batch", batch),
    Cell("batch, async", abatch),
    Cell("functional", functional),
    Cell("background", in_the_background, varies=True),
    Cell("block without callbacks", in_a_block),
    Cell("several at once", several),
    Cell("again", again),
    Cell("interrupted: every=", interrupted),
    Cell("example", example),
    *WAITING,
]

if __name__ == "__main__":
    main("LangChain", CELLS, ["langchain", "langgraph", "langchain-core", "langchain-openai"])
