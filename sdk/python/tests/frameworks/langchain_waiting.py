"""Cells of LangChain and LangGraph in which a step begins later, or elsewhere, than where LangChain tells of its start."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import threading
from typing import Any, List, Optional

from langchain.agents import create_agent
from langchain_core.language_models import LLM, FakeListChatModel
from langchain_core.messages import AIMessageChunk, HumanMessage
from langchain_core.runnables import Runnable, RunnableGenerator, RunnableLambda, RunnableParallel, RunnablePassthrough
from langchain_core.tools import StructuredTool
from langgraph.func import entrypoint, task

from machineid_client import Denied

from .langchain_parts import BEFORE, EARLY, GO, OffSwitch, ablock, act, block, calls, chat, config, fan_out, last
from .model import Call, Say, While
from .scene import FINAL, Cell, Scene, one_thread


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

    def function(said: Any) -> None:
        scene.began("function")

    async def afunction(said: Any) -> None:
        scene.began("function")

    async with ablock(scene):
        with contextlib.suppress(Denied):
            await (chat(scene) | RunnablePassthrough(function)).ainvoke("go")
        return (await (chat(scene) | RunnablePassthrough(afunction)).ainvoke("go")).content


async def passed_through_streamed(scene: Scene) -> Any:
    scene.model.script("m", While(scene.end, Say(FINAL)))

    async def function(said: Any) -> None:
        scene.began("function")

    made = chat(scene) | RunnablePassthrough(function)
    return "".join([str(one.content) async for one in made.astream("go", config(scene))])


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


class Step(Runnable):
    """A Runnable of one's own, which calls no handlers."""

    def __init__(self, scene: Scene) -> None:
        self.scene = scene

    def invoke(self, input: Any, config: Any = None, **_: Any) -> Any:
        self.scene.began("step")
        return input


class Named(Runnable):
    """A Runnable of one's own, with names of its own and no config."""

    def invoke(self, input: Any, count: int = 0, *, step: int = 0, inner: int = 0) -> Any:  # type: ignore[override]
        return input, count, step, inner


async def as_ever() -> None:
    """LangChain looks at what kind of function a method is, and users name their parameters as they like."""
    made = FakeListChatModel(responses=["said"])
    assert (await RunnableLambda(made.astream).ainvoke("go")).content == "said"
    for chain in (RunnablePassthrough() | made.atransform, RunnablePassthrough() | RunnableGenerator(made.atransform)):
        assert {type(one) async for one in chain.astream("go")} == {AIMessageChunk}
    assert {type(one) for one in (RunnablePassthrough() | made.transform).stream("go")} == {AIMessageChunk}
    assert Named().invoke(1, 2, step=3, inner=4) == (1, 2, 3, 4)
    assert await RunnableLambda(lambda x, inner=0: x + inner).ainvoke(1, inner=2) == 3


def step_of_ones_own(scene: Scene) -> Any:
    scene.model.script("m", While(scene.end, Say(FINAL)))
    return (chat(scene) | Step(scene)).invoke("go", config(scene)).content


class Streams(Runnable):
    """A Runnable of one's own that has only streams and batches."""

    def __init__(self, begun: List[str]) -> None:
        self.begun = begun

    def invoke(self, input: Any, config: Any = None, **_: Any) -> Any:
        raise NotImplementedError

    def batch(self, inputs: Any, config: Any = None, **_: Any) -> Any:  # type: ignore[override]
        self.begun.append("batch")
        return inputs

    async def abatch(self, inputs: Any, config: Any = None, **_: Any) -> Any:  # type: ignore[override]
        self.begun.append("abatch")
        return inputs

    def stream(self, input: Any, config: Any = None, **_: Any) -> Any:
        self.begun.append("stream")
        yield input

    async def astream(self, input: Any, config: Any = None, **_: Any) -> Any:
        self.begun.append("astream")
        yield input

    def transform(self, input: Any, config: Any = None, **_: Any) -> Any:
        for one in input:
            self.begun.append("transform")
            yield one

    async def atransform(self, input: Any, config: Any = None, **_: Any) -> Any:
        async for one in input:
            self.begun.append("atransform")
            yield one


async def streams_of_ones_own(scene: Scene) -> List[str]:
    """What begins of all of these after a revoke, each in a chain of which the step before it revokes or alone, and what did not end in Denied."""
    begun: List[str] = []
    alone, device = Streams(begun), scene.device + "-streams"

    def revoke(input: Any) -> Any:
        scene.stage.admin.revoke(device)
        return input

    async def all_of(items: Any) -> Any:
        return [one async for one in items]

    chain, given = RunnableLambda(revoke) | alone, {"callbacks": [OffSwitch(scene.client, device)]}
    ways = {
        "batch": lambda: chain.batch([1], given), "abatch": lambda: chain.abatch([1], given), "transform": lambda: list(chain.stream(1, given)),
        "atransform": lambda: all_of(chain.astream(1, given)), "stream": lambda: list(alone.stream(revoke(1), given)),
        "astream": lambda: all_of(alone.astream(revoke(1), given)),
    }
    scene.stage.admin.register(device)
    for name, way in ways.items():
        scene.stage.admin.restore(device)
        with contextlib.suppress(Denied):
            made = way()
            if asyncio.iscoroutine(made):
                await made
            begun.append(f"{name}: no Denied")
    return begun


async def step_of_ones_own_async(scene: Scene) -> Any:
    scene.model.script("m", While(scene.end, Say(FINAL)))
    await as_ever()
    if scene.guarded:
        assert await streams_of_ones_own(scene) == []
    async with ablock(scene):
        await as_ever()
        return (await (chat(scene) | Step(scene)).ainvoke("go")).content


WAITING = [
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
    Cell("passed through, streamed", passed_through_streamed),
    Cell("read elsewhere", read_elsewhere),
    Cell("read elsewhere, async", read_elsewhere_async),
    Cell("read elsewhere: another task", read_by_another_task),
    Cell("step of one's own", step_of_ones_own),
    Cell("step of one's own, async", step_of_ones_own_async),
]
