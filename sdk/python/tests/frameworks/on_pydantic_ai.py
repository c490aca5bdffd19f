"""Cells of Pydantic AI."""

from __future__ import annotations

import asyncio
import contextlib
import functools
from concurrent.futures import ThreadPoolExecutor
from typing import Any, AsyncContextManager, List

import anyio
from openai import AsyncOpenAI
from pydantic_ai import Agent, ModelRetry, TextOutput
from pydantic_ai.direct import model_request
from pydantic_ai.embeddings import Embedder
from pydantic_ai.embeddings.test import TestEmbeddingModel
from pydantic_ai.messages import ModelRequest, ModelResponse, TextPart
from pydantic_ai.models.fallback import FallbackModel
from pydantic_ai.models.function import FunctionModel
from pydantic_ai.models.openai import OpenAIChatModel, OpenAIResponsesModel
from pydantic_ai.providers.openai import OpenAIProvider
from pydantic_graph import GraphBuilder, StepContext

from machineid_client import Denied
from machineid_client.integrations.pydantic_ai import OffSwitch

from .model import Call, Fail, Say, While
from .scene import EVERY_END, FINAL, REVOKE, SILENCE, Cell, Scene, main


def chat(scene: Scene, name: str = "m", retries: int = 0) -> OpenAIChatModel:
    return OpenAIChatModel(name, provider=OpenAIProvider(openai_client=AsyncOpenAI(base_url=scene.model_url, api_key="none", max_retries=retries)))


def held(scene: Scene, **options: Any) -> List[Any]:
    return [OffSwitch(scene.async_client, scene.device, **options)] if scene.guarded else []


def agent(scene: Scene, name: str = "m", *tools: Any, **options: Any) -> Agent:
    if "capabilities" not in options:
        options["capabilities"] = held(scene)
    return Agent(chat(scene, name), tools=list(tools) or [act(scene)], **options)


def act(scene: Scene) -> Any:
    async def act(n: int) -> str:
        return await scene.atool(n)

    return act


def act_sync(scene: Scene) -> Any:
    def act(n: int) -> str:
        return scene.tool(n)

    return act


def calls(scene: Scene, count: int = 2, name: str = "m", text: str = FINAL) -> None:
    scene.model.script(name, *[Call("act", n=i) for i in range(count)], Say(text))


async def sequential(scene: Scene) -> Any:
    calls(scene, 3)
    return (await agent(scene).run("go")).output


async def responses(scene: Scene) -> Any:
    calls(scene)
    model = OpenAIResponsesModel("m", provider=OpenAIProvider(openai_client=AsyncOpenAI(base_url=scene.model_url, api_key="none")))
    return (await Agent(model, tools=[act(scene)], capabilities=held(scene)).run("go")).output


def in_sync_code(scene: Scene) -> Any:
    calls(scene)
    asyncio.set_event_loop(asyncio.new_event_loop())
    return agent(scene, "m", act_sync(scene)).run_sync("go").output


async def streamed(scene: Scene) -> Any:
    calls(scene)
    async with agent(scene).run_stream("go") as result:
        return [text async for text in result.stream_text()][-1]


async def streamed_events(scene: Scene) -> Any:
    calls(scene)
    last: Any = None
    async with agent(scene).run_stream_events("go") as events:
        async for last in events:
            pass
    return last.result.output


async def step_by_step(scene: Scene) -> Any:
    """iter: the caller goes from node to node."""
    calls(scene)
    async with agent(scene).iter("go") as run:
        async for _ in run:
            pass
        return run.result.output


async def parallel(scene: Scene) -> Any:
    scene.model.script("m", [Call("act", n=i) for i in range(3)], Say(FINAL))
    tool = scene.atogether(3)

    async def act(n: int) -> str:
        return await tool(n)

    return (await agent(scene, "m", act).run("go")).output


async def one_at_a_time(scene: Scene) -> Any:
    scene.model.script("m", [Call("act", n=i) for i in range(3)], Say(FINAL))
    made = agent(scene)
    with made.parallel_tool_call_execution_mode("sequential"):
        return (await made.run("go")).output


