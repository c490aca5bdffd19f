"""Cells of Google's Agent Development Kit."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
from typing import Any, List

from google.adk.agents import LlmAgent, LoopAgent, ParallelAgent, RunConfig, SequentialAgent
from google.adk.agents.run_config import StreamingMode, ToolThreadPoolConfig
from google.adk.apps import App
from google.adk.apps.app import EventsCompactionConfig
from google.adk.code_executors.base_code_executor import BaseCodeExecutor
from google.adk.code_executors.code_execution_utils import CodeExecutionResult
from google.adk.events import Event
from google.adk.models.google_llm import Gemini
from google.adk.plugins.reflect_retry_tool_plugin import ReflectAndRetryToolPlugin
from google.adk.runners import InMemoryRunner
from google.adk.tools.agent_tool import AgentTool
from google.adk.workflow import START, Workflow, node
from google.genai import types

from machineid_client import Denied
from machineid_client.integrations.google_adk import OffSwitch

from .model import Call, Fail, Say, While
from .scene import EVERY_END, FINAL, REVOKE, Cell, Scene, main

logging.disable(logging.CRITICAL)

GO = types.Content(role="user", parts=[types.Part(text="go")])


def chat(scene: Scene, name: str = "m", retries: int = 1) -> Gemini:
    options = types.HttpRetryOptions(attempts=retries, initial_delay=0.01, max_delay=0.01)
    url = scene.model_url.rpartition("/")[0]
    return Gemini(model=name, base_url=url, client_kwargs={"api_key": "none"}, retry_options=options)


def held(scene: Scene, **options: Any) -> List[Any]:
    return [OffSwitch(scene.async_client, scene.device, **options)] if scene.guarded else []


def act(scene: Scene) -> Any:
    async def act(n: int) -> str:
        """acts"""
        return await scene.atool(n)

    return act


def agent(scene: Scene, name: str = "m", *tools: Any, **options: Any) -> LlmAgent:
    return LlmAgent(name=name, model=chat(scene, name), tools=list(tools) or [act(scene)], **options)


async def play(scene: Scene, root: Any, plugins: Any = None, config: Any = None, app: Any = None) -> str:
    """Runs an agent; returns what was said last."""
    plugins = held(scene) if plugins is None else plugins
    runner = InMemoryRunner(root, app_name="app", plugins=plugins) if app is None else InMemoryRunner(app=app)
    session = await runner.session_service.create_session(app_name="app", user_id="u")
    said = ""
    async for event in runner.run_async(user_id="u", session_id=session.id, new_message=GO, run_config=config):
        for part in event.content.parts if event.content and event.content.parts else []:
            said = part.text or said
    return said


def calls(scene: Scene, count: int = 2, name: str = "m", text: str = FINAL) -> None:
    scene.model.script(name, *[Call("act", n=i) for i in range(count)], Say(text))


async def sequential(scene: Scene) -> Any:
    calls(scene, 3)
    return await play(scene, agent(scene))


def in_sync_code(scene: Scene) -> Any:
    calls(scene)
    runner = InMemoryRunner(agent(scene), app_name="app", plugins=held(scene))
    session = asyncio.run(runner.session_service.create_session(app_name="app", user_id="u"))
    said = ""
    for event in runner.run(user_id="u", session_id=session.id, new_message=GO):
        for part in event.content.parts if event.content and event.content.parts else []:
            said = part.text or said
    return said


async def streamed(scene: Scene) -> Any:
    calls(scene)
    return await play(scene, agent(scene), config=RunConfig(streaming_mode=StreamingMode.SSE))


async def parallel(scene: Scene) -> Any:
    scene.model.script("m", [Call("act", n=i) for i in range(3)], Say(FINAL))
    tool = scene.atogether(3)

    async def act(n: int) -> str:
        """acts"""
        return await tool(n)

    return await play(scene, agent(scene, "m", act))


async def agent_as_tool(scene: Scene) -> Any:
    calls(scene, 2, "inner", "done")
    scene.model.script("m", Call("inner", request="x"), Call("inner", request="y"), Say(FINAL))
    return await play(scene, agent(scene, "m", AgentTool(agent(scene, "inner"))))


async def agent_as_tool_without_plugins(scene: Scene) -> Any:
    calls(scene, 2, "inner", "done")
    scene.model.script("m", Call("inner", request="x"), Call("inner", request="y"), Say(FINAL))
    return await play(scene, agent(scene, "m", AgentTool(agent(scene, "inner"), include_plugins=False)))


async def runner_in_a_tool(scene: Scene) -> Any:
    """A tool that has a runner of its own, and catches what comes of it."""
    calls(scene, 2, "inner", "done")
    scene.model.script("m", Call("delegate"), Call("delegate"), Say(FINAL))

    async def delegate() -> str:
        """delegates"""
        try:
            return await play(scene, agent(scene, "inner"), plugins=[])
        except Exception as err:
            return f"failed: {err}"

    return await play(scene, agent(scene, "m", delegate))


async def restored_meanwhile(scene: Scene) -> Any:
    """The first denial is kept: a tool swallows it, and the device may work again before the run asks next."""
    calls(scene, 2, "inner", "done")
    scene.model.script("m", Call("delegate"), Call("delegate"), Say(FINAL))

    async def delegate() -> str:
        """delegates"""
        try:
            return await play(scene, agent(scene, "inner"), plugins=[])
        except Exception as err:
            await asyncio.to_thread(scene.stage.admin.restore, scene.device)
            return f"failed: {err}"

    return await play(scene, agent(scene, "m", delegate))


async def handed_over(scene: Scene) -> Any:
    """A transfer to a sub-agent, in the answer after which the end comes."""
    scene.model.script("m", [Call("act", n=0), Call("transfer_to_agent", agent_name="b")])
    scene.model.script("b", Call("act", n=1), Say(FINAL))
    return await play(scene, agent(scene, "m", sub_agents=[agent(scene, "b")]))


async def during_a_model_call(scene: Scene) -> Any:
    """The end comes while the model thinks of a tool and a transfer."""
    scene.model.script("m", While(scene.end, [Call("act", n=0), Call("transfer_to_agent", agent_name="b")]))
    scene.model.script("b", Say(FINAL))
    return await play(scene, agent(scene, "m", sub_agents=[agent(scene, "b")]))


async def one_after_the_other(scene: Scene) -> Any:
    calls(scene, 1, "a", "done")
    calls(scene, 1, "b")
    return await play(scene, SequentialAgent(name="root", sub_agents=[agent(scene, "a"), agent(scene, "b")]))


async def side_by_side(scene: Scene) -> Any:
    calls(scene, 3, "a", FINAL)
    calls(scene, 3, "b", FINAL)
    return await play(scene, ParallelAgent(name="root", sub_agents=[agent(scene, "a", ends_together(scene)), agent(scene, "b", ends_together(scene))]))


def ends_together(scene: Scene) -> Any:
    """A tool of two agents: it waits until both are in it, so that neither begins something after the end."""
    if not hasattr(scene, "both"):
        scene.both = scene.atogether(2)  # type: ignore[attr-defined]

    async def act(n: int) -> str:
        """acts"""
        return await scene.both(n)  # type: ignore[attr-defined,no-any-return]

    return act


async def in_a_loop(scene: Scene) -> Any:
    scene.model.script("a", Call("act", n=0), Say("done"), Call("act", n=1), Say(FINAL))
    return await play(scene, LoopAgent(name="root", max_iterations=2, sub_agents=[agent(scene, "a")]))


async def tool_that_fails(scene: Scene) -> Any:
    """ADK's own plugin makes an answer of a tool's error, and has the model call it again."""
    calls(scene, 2)

    async def act(n: int) -> str:
        """acts"""
        await scene.atool(n)
        raise ValueError("it did not work")

    return await play(scene, agent(scene, "m", act), plugins=[ReflectAndRetryToolPlugin(max_retries=5), *held(scene)])


async def model_that_fails(scene: Scene) -> Any:
    """The provider's client tries again by itself."""
    scene.model.script("m", While(scene.end, Fail(503)), Fail(503), Say(FINAL))
    return await play(scene, LlmAgent(name="m", model=chat(scene, retries=4)))


