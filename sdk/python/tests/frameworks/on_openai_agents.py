"""Cells of the OpenAI Agents SDK."""

from __future__ import annotations

import asyncio
import contextlib
import functools
from typing import Any, AsyncContextManager, List, Optional

from agents import (
    Agent, AgentHooks, GuardrailFunctionOutput, InputGuardrail, ModelRetrySettings, ModelSettings, OpenAIChatCompletionsModel, OpenAIResponsesModel, RunConfig,
    Runner, RunHooks, SQLiteSession, function_tool, handoff, retry_policies, set_tracing_disabled,
)
from agents.run import AgentRunner
from openai import AsyncOpenAI

from machineid_client import Denied
from machineid_client.integrations.openai_agents import OffSwitch

from ..test_examples import load
from .model import Call, Fail, Say, While
from .scene import EVERY_END, FINAL, REVOKE, Cell, Scene, main, one_thread

set_tracing_disabled(True)


def openai(scene: Scene, retries: int = 0) -> AsyncOpenAI:
    return AsyncOpenAI(base_url=scene.model_url, api_key="none", max_retries=retries)


def chat(scene: Scene, name: str = "m") -> Any:
    return OpenAIChatCompletionsModel(name, openai(scene))


def hooks(scene: Scene) -> Optional[RunHooks]:
    return OffSwitch(scene.async_client, scene.device) if scene.guarded else None


def act(scene: Scene, **options: Any) -> Any:
    async def act(n: int) -> str:
        "acts"
        return await scene.atool(n)

    return function_tool(act, **options)


def act_sync(scene: Scene) -> Any:
    def act(n: int) -> str:
        "acts"
        return scene.tool(n)

    return function_tool(act)


async def sequential(scene: Scene) -> Any:
    scene.model.script("m", Call("act", n=0), Call("act", n=1), Call("act", n=2), Say(FINAL))
    return (await Runner.run(Agent("a", model=chat(scene), tools=[act(scene)]), "go", hooks=hooks(scene))).final_output


async def responses(scene: Scene) -> Any:
    scene.model.script("m", Call("act", n=0), Call("act", n=1), Say(FINAL))
    agent = Agent("a", model=OpenAIResponsesModel("m", openai(scene)), tools=[act(scene)])
    return (await Runner.run(agent, "go", hooks=hooks(scene))).final_output


def in_sync_code(scene: Scene) -> Any:
    scene.model.script("m", Call("act", n=0), Call("act", n=1), Say(FINAL))
    asyncio.set_event_loop(asyncio.new_event_loop())
    return Runner.run_sync(Agent("a", model=chat(scene), tools=[act_sync(scene)]), "go", hooks=hooks(scene)).final_output


async def parallel(scene: Scene) -> Any:
    scene.model.script("m", [Call("act", n=i) for i in range(3)], Call("act", n=3), Say(FINAL))
    tool = scene.atogether(3)

    async def act(n: int) -> str:
        "acts"
        return await tool(n)

    return (await Runner.run(Agent("a", model=chat(scene), tools=[function_tool(act)]), "go", hooks=hooks(scene))).final_output


async def one_at_a_time(scene: Scene) -> Any:
    """Several calls in one answer, of which the second waits for the first."""
    from agents import ToolExecutionConfig

    scene.model.script("m", [Call("act", n=i) for i in range(4)], Say(FINAL))
    config = RunConfig(tool_execution=ToolExecutionConfig(max_function_tool_concurrency=1))
    return (await Runner.run(Agent("a", model=chat(scene), tools=[act(scene)]), "go", hooks=hooks(scene), run_config=config)).final_output


async def streamed(scene: Scene) -> Any:
    scene.model.script("m", Call("act", n=0), Call("act", n=1), Say(FINAL))
    result = Runner.run_streamed(Agent("a", model=chat(scene), tools=[act(scene)]), "go", hooks=hooks(scene))
    async for _ in result.stream_events():
        pass
    return result.final_output


async def agent_as_tool(scene: Scene) -> Any:
    scene.model.script("inner", Call("act", n=0), Call("act", n=1), Say("done"))
    scene.model.script("m", Call("inner", input="x"), Call("inner", input="y"), Say(FINAL))
    inner = Agent("inner", model=chat(scene, "inner"), tools=[act(scene)])
    outer = Agent("a", model=chat(scene), tools=[inner.as_tool("inner", "does it")])
    return (await Runner.run(outer, "go", hooks=hooks(scene))).final_output