async def agent_in_a_tool(scene: Scene) -> Any:
    """The inner agent has no capability, and the tool catches what comes of it."""
    calls(scene, 2, "inner", "done")
    scene.model.script("m", Call("delegate"), Call("delegate"), Say(FINAL))
    inner = agent(scene, "inner", capabilities=[])

    async def delegate() -> str:
        try:
            return str((await inner.run("go")).output)
        except Exception as err:
            return f"failed: {err}"

    return (await agent(scene, "m", delegate).run("go")).output


async def streaming_agent_in_a_tool(scene: Scene) -> Any:
    calls(scene, 2, "inner", "done")
    scene.model.script("m", Call("delegate"), Call("delegate"), Say(FINAL))
    inner = agent(scene, "inner", capabilities=[])

    async def delegate() -> str:
        try:
            async with inner.run_stream("go") as result:
                return str(await result.get_output())
        except Exception as err:
            return f"failed: {err}"

    return (await agent(scene, "m", delegate).run("go")).output


async def restored_meanwhile(scene: Scene) -> Any:
    """The first denial is kept: a tool swallows it, and the device may work again before the run asks next."""
    calls(scene, 2, "inner", "done")
    scene.model.script("m", Call("delegate"), Call("delegate"), Say(FINAL))
    inner = agent(scene, "inner", capabilities=[])

    async def delegate() -> str:
        try:
            return str((await inner.run("go")).output)
        except Exception as err:
            await asyncio.to_thread(scene.stage.admin.restore, scene.device)
            return f"failed: {err}"

    return (await agent(scene, "m", delegate).run("go")).output


async def handed_over(scene: Scene) -> Any:
    """An output function that hands over to another agent."""
    scene.model.script("m", Call("act", n=0), Call("final_result", query="x"))
    scene.model.script("b", Say(FINAL))
    other = agent(scene, "b", capabilities=[])

    async def hand_over(query: str) -> str:
        scene.began("hand-over")
        return str((await other.run(query)).output)

    return (await agent(scene, output_type=hand_over).run("go")).output


async def text_function(scene: Scene) -> Any:
    """An output function of plain text: it begins after the model's last word, in which the end comes."""
    scene.model.script("m", While(scene.end, Say(FINAL)))

    async def last_step(text: str) -> str:
        scene.began("output function")
        return text

    return (await agent(scene, output_type=TextOutput(last_step)).run("go")).output


async def during_a_model_call(scene: Scene) -> Any:
    """The end comes while the model thinks of its tools."""
    scene.model.script("m", While(scene.end, [Call("act", n=0), Call("act", n=1)]), Say(FINAL))
    return (await agent(scene).run("go")).output


async def tool_that_fails(scene: Scene) -> Any:
    """The tool asks to be called again, as its retries allow."""
    calls(scene, 3)

    async def act(n: int) -> str:
        await scene.atool(n)
        if n < 2:
            raise ModelRetry("it did not work")
        return "did"

    return (await agent(scene, "m", act, retries=5).run("go")).output


async def output_that_fails(scene: Scene) -> Any:
    scene.model.script("m", Say("1"), Say("2"), Say(FINAL))
    made = agent(scene, retries=5)

    @made.output_validator
    async def valid(text: str) -> str:
        if text == FINAL:
            return text
        await scene.atool()
        raise ModelRetry("again")

    return (await made.run("go")).output


async def fallback(scene: Scene) -> Any:
    """A model that falls back to another one on any error."""
    scene.model.script("m", While(scene.end, Fail(500)))
    scene.model.script("other", Say(FINAL))
    model = FallbackModel(chat(scene), chat(scene, "other"), fallback_on=(Exception,))
    return (await Agent(model, capabilities=held(scene)).run("go")).output


async def client_that_retries(scene: Scene) -> Any:
    scene.model.script("m", While(scene.end, Fail(500)), Say(FINAL))
    return (await Agent(chat(scene, retries=2), capabilities=held(scene)).run("go")).output


async def model_of_ones_own(scene: Scene) -> Any:
    """A tool that asks a model without an agent."""
    scene.model.script("m", Call("think"), Say(FINAL))
    scene.model.script("other", Say("done"))

    async def think() -> str:
        await scene.atool()
        with contextlib.suppress(Exception):
            await model_request(chat(scene, "other"), [ModelRequest.user_text_prompt("go")])
        return "thought"

    return (await agent(scene, "m", think).run("go")).output