async def compacted(scene: Scene) -> Any:
    """After the last answer ADK has a model sum the session up."""
    calls(scene, 0)
    scene.model.script("m", While(scene.end, Say(FINAL)))
    app = App(
        name="app", root_agent=LlmAgent(name="m", model=chat(scene)), plugins=held(scene),
        events_compaction_config=EventsCompactionConfig(compaction_interval=1, overlap_size=0),
    )
    return await play(scene, None, app=app)


async def in_the_background(scene: Scene) -> Any:
    """A tool leaves a run behind as a task, which goes on beside the run that began it."""
    calls(scene, 2, "inner", "done")
    scene.model.script("m", Call("start"), Say(FINAL))
    left: List[Any] = []

    async def start() -> str:
        """starts something"""
        left.append(asyncio.create_task(play(scene, agent(scene, "inner"), plugins=[])))
        return "started"

    try:
        async with contextlib.AsyncExitStack() as stack:
            if scene.guarded:
                await stack.enter_async_context(OffSwitch(scene.async_client, scene.device).run())
            said = await play(scene, agent(scene, "m", start), plugins=[])
            await asyncio.gather(*left)
            return said
    finally:
        await asyncio.gather(*left, return_exceptions=True)


async def several(scene: Scene) -> Any:
    """Two runs of one plugin at once."""
    both, plugins = scene.atogether(2), held(scene)

    async def act(n: int) -> str:
        """acts"""
        return await both(n)

    def one(name: str) -> Any:
        calls(scene, 2, name)
        return play(scene, agent(scene, name, act), plugins=plugins)

    said = await asyncio.gather(one("a"), one("b"), return_exceptions=True)
    for error in said:
        if isinstance(error, BaseException):
            raise error
    return said[0]