async def agent_as_last_tool(scene: Scene) -> Any:
    """What the inner run says is the outer run's answer, also when it is an error made into words."""
    scene.model.script("inner", Call("act", n=0), Call("act", n=1), Say(FINAL))
    scene.model.script("m", Call("inner", input="x"), Say(FINAL))
    inner = Agent("inner", model=chat(scene, "inner"), tools=[act(scene)])
    outer = Agent("a", model=chat(scene), tools=[inner.as_tool("inner", "does it")], tool_use_behavior="stop_on_first_tool")
    return (await Runner.run(outer, "go", hooks=hooks(scene))).final_output


async def agents_as_tools_streamed(scene: Scene) -> Any:
    scene.model.script("inner", Call("act", n=0), Call("act", n=1), Say("done"))
    scene.model.script("m", Call("inner", input="x"), Call("inner", input="y"), Say(FINAL))
    inner = Agent("inner", model=chat(scene, "inner"), tools=[act(scene)])
    outer = Agent("a", model=chat(scene), tools=[inner.as_tool("inner", "does it", on_stream=lambda event: None)])
    result = Runner.run_streamed(outer, "go", hooks=hooks(scene))
    async for _ in result.stream_events():
        pass
    return result.final_output


async def runs_inside_tools(scene: Scene) -> Any:
    """A tool that runs an agent by itself, and catches what comes of it."""
    scene.model.script("inner", Call("act", n=0), Call("act", n=1), Say("done"))
    scene.model.script("m", Call("delegate"), Call("delegate"), Say(FINAL))
    inner = Agent("inner", model=chat(scene, "inner"), tools=[act(scene)])

    async def delegate() -> str:
        "delegates"
        try:
            return str((await Runner.run(inner, "go")).final_output)
        except Exception as err:
            return f"failed: {err}"

    return (await Runner.run(Agent("a", model=chat(scene), tools=[function_tool(delegate)]), "go", hooks=hooks(scene))).final_output


async def restored_meanwhile(scene: Scene) -> Any:
    """The first denial is kept: a tool swallows it, and the device may work again before the run asks next."""
    scene.model.script("inner", Call("act", n=0), Call("act", n=1), Say("done"))
    scene.model.script("m", Call("delegate"), Call("delegate"), Say(FINAL))
    inner = Agent("inner", model=chat(scene, "inner"), tools=[act(scene)])

    async def delegate() -> str:
        "delegates"
        try:
            return str((await Runner.run(inner, "go")).final_output)
        except Exception as err:
            await asyncio.to_thread(scene.stage.admin.restore, scene.device)
            return f"failed: {err}"

    return (await Runner.run(Agent("a", model=chat(scene), tools=[function_tool(delegate)]), "go", hooks=hooks(scene))).final_output


async def handed_over(scene: Scene) -> Any:
    """One answer with a tool and a hand-over, whose own callback would run before any hook does."""
    scene.model.script("m", [Call("act", n=0), Call("transfer_to_b")], Say(FINAL))
    scene.model.script("b", Call("act", n=1), Say(FINAL))
    b = Agent("b", model=chat(scene, "b"), tools=[act(scene)])
    over = handoff(b, on_handoff=lambda context: scene.began("hand-over"))
    return (await Runner.run(Agent("a", model=chat(scene), tools=[act(scene)], handoffs=[over]), "go", hooks=hooks(scene))).final_output


async def handed_over_streamed(scene: Scene) -> Any:
    scene.model.script("m", Call("transfer_to_b"))
    scene.model.script("b", Call("act", n=0), Call("transfer_to_c"))
    scene.model.script("c", Call("act", n=1), Say(FINAL))
    c = Agent("c", model=chat(scene, "c"), tools=[act(scene)])
    b = Agent("b", model=chat(scene, "b"), tools=[act(scene)], handoffs=[c])
    result = Runner.run_streamed(Agent("a", model=chat(scene), handoffs=[b]), "go", hooks=hooks(scene))
    async for _ in result.stream_events():
        pass
    return result.final_output


async def during_a_model_call(scene: Scene) -> Any:
    """The end comes while the model thinks of a tool and a hand-over."""
    scene.model.script("m", While(scene.end, [Call("act", n=0), Call("transfer_to_b")]), Say(FINAL))
    scene.model.script("b", Say(FINAL))
    over = handoff(Agent("b", model=chat(scene, "b")), on_handoff=lambda context: scene.began("hand-over"))
    return (await Runner.run(Agent("a", model=chat(scene), tools=[act(scene)], handoffs=[over]), "go", hooks=hooks(scene))).final_output


