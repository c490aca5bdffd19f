"""Cells of LangChain and LangGraph."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import threading
from typing import Annotated, Any, AsyncContextManager, Dict, List, Optional, TypedDict

from langchain.agents import create_agent
from langchain.agents.middleware import ModelFallbackMiddleware, ModelRetryMiddleware, ToolRetryMiddleware
from langchain_core.language_models import LLM
from langchain_core.messages import HumanMessage
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.runnables import RunnableLambda, RunnableParallel, RunnablePassthrough
from langchain_core.tools import StructuredTool
from langchain_openai import ChatOpenAI
from langgraph.func import entrypoint, task
from langgraph.graph import END, START, MessagesState, StateGraph
from langgraph.prebuilt import ToolNode, tools_condition
from langgraph.types import Command, RetryPolicy, Send
from openai import DefaultAsyncHttpxClient

from .scene import EVERY_END, FINAL, REVOKE, Cell, Scene, main, one_thread


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
BEFORE = fan_out(lambda n: {"said": [EARLY[-1].tool(n)]})  # a graph that is there before the adapter is imported

from machineid_client import Denied  # noqa: E402
from machineid_client.integrations.langchain import OffSwitch  # noqa: E402

from ..test_examples import load  # noqa: E402
from .model import Call, Fail, Say, While  # noqa: E402

GO = {"messages": [("user", "go")]}


def chat(scene: Scene, name: str = "m", retries: int = 0, **options: Any) -> ChatOpenAI:
    client = DefaultAsyncHttpxClient()  # its own: the one that LangChain keeps for all belongs to the event loop of an earlier play
    return ChatOpenAI(model=name, base_url=scene.model_url, api_key="none", max_retries=retries, http_async_client=client, **options)


def config(scene: Scene) -> Dict[str, Any]:
    return {"callbacks": [OffSwitch(scene.client, scene.device)]} if scene.guarded else {}


def block(scene: Scene) -> Any:
    return OffSwitch(scene.client, scene.device).run() if scene.guarded else contextlib.nullcontext()


def ablock(scene: Scene, **options: Any) -> "AsyncContextManager[Any]":
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


def together(scene: Scene, count: int) -> StructuredTool:
    tool, atool = scene.together(count), scene.atogether(count)

    def act(n: int) -> str:
        "acts"
        return tool(n)

    async def aact(n: int) -> str:
        return await atool(n)

    return StructuredTool.from_function(act, coroutine=aact, name="act")


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
    ended = asyncio.Event()

    async def a(state: Any) -> Any:
        await scene.atool(0)
        ended.set()
        return {"said": ["a"]}

    async def b(state: Any) -> Any:
        scene.began("b")
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
    scene.model.script("m", Say("done"))
    scene.model.script("second", Say(FINAL))

    async def step(said: Any) -> str:
        return await scene.atool()

    made = ChatPromptTemplate.from_template("{x}") | chat(scene) | RunnableLambda(step) | chat(scene, "second")
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


async def more_nodes_than_fit(scene: Scene) -> Any:
    """Plain functions in coroutines wait for a thread: all are asked for before the first one begins."""
    one_thread()
    graph = fan_out(lambda n: {"said": [scene.tool(n)]})
    return (await graph.ainvoke({"said": []}, config(scene)))["said"][-1]


async def more_nodes_than_fit_made_before(scene: Scene) -> Any:
    one_thread()
    EARLY.append(scene)
    async with ablock(scene):
        return (await BEFORE.ainvoke({"said": []}))["said"][-1]


async def more_tasks_than_fit(scene: Scene) -> Any:
    one_thread()

    @task
    def step(n: int) -> str:
        return scene.tool(n)

    @entrypoint()
    async def flow(given: Any) -> str:
        await asyncio.gather(*[step(n) for n in range(6)])
        return FINAL

    return await flow.ainvoke("go", config(scene))


async def more_steps_than_fit(scene: Scene) -> Any:
    one_thread()

    def step(n: int) -> str:
        scene.tool(n)
        return FINAL

    return (await RunnableLambda(step).abatch(list(range(6)), config(scene)))[-1]


async def more_branches_than_fit(scene: Scene) -> Any:
    one_thread()

    def branch(n: int) -> Any:
        return RunnableLambda(lambda given: scene.tool(n) and FINAL)

    async with ablock(scene):
        return (await RunnableParallel({str(n): branch(n) for n in range(6)}).ainvoke("go"))["0"]


async def more_tools_than_fit(scene: Scene) -> Any:
    one_thread()
    scene.model.script("m", [Call("act", n=n) for n in range(6)], Say(FINAL))

    def act(n: int) -> str:
        "acts"
        return scene.tool(n)

    return last(await create_agent(chat(scene), [StructuredTool.from_function(act)]).ainvoke(GO, config(scene)))


class OwnModel(LLM):
    """A model of one's own that is a plain function."""

    scene: Any

    @property
    def _llm_type(self) -> str:
        return "own"

    def _call(self, prompt: str, stop: Optional[List[str]] = None, run_manager: Any = None, **_: Any) -> str:
        self.scene.tool()
        return FINAL