async def again(scene: Scene) -> Any:
    """A plugin whose run was denied serves the next run, when the device may work again."""
    plugins = held(scene)
    calls(scene)
    if scene.guarded and scene.ends is None:
        scene.ends = REVOKE
        with contextlib.suppress(Denied):
            await play(scene, agent(scene), plugins=plugins)
            return "not denied"
        scene.stage.admin.restore(scene.device)
        calls(scene)
    return await play(scene, agent(scene), plugins=plugins)


async def in_a_block(scene: Scene) -> Any:
    """async with switch.run(): no runner has the plugin."""
    calls(scene)
    async with contextlib.AsyncExitStack() as stack:
        if scene.guarded:
            await stack.enter_async_context(OffSwitch(scene.async_client, scene.device).run())
        await play(scene, agent(scene), plugins=[])
        return await play(scene, agent(scene), plugins=[])


def wait(scene: Scene) -> Any:
    """A tool that goes on until it is cancelled, if anything is to cancel it."""

    async def wait() -> str:
        """waits"""
        await scene.atool()
        if scene.guarded and scene.ends:
            await asyncio.Event().wait()
        scene.began("the rest of the tool")
        return "did"

    return wait


async def interrupted(scene: Scene) -> Any:
    """every=: what is under way is cancelled."""
    scene.model.script("m", Call("wait"), Say(FINAL))
    return await play(scene, agent(scene, "m", wait(scene)), plugins=held(scene, every=0.1))


async def nested_in_a_block(scene: Scene) -> Any:
    """A denial deep inside: the block's task waits for the one that is denied."""
    calls(scene, 2, "inner", "done")
    scene.model.script("m", Call("inner", request="x"), Call("inner", request="y"), Say(FINAL))
    async with contextlib.AsyncExitStack() as stack:
        if scene.guarded:
            await stack.enter_async_context(OffSwitch(scene.async_client, scene.device).run())
        return await play(scene, agent(scene, "m", AgentTool(agent(scene, "inner"))), plugins=[])


async def interrupted_nested(scene: Scene) -> Any:
    scene.model.script("inner", Call("wait"), Say("done"))
    scene.model.script("m", Call("inner", request="x"), Say(FINAL))
    tool = AgentTool(agent(scene, "inner", wait(scene)), include_plugins=False)
    return await play(scene, agent(scene, "m", tool), plugins=held(scene, every=0.1))