async def during_a_stream(scene: Scene) -> Any:
    scene.model.script("m", While(scene.end, Call("transfer_to_b")), Say(FINAL))
    scene.model.script("b", Say(FINAL))
    over = handoff(Agent("b", model=chat(scene, "b")), on_handoff=lambda context: scene.began("hand-over"))
    result = Runner.run_streamed(Agent("a", model=chat(scene), handoffs=[over]), "go", hooks=hooks(scene))
    async for _ in result.stream_events():
        pass
    return result.final_output


async def guardrail_with_an_agent(scene: Scene) -> Any:
    """A guardrail that runs an agent, beside the first model call."""
    scene.model.script("judge", Call("act", n=0), Call("act", n=1), Say("fine"))
    scene.model.script("m", Call("act", n=2), Say(FINAL))
    judge = Agent("judge", model=chat(scene, "judge"), tools=[act(scene)])

    async def fine(context: Any, agent: Any, given: Any) -> GuardrailFunctionOutput:
        await Runner.run(judge, "is it fine?")
        return GuardrailFunctionOutput(output_info=None, tripwire_triggered=False)

    agent = Agent("a", model=chat(scene), tools=[act(scene)], input_guardrails=[InputGuardrail(fine, run_in_parallel=False)])
    return (await Runner.run(agent, "go", hooks=hooks(scene))).final_output


async def tool_that_fails(scene: Scene) -> Any:
    """The tool raises; the SDK gives the error to the model, which calls it again."""
    scene.model.script("m", Call("act", n=0), Call("act", n=1), Say(FINAL))

    async def act(n: int) -> str:
        "acts"
        await scene.atool(n)
        raise ValueError("it did not work")

    return (await Runner.run(Agent("a", model=chat(scene), tools=[function_tool(act)]), "go", hooks=hooks(scene))).final_output


async def model_retried(scene: Scene) -> Any:
    """The SDK's own retries of a model call, by its retry policy."""
    scene.model.script("m", Call("act", n=0), Say(FINAL))

    class Flaky(OpenAIChatCompletionsModel):
        tries = 0

        async def get_response(self, *args: Any, **kwargs: Any) -> Any:
            self.tries += 1
            if self.tries % 3:
                scene.began(f"model attempt {self.tries}")
                await asyncio.to_thread(scene.end)
                raise ConnectionError("connection error")
            return await super().get_response(*args, **kwargs)

    settings = ModelSettings(retry=ModelRetrySettings(max_retries=3, backoff={"initial_delay": 0.01}, policy=retry_policies.network_error()))
    agent = Agent("a", model=Flaky("m", openai(scene)), model_settings=settings, tools=[act(scene)])
    return (await Runner.run(agent, "go", hooks=hooks(scene))).final_output


async def with_a_session(scene: Scene) -> Any:
    scene.model.script("m", Call("act", n=0), Call("act", n=1), Say(FINAL))
    agent, session = Agent("a", model=chat(scene), tools=[act(scene)]), SQLiteSession("s")
    try:
        return (await Runner.run(agent, "go", session=session, hooks=hooks(scene))).final_output
    finally:
        session.close()


async def in_the_background(scene: Scene) -> Any:
    """A tool leaves a run behind as a task, which goes on beside the run that began it."""
    scene.model.script("inner", Call("act", n=0), Call("act", n=1), Say("done"))
    scene.model.script("m", Call("start"), Say(FINAL))
    inner, left = Agent("inner", model=chat(scene, "inner"), tools=[act(scene)]), []

    async def start() -> str:
        "starts something"
        left.append(asyncio.create_task(Runner.run(inner, "go")))
        return "started"

    try:
        async with contextlib.AsyncExitStack() as stack:
            if scene.guarded:
                await stack.enter_async_context(OffSwitch(scene.async_client, scene.device).run())
            said = (await Runner.run(Agent("a", model=chat(scene), tools=[function_tool(start)]), "go")).final_output
            await asyncio.gather(*left)
            return said
    finally:
        await asyncio.gather(*left, return_exceptions=True)


async def several(scene: Scene) -> Any:
    """Two runs of one switch at once."""
    both, switch = scene.atogether(2), hooks(scene)

    async def act(n: int) -> str:
        "acts"
        return await both(n)

    def one(name: str) -> Any:
        scene.model.script(name, Call("act", n=0), Call("act", n=1), Say(FINAL))
        return Runner.run(Agent(name, model=chat(scene, name), tools=[function_tool(act)]), "go", hooks=switch)

    said = await asyncio.gather(one("a"), one("b"), return_exceptions=True)
    for error in said:
        if isinstance(error, BaseException):
            raise error
    return said[0].final_output