async def in_the_background(scene: Scene) -> Any:
    """A tool leaves a run behind as a task, which goes on beside the run that began it."""
    calls(scene, 2, "inner", "done")
    scene.model.script("m", Call("start"), Say(FINAL))
    inner, left = agent(scene, "inner", capabilities=[]), []

    async def start() -> str:
        left.append(asyncio.create_task(inner.run("go")))
        return "started"

    try:
        async with contextlib.AsyncExitStack() as stack:
            if scene.guarded:
                await stack.enter_async_context(OffSwitch(scene.async_client, scene.device).run())
            said = (await agent(scene, "m", start, capabilities=[]).run("go")).output
            await asyncio.gather(*left)
            return said
    finally:
        await asyncio.gather(*left, return_exceptions=True)


async def several(scene: Scene) -> Any:
    """Two runs of one capability at once."""
    both, capabilities = scene.atogether(2), held(scene)

    async def act(n: int) -> str:
        return await both(n)

    def one(name: str) -> Any:
        calls(scene, 2, name)
        return agent(scene, name, act, capabilities=capabilities).run("go")

    said = await asyncio.gather(one("a"), one("b"), return_exceptions=True)
    for error in said:
        if isinstance(error, BaseException):
            raise error
    return said[0].output


async def again(scene: Scene) -> Any:
    """An agent whose run was denied serves the next run, when the device may work again."""
    assert len({OffSwitch(scene.client, "a"), OffSwitch(scene.client, "b")}) == 2  # no dataclass without fields
    made = agent(scene)
    calls(scene)
    if scene.guarded and scene.ends is None:
        scene.ends = REVOKE
        with contextlib.suppress(Denied):
            await made.run("go")
            return "not denied"
        scene.stage.admin.restore(scene.device)
        calls(scene)
    return (await made.run("go")).output


async def in_a_block(scene: Scene) -> Any:
    """async with switch.run(): no agent has the capability."""
    calls(scene)
    async with contextlib.AsyncExitStack() as stack:
        if scene.guarded:
            await stack.enter_async_context(OffSwitch(scene.async_client, scene.device).run())
        await agent(scene, capabilities=[]).run("go")
        return (await agent(scene, capabilities=[]).run("go")).output


def waits(scene: Scene) -> Any:
    async def wait() -> str:
        await scene.atool()
        if scene.guarded and scene.ends:
            await asyncio.Event().wait()
        scene.began("the rest of the tool")
        return "did"

    return wait


async def interrupted(scene: Scene) -> Any:
    """every=: what is under way is cancelled."""
    scene.model.script("m", Call("wait"), Say(FINAL))
    return (await agent(scene, "m", waits(scene), capabilities=held(scene, every=0.1)).run("go")).output


async def interrupted_stream(scene: Scene) -> Any:
    scene.model.script("m", Call("wait"), Say(FINAL))
    async with agent(scene, "m", waits(scene), capabilities=held(scene, every=0.1)).run_stream("go") as result:
        return await result.get_output()


def block(scene: Scene) -> AsyncContextManager[Any]:
    return OffSwitch(scene.async_client, scene.device).run() if scene.guarded else contextlib.nullcontext()


async def more_than_fit(scene: Scene) -> Any:
    """Plain functions wait for a thread: all are asked for before the first one begins."""
    anyio.to_thread.current_default_thread_limiter().total_tokens = 1
    scene.model.script("m", [Call("act", n=n) for n in range(6)], Say(FINAL))
    return (await agent(scene, "m", act_sync(scene)).run("go")).output


async def more_than_fit_pool(scene: Scene) -> Any:
    scene.model.script("m", [Call("act", n=n) for n in range(6)], Say(FINAL))
    with ThreadPoolExecutor(1) as pool, Agent.using_thread_executor(pool):
        return (await agent(scene, "m", act_sync(scene)).run("go")).output