async def denied_nested(scene: Scene) -> Any:
    """every= beside a nested run that asks by itself: both meet the denial."""
    calls(scene, 2, "inner", "done")
    scene.model.script("m", Call("inner", request="x"), Call("inner", request="y"), Say(FINAL))
    tool = AgentTool(agent(scene, "inner"), include_plugins=False)
    return await play(scene, agent(scene, "m", tool), plugins=held(scene, every=30.0))


def block(scene: Scene, **options: Any) -> Any:
    return OffSwitch(scene.async_client, scene.device, **options).run() if scene.guarded else contextlib.nullcontext()


def one_by_one(*, transfer: bool = False, **config: Any) -> Any:
    """Plain functions in one answer, which ADK runs one after another in the event loop: the first one ends the permission."""

    async def body(scene: Scene) -> Any:
        answer = [Call("act", n=i) for i in range(4)] + ([Call("transfer_to_agent", agent_name="b")] if transfer else [])
        scene.model.script("m", answer, Say(FINAL))
        scene.model.script("b", Say(FINAL))

        def act(n: int) -> str:
            """acts"""
            return scene.tool(n)

        root = agent(scene, "m", act, sub_agents=[agent(scene, "b")] if transfer else [])
        return await play(scene, root, config=RunConfig(**config))

    return body


async def mixed(scene: Scene) -> Any:
    """Plain functions and coroutines in one answer: the coroutines were let go on before the first function held the loop up."""

    def act(n: int) -> str:
        """acts"""
        return scene.tool(n)

    async def aact(n: int) -> str:
        """acts"""
        return scene.tool(n)

    scene.model.script("m", [Call(name, n=i) for i, name in enumerate(["act"] * 4 + ["aact"] * 4)], Say(FINAL))
    return await play(scene, agent(scene, "m", act, aact))


async def coroutines_that_block(scene: Scene) -> Any:
    """Coroutines in one answer that hold the loop up, as plain functions do."""
    scene.model.script("m", [Call("act", n=i) for i in range(4)], Say(FINAL))

    async def act(n: int) -> str:
        """acts"""
        return scene.tool(n)

    return await play(scene, agent(scene, "m", act))


async def plain_generators(scene: Scene) -> Any:
    scene.model.script("m", [Call("act", n=i) for i in range(4)], Say(FINAL))

    def act(n: int) -> Any:
        """acts"""
        yield scene.tool(n)

    return await play(scene, agent(scene, "m", act))


def more_than_fit(config: Any, *, generators: bool = False) -> Any:
    """More plain functions in one answer than the pool of threads has room for: two begin, the others wait."""

    async def body(scene: Scene) -> Any:
        scene.model.script("m", [Call("act", n=i) for i in range(6)], Say(FINAL))
        begun, together = itertools.count(), scene.together(2)

        def act(n: int) -> str:
            """acts"""
            return together(n) if next(begun) < 2 else scene.tool(n)

        def generate(n: int) -> Any:
            """acts"""
            yield act(n)

        generate.__name__ = "act"
        return await play(scene, agent(scene, "m", generate if generators else act), config=RunConfig(tool_thread_pool_config=config))

    return body


async def parallel_workers(scene: Scene) -> Any:
    """A workflow's node that is run for each item of a list."""

    def items(node_input: Any) -> List[int]:
        return [0, 1, 2, 3]

    @node(parallel_worker=True, rerun_on_resume=True)  # type: ignore[untyped-decorator]
    def work(node_input: Any) -> str:
        return scene.tool(int(node_input))

    def end(node_input: Any) -> Event:
        return Event(author="end", content=types.Content(role="model", parts=[types.Part(text=FINAL)]))

    return await play(scene, Workflow(name="root", edges=[(START, items, work, end)]))


async def last_said(events: Any) -> str:
    said = ""
    async for event in events:
        for part in event.content.parts if event.content and event.content.parts else []:
            said = part.text or said
    return said