async def again(scene: Scene) -> Any:
    """A switch whose run was denied serves the next run, when the device may work again."""
    agent, switch = Agent("a", model=chat(scene), tools=[act(scene)]), hooks(scene)
    scene.model.script("m", Call("act", n=0), Call("act", n=1), Say(FINAL))
    if scene.guarded and scene.ends is None:
        scene.ends = REVOKE
        with contextlib.suppress(Denied):
            await Runner.run(agent, "go", hooks=switch)
            return "not denied"
        scene.stage.admin.restore(scene.device)
        scene.model.script("m", Call("act", n=0), Say(FINAL))
    return (await Runner.run(agent, "go", hooks=switch)).final_output


async def in_a_block(scene: Scene) -> Any:
    """async with switch.run(): several runs that are given no hooks."""
    scene.model.script("m", Call("act", n=0), Say("done"))
    scene.model.script("second", Call("act", n=1), Say(FINAL))
    async with contextlib.AsyncExitStack() as stack:
        if scene.guarded:
            await stack.enter_async_context(OffSwitch(scene.async_client, scene.device).run())
        await Runner.run(Agent("a", model=chat(scene), tools=[act(scene)]), "go")
        return (await Runner.run(Agent("b", model=chat(scene, "second"), tools=[act(scene)]), "go")).final_output


def wait(scene: Scene) -> Any:
    """A tool that goes on until it is cancelled, if anything is to cancel it."""

    async def wait() -> str:
        "waits"
        await scene.atool(0)
        if scene.guarded and scene.ends:
            await asyncio.Event().wait()
        scene.began("the rest of the tool")
        return "did"

    return function_tool(wait)


async def interrupted(scene: Scene) -> Any:
    """every=: what is under way is cancelled."""
    scene.model.script("m", Call("wait"), Say(FINAL))
    switch = OffSwitch(scene.async_client, scene.device, every=0.1) if scene.guarded else None
    return (await Runner.run(Agent("a", model=chat(scene), tools=[wait(scene)]), "go", hooks=switch)).final_output


async def interrupted_stream(scene: Scene) -> Any:
    scene.model.script("m", Call("wait"), Say(FINAL))
    switch = OffSwitch(scene.async_client, scene.device, every=0.1) if scene.guarded else None
    result = Runner.run_streamed(Agent("a", model=chat(scene), tools=[wait(scene)]), "go", hooks=switch)
    async for _ in result.stream_events():
        pass
    return result.final_output


async def hooks_of_ones_own(scene: Scene) -> Any:
    """The user's hooks go on being called, of the run and of the agent."""
    scene.model.script("m", Call("act", n=0), Call("act", n=1), Say(FINAL))
    seen: List[str] = []

    class Mine(RunHooks):
        async def on_tool_end(self, context: Any, agent: Any, tool: Any, result: Any) -> None:
            seen.append("run")

    class Theirs(AgentHooks):
        async def on_tool_end(self, context: Any, agent: Any, tool: Any, result: Any) -> None:
            seen.append("agent")

    mine = OffSwitch(scene.async_client, scene.device, hooks=Mine()) if scene.guarded else Mine()
    said = (await Runner.run(Agent("a", model=chat(scene), tools=[act(scene)], hooks=Theirs()), "go", hooks=mine)).final_output
    assert sorted(seen) == ["agent", "agent", "run", "run"], seen
    return said


async def example(scene: Scene) -> Any:
    """examples/openai_agents_run.py."""
    scene.model.script("m", Call("act", n=0), Call("act", n=1), Say(FINAL))
    agent = Agent("a", model=chat(scene), tools=[act(scene)])
    if not scene.guarded:
        return (await Runner.run(agent, "go")).final_output
    return await load("openai_agents_run").run(scene.async_client, scene.device, agent, "go")


async def client_that_retries(scene: Scene) -> Any:
    """The provider's client tries again by itself."""
    scene.model.script("m", While(scene.end, Fail(503)), Fail(503), Say(FINAL))
    return (await Runner.run(Agent("a", model=OpenAIChatCompletionsModel("m", openai(scene, retries=4))), "go", hooks=hooks(scene))).final_output


def block(scene: Scene) -> AsyncContextManager[Any]:
    return OffSwitch(scene.async_client, scene.device).run() if scene.guarded else contextlib.nullcontext()


