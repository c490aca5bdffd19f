"""Cells of Google's Agent Development Kit."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import Any, List

from google.adk.agents import LlmAgent, LoopAgent, ParallelAgent, RunConfig, SequentialAgent
from google.adk.agents.run_config import StreamingMode
from google.adk.apps import App
from google.adk.apps.app import EventsCompactionConfig
from google.adk.models.google_llm import Gemini
from google.adk.plugins.reflect_retry_tool_plugin import ReflectAndRetryToolPlugin
from google.adk.runners import InMemoryRunner
from google.adk.tools.agent_tool import AgentTool
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
]

if __name__ == "__main__":
    main("Google ADK", CELLS, ["google-adk", "google-genai"])