async def read_elsewhere(scene: Scene) -> Any:
    """The events are asked for in the block and read behind its end, in a task that knows nothing of it."""
    calls(scene)
    runner = InMemoryRunner(agent(scene), app_name="app")
    session = await runner.session_service.create_session(app_name="app", user_id="u")
    asked: "asyncio.Queue[Any]" = asyncio.Queue()

    async def read() -> str:
        return await last_said(await asked.get())

    reader = asyncio.ensure_future(read())
    async with block(scene):
        events = runner.run_async(user_id="u", session_id=session.id, new_message=GO)
    await asked.put(events)
    return await reader


def sync_read_elsewhere(scene: Scene) -> Any:
    """Runner.run's events, read behind the block's end."""
    calls(scene)
    runner = InMemoryRunner(agent(scene), app_name="app")
    session = asyncio.run(runner.session_service.create_session(app_name="app", user_id="u"))
    with block(scene):
        events = runner.run(user_id="u", session_id=session.id, new_message=GO)
    said = ""
    for event in events:
        for part in event.content.parts if event.content and event.content.parts else []:
            said = part.text or said
    return said


class Executor(BaseCodeExecutor):  # type: ignore[misc]
    """Runs no code, but says so."""

    scene: Any = None

    def execute_code(self, invocation_context: Any, code_execution_input: Any) -> CodeExecutionResult:
        self.scene.tool()
        return CodeExecutionResult(stdout="did")


PYTHON = Say("```python\nprint(1)\n```")


async def code(scene: Scene) -> Any:
    scene.model.script("m", PYTHON, PYTHON, Say(FINAL))
    return await play(scene, LlmAgent(name="m", model=chat(scene), code_executor=Executor(scene=scene)))


async def code_in_a_block(scene: Scene) -> Any:
    """The end comes while the model writes the code; no runner has the plugin."""
    scene.model.script("m", While(scene.end, PYTHON), Say(FINAL))
    async with block(scene):
        return await play(scene, LlmAgent(name="m", model=chat(scene), code_executor=Executor(scene=scene)), plugins=[])


CELLS = [
    Cell("sequential", sequential, EVERY_END),
    Cell("sync", in_sync_code, EVERY_END),
    Cell("streamed", streamed),
    Cell("parallel", parallel),
    Cell("nested: agent as tool", agent_as_tool, EVERY_END),
    Cell("nested: agent as tool, no plugins", agent_as_tool_without_plugins),
    Cell("nested: runner in a tool", runner_in_a_tool),
    Cell("restored meanwhile", restored_meanwhile),
    Cell("hand-over", handed_over),
    Cell("during a model call", during_a_model_call),
    Cell("next agent", one_after_the_other),
    Cell("parallel agents", side_by_side),
    Cell("agent in a loop", in_a_loop),
    Cell("retry: tool that fails", tool_that_fails),
    Cell("retry: the provider's client", model_that_fails),
    Cell("compaction", compacted),
    Cell("background", in_the_background, varies=True),
    Cell("block without plugins", in_a_block),
    Cell("several at once", several),
    Cell("again", again),
    Cell("block, nested", nested_in_a_block),
    Cell("interrupted: every=", interrupted),
    Cell("interrupted: every=, nested", interrupted_nested),
    Cell("every= and nested", denied_nested),
    Cell("parallel: plain functions", one_by_one(), EVERY_END),
    Cell("parallel: plain functions, streamed", one_by_one(streaming_mode=StreamingMode.SSE)),
    Cell("parallel: plain functions, hand-over", one_by_one(transfer=True)),
    Cell("parallel: plain functions and coroutines", mixed),
    Cell("parallel: coroutines that block", coroutines_that_block),
    Cell("parallel: plain generators", plain_generators),
    Cell("parallel: more than fit", more_than_fit(ToolThreadPoolConfig(max_workers=2))),
    Cell("parallel: more generators than fit", more_than_fit(ToolThreadPoolConfig(max_workers=2), generators=True)),
    Cell("parallel workers", parallel_workers),
    Cell("read elsewhere", read_elsewhere),
    Cell("read elsewhere, sync", sync_read_elsewhere),
    Cell("code", code),
    Cell("code in a block", code_in_a_block),
]

if __name__ == "__main__":
    main("Google ADK", CELLS, ["google-adk", "google-genai"])