async def more_than_fit(scene: Scene) -> Any:
    """Plain functions wait for a thread: all are asked for before the first one begins."""
    one_thread()
    scene.model.script("m", [Call("act", n=n) for n in range(6)], Say(FINAL))
    return (await Runner.run(Agent("a", model=chat(scene), tools=[act_sync(scene)]), "go", hooks=hooks(scene))).final_output


async def more_than_fit_streamed(scene: Scene) -> Any:
    one_thread()
    scene.model.script("m", [Call("act", n=n) for n in range(6)], Say(FINAL))
    async with block(scene):
        result = Runner.run_streamed(Agent("a", model=chat(scene), tools=[act_sync(scene)]), "go")
    async for _ in result.stream_events():
        pass
    return result.final_output


async def runner_of_ones_own(scene: Scene) -> Any:
    """A runner that is not the SDK's default one; its run calls the SDK's."""
    from agents import ToolExecutionConfig

    class Own(AgentRunner):
        async def run(self, *args: Any, **options: Any) -> Any:
            return await super().run(*args, **options)

    scene.model.script("m", [Call("act", n=n) for n in range(3)], Say(FINAL))
    config = RunConfig(tool_execution=ToolExecutionConfig(max_function_tool_concurrency=1))
    async with block(scene):
        return (await Own().run(Agent("a", model=chat(scene), tools=[act(scene)]), "go", run_config=config)).final_output


async def runner_of_ones_own_with_hooks(scene: Scene) -> Any:
    scene.model.script("m", Call("act", n=0), Call("act", n=1), Say(FINAL))
    return (await AgentRunner().run(Agent("a", model=chat(scene), tools=[act(scene)]), "go", hooks=hooks(scene))).final_output


async def decorated(scene: Scene) -> Any:
    """A model's stream with a plain decorator. In the play without the adapter the model's classes ask all the same, if anything does."""

    def plain(call: Any) -> Any:
        @functools.wraps(call)
        def decorator(*args: Any, **options: Any) -> Any:
            return call(*args, **options)

        return decorator

    class Decorated(OpenAIChatCompletionsModel):
        @plain
        async def stream_response(self, *args: Any, **options: Any) -> Any:
            async for event in super().stream_response(*args, **options):
                yield event

    scene.model.script("m", Call("act", n=0), Call("act", n=1), Say(FINAL))
    agent = Agent("a", model=Decorated("m", openai(scene)), tools=[act(scene)])
    result = Runner.run_streamed(agent, "go", hooks=hooks(scene))
    async for _ in result.stream_events():
        pass
    return result.final_output


CELLS = [
    Cell("sequential", sequential, EVERY_END),
    Cell("responses API", responses),
    Cell("sync", in_sync_code, EVERY_END),
    Cell("parallel", parallel),
    Cell("parallel, one at a time", one_at_a_time),
    Cell("streamed", streamed, EVERY_END),
    Cell("nested: agent as tool", agent_as_tool, EVERY_END),
    Cell("nested: its answer is the last", agent_as_last_tool),
    Cell("nested, streamed", agents_as_tools_streamed),
    Cell("nested: run in a tool", runs_inside_tools),
    Cell("restored meanwhile", restored_meanwhile),
    Cell("hand-over", handed_over),
    Cell("hand-over, streamed", handed_over_streamed),
    Cell("during a model call", during_a_model_call),
    Cell("during a model call, streamed", during_a_stream),
    Cell("guardrail with an agent", guardrail_with_an_agent),
    Cell("retry: tool that fails", tool_that_fails),
    Cell("retry: model", model_retried),
    Cell("retry: the provider's client", client_that_retries),
    Cell("session", with_a_session),
    Cell("background", in_the_background, varies=True),
    Cell("block of several runs", in_a_block),
    Cell("several at once", several),
    Cell("again", again),
    Cell("interrupted: every=", interrupted),
    Cell("interrupted: every=, streamed", interrupted_stream),
    Cell("hooks of one's own", hooks_of_ones_own),
    Cell("example", example),
    Cell("more than fit", more_than_fit),
    Cell("more than fit, read elsewhere", more_than_fit_streamed),
    Cell("runner of one's own", runner_of_ones_own),
    Cell("runner of one's own, hooks", runner_of_ones_own_with_hooks),
    Cell("decorated", decorated),
]

if __name__ == "__main__":
    main("OpenAI Agents", CELLS, ["openai-agents", "openai"])