async def more_models_than_fit(scene: Scene) -> Any:
    """Models that are plain functions."""
    anyio.to_thread.current_default_thread_limiter().total_tokens = 1

    def say(messages: Any, info: Any) -> ModelResponse:
        scene.tool()
        return ModelResponse(parts=[TextPart(FINAL)])

    made = Agent(FunctionModel(say))
    async with block(scene):
        said = await asyncio.gather(*[made.run("go") for _ in range(6)])
    return said[0].output


async def read_elsewhere(scene: Scene) -> Any:
    """Events that are asked for in the block, and read behind it."""
    calls(scene)
    async with block(scene):
        asked = agent(scene, capabilities=[]).run_stream_events("go")
    last: Any = None
    async with asked as events:
        async for last in events:
            pass
    return last.result.output


async def embeddings(scene: Scene) -> Any:
    class Own(TestEmbeddingModel):
        async def embed(self, *args: Any, **options: Any) -> Any:
            scene.began("embedding")
            return await super().embed(*args, **options)

    embedder = Embedder(Own())
    async with block(scene):
        await scene.atool()
        await embedder.embed_documents(["go"])
        return FINAL


def plain(call: Any) -> Any:
    @functools.wraps(call)
    def decorator(*args: Any, **options: Any) -> Any:
        return call(*args, **options)

    return decorator


async def decorated(scene: Scene) -> Any:
    """A model's request with a plain decorator: the event loop goes on while it asks."""

    class Decorated(OpenAIChatModel):
        @plain
        async def request(self, *args: Any, **options: Any) -> Any:
            return await super().request(*args, **options)

    calls(scene)
    model = Decorated("m", provider=OpenAIProvider(openai_client=AsyncOpenAI(base_url=scene.model_url, api_key="none", max_retries=0)))
    return (await Agent(model, tools=[act(scene)], capabilities=held(scene)).run("go")).output


async def graph_of_ones_own(scene: Scene) -> Any:
    """pydantic_graph: steps that act."""
    graph = GraphBuilder(output_type=str)

    @graph.step
    async def first(context: StepContext) -> str:
        return await scene.atool()

    @graph.step
    async def second(context: StepContext) -> str:
        scene.began("step")
        return FINAL

    edges = [graph.edge_from(graph.start_node).to(first), graph.edge_from(first).to(second), graph.edge_from(second).to(graph.end_node)]
    graph.add(*edges)
    async with block(scene):
        return await graph.build().run()


CELLS = [
    Cell("sequential", sequential, EVERY_END),
    Cell("responses API", responses),
    Cell("sync", in_sync_code, EVERY_END),
    Cell("streamed", streamed, EVERY_END),
    Cell("streamed, as events", streamed_events),
    Cell("step by step", step_by_step),
    Cell("parallel", parallel),
    Cell("parallel, one at a time", one_at_a_time),
    Cell("nested: agent in a tool", agent_in_a_tool, EVERY_END),
    Cell("nested: streaming agent in a tool", streaming_agent_in_a_tool),
    Cell("nested: model in a tool", model_of_ones_own),
    Cell("restored meanwhile", restored_meanwhile),
    Cell("hand-over", handed_over),
    Cell("during a model call", during_a_model_call),
    Cell("output function of text", text_function),
    Cell("retry: tool that fails", tool_that_fails),
    Cell("retry: output that fails", output_that_fails),
    Cell("retry: fallback models", fallback),
    Cell("retry: the provider's client", client_that_retries),
    Cell("background", in_the_background, varies=True),
    Cell("block without capabilities", in_a_block),
    Cell("several at once", several),
    Cell("again", again),
    Cell("interrupted: every=", interrupted),
    Cell("interrupted: every=, streamed", interrupted_stream),
    Cell("more than fit", more_than_fit),
    Cell("more than fit: own pool", more_than_fit_pool),
    Cell("more than fit: models", more_models_than_fit),
    Cell("read elsewhere", read_elsewhere),
    Cell("embeddings", embeddings),
    Cell("decorated", decorated, (REVOKE, SILENCE)),
    Cell("graph of one's own", graph_of_ones_own),
]

if __name__ == "__main__":
    main("Pydantic AI", CELLS, ["pydantic-ai-slim", "openai"])