async def more_models_than_fit(scene: Scene) -> Any:
    one_thread()
    given = config(scene)
    return (await asyncio.gather(*[OwnModel(scene=scene).ainvoke("go", given) for _ in range(6)]))[-1]


async def without_a_free_thread(scene: Scene) -> Any:
    """Asking needs no thread of the program's: there may be none for long."""
    free = threading.Event()
    one_thread().submit(free.wait)
    with concurrent.futures.ThreadPoolExecutor(1) as other:

        async def step(n: int) -> int:
            scene.began(f"step {n}")
            await asyncio.get_running_loop().run_in_executor(other, scene.end)
            return n + 1

        async def finish(n: int) -> str:
            scene.began(f"step {n}")
            return FINAL

        try:
            return await (RunnableLambda(step) | RunnableLambda(finish)).ainvoke(0, config(scene))
        finally:
            free.set()


def several_prompts(scene: Scene) -> Any:
    """Several prompts in one call: their start is told for all of them before the first is answered."""
    scene.model.script("m", While(scene.end, Say("one")), Say("two"), Say(FINAL))
    said = chat(scene).generate([[HumanMessage("go")]] * 3, callbacks=config(scene).get("callbacks"))
    return said.generations[-1][0].text


def several_prompts_of_ones_own(scene: Scene) -> Any:
    with block(scene):
        return OwnModel(scene=scene).generate(["go"] * 3).generations[-1][0].text


def passed_through(scene: Scene) -> Any:
    """A RunnablePassthrough's function, which is called before any handler is."""
    scene.model.script("m", While(scene.end, Say(FINAL)))
    made = chat(scene) | RunnablePassthrough(lambda said: scene.began("function"))
    return made.invoke("go", config(scene)).content


async def passed_through_async(scene: Scene) -> Any:
    scene.model.script("m", While(scene.end, Say(FINAL)))

    async def function(said: Any) -> None:
        scene.began("function")

    async with ablock(scene):
        return (await (chat(scene) | RunnablePassthrough(function)).ainvoke("go")).content


def read_elsewhere(scene: Scene) -> Any:
    """A stream that is asked for in the block, and read behind it."""
    calls(scene)
    with block(scene):
        items = create_agent(chat(scene), [act(scene)]).stream(GO, stream_mode="values")
    return last(list(items)[-1])


async def read_elsewhere_async(scene: Scene) -> Any:
    calls(scene)
    async with ablock(scene):
        items = create_agent(chat(scene), [act(scene)]).astream(GO, stream_mode="values")
    return last([one async for one in items][-1])


async def read_by_another_task(scene: Scene) -> Any:
    """The task was there before the block."""
    calls(scene)
    given: "asyncio.Queue[Any]" = asyncio.Queue()

    async def reader() -> Any:
        return [one async for one in await given.get()][-1]

    reading = asyncio.ensure_future(reader())
    async with ablock(scene):
        await given.put(create_agent(chat(scene), [act(scene)]).astream_events(GO, version="v2"))
        return last((await reading)["data"]["output"])


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
    Cell("more than fit: nodes", more_nodes_than_fit),
    Cell("more than fit: nodes, made before", more_nodes_than_fit_made_before),
    Cell("more than fit: tasks", more_tasks_than_fit),
    Cell("more than fit: batch", more_steps_than_fit),
    Cell("more than fit: branches", more_branches_than_fit),
    Cell("more than fit: tools", more_tools_than_fit),
    Cell("more than fit: models", more_models_than_fit),
    Cell("without a free thread", without_a_free_thread),
    Cell("several prompts", several_prompts),
    Cell("several prompts: own model", several_prompts_of_ones_own),
    Cell("passed through", passed_through),
    Cell("passed through, async", passed_through_async),
    Cell("read elsewhere", read_elsewhere),
    Cell("read elsewhere, async", read_elsewhere_async),
    Cell("read elsewhere: another task", read_by_another_task),
]

if __name__ == "__main__":
    main("LangChain", CELLS, ["langchain", "langgraph", "langchain-core", "langchain-openai"])
