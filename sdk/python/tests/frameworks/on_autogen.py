"""AutoGen AgentChat's cells."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Callable, List, Optional, Sequence

from autogen_agentchat.agents import AssistantAgent, BaseChatAgent, CodeExecutorAgent, SocietyOfMindAgent
from autogen_agentchat.base import Response
from autogen_agentchat.conditions import MaxMessageTermination, TextMentionTermination
from autogen_agentchat.messages import TextMessage
from autogen_agentchat.teams import DiGraphBuilder, GraphFlow, MagenticOneGroupChat, RoundRobinGroupChat, SelectorGroupChat, Swarm
from autogen_agentchat.tools import AgentTool, TeamTool
from autogen_agentchat.ui import Console
from autogen_core import AgentId, CancellationToken, DefaultTopicId, MessageContext, RoutedAgent, SingleThreadedAgentRuntime, TypeSubscription, message_handler
from autogen_core.code_executor import CodeExecutor, CodeResult
from autogen_core.models import UserMessage
from autogen_core.tool_agent import ToolAgent, tool_agent_caller_loop
from autogen_core.tools import FunctionTool, StaticWorkbench
from autogen_ext.models.openai import OpenAIChatCompletionClient
from autogen_ext.models.replay import ReplayChatCompletionClient

from machineid_client import Denied
from machineid_client.integrations.autogen import OffSwitch

from ..test_examples import load
from .model import Call, Fail, Say, While
from .scene import EVERY_END, FINAL, REVOKE, Cell, Scene, main

logging.getLogger("autogen_core").setLevel(logging.CRITICAL)
INFO = {"vision": False, "function_calling": True, "json_output": True, "family": "unknown", "structured_output": False, "multiple_system_messages": True}
END = TextMentionTermination(FINAL)
ACTS = (*[Call("act", n=n) for n in range(4)], Say(FINAL))


def held(scene: Scene, **options: Any) -> Any:
    return OffSwitch(scene.async_client, scene.device, **options).run() if scene.guarded else contextlib.nullcontext()


def model(scene: Scene, name: str, *steps: Any, **options: Any) -> OpenAIChatCompletionClient:
    scene.model.script(name, *steps)
    options.setdefault("max_retries", 0)
    options.setdefault("model_info", INFO)
    return OpenAIChatCompletionClient(model=name, base_url=scene.model_url, api_key="none", **options)


def actor(scene: Scene, name: str = "a", *steps: Any, tools: Optional[List[Any]] = None, **options: Any) -> AssistantAgent:
    """An agent that acts four times in turn, and then says the last answer."""

    async def act(n: int) -> str:
        """Acts."""
        return await scene.atool(n)

    steps = steps or ACTS
    options.setdefault("max_tool_iterations", 10)
    return AssistantAgent(name, model_client=model(scene, name, *steps), tools=tools if tools is not None else [act], **options)


def last(result: Any) -> str:
    return str(result.messages[-1].to_text())


def team(*agents: Any, **options: Any) -> RoundRobinGroupChat:
    return RoundRobinGroupChat(list(agents), termination_condition=TextMentionTermination(FINAL) | MaxMessageTermination(30), **options)


async def sequential(scene: Scene) -> str:
    agent = actor(scene)
    async with held(scene):
        return last(await agent.run(task="go"))


async def in_a_team(scene: Scene) -> str:
    chat = team(actor(scene))
    async with held(scene):
        return last(await chat.run(task="go"))


async def parallel(scene: Scene) -> str:
    together = scene.atogether(3)

    async def act(n: int) -> str:
        """Acts."""
        return await together(n)

    chat = team(actor(scene, "a", [Call("act", n=n) for n in range(3)], Say(FINAL), tools=[act]))
    async with held(scene):
        return last(await chat.run(task="go"))


async def plain_functions(scene: Scene) -> str:
    def act(n: int) -> str:
        """Acts."""
        return scene.tool(n)

    chat = team(actor(scene, tools=[act]))
    async with held(scene):
        return last(await chat.run(task="go"))


async def streamed(scene: Scene) -> str:
    chat = team(actor(scene, model_client_stream=True))
    async with held(scene):
        found = ""
        async for message in chat.run_stream(task="go"):
            found = last(message) if hasattr(message, "stop_reason") else found
        return found


async def console(scene: Scene) -> str:
    chat = team(actor(scene))
    async with held(scene):
        return last(await Console(chat.run_stream(task="go")))


async def read_elsewhere(scene: Scene) -> str:
    """The stream is asked for in the block and read in another task, which knows nothing of it."""
    chat = team(actor(scene))
    streams: "asyncio.Queue[Any]" = asyncio.Queue()

    async def read() -> str:
        return last(await Console(await streams.get()))

    reader = asyncio.ensure_future(read())
    async with held(scene):
        await streams.put(chat.run_stream(task="go"))
        return await reader


async def nested(scene: Scene) -> str:
    inner = actor(scene, "inner")
    outer = actor(scene, "outer", Call("inner", task="go"), Call("inner", task="again"), Say(FINAL), tools=[AgentTool(inner)])
    chat = team(outer)
    async with held(scene):
        return last(await chat.run(task="go"))


async def nested_team(scene: Scene) -> str:
    inner = TeamTool(team(actor(scene, "inner")), name="inner", description="a team")
    outer = actor(scene, "outer", Call("inner", task="go"), Call("inner", task="again"), Say(FINAL), tools=[inner])
    async with held(scene):
        return last(await outer.run(task="go"))


async def team_in_a_team(scene: Scene) -> str:
    inner = RoundRobinGroupChat([actor(scene, "inner", *[Call("act", n=n) for n in range(4)], Say("done"))], max_turns=1, name="innerteam")
    chat = team(inner, actor(scene, "writer", Say(FINAL)))
    async with held(scene):
        return last(await chat.run(task="go"))


async def society(scene: Scene) -> str:
    inner = RoundRobinGroupChat([actor(scene, "inner", *[Call("act", n=n) for n in range(4)], Say("done"))], max_turns=1)
    mind = SocietyOfMindAgent("mind", team=inner, model_client=model(scene, "mind", Say(FINAL)))
    async with held(scene):
        return last(await mind.run(task="go"))


async def handoff(scene: Scene) -> str:
    first = actor(scene, "first", Call("act", n=0), Call("transfer_to_second"), Say("none"), handoffs=["second"])
    second = actor(scene, "second", Call("act", n=1), Call("transfer_to_first"), Say(FINAL), handoffs=["first"])
    third = [first, second]
    scene.model.script("first", Call("act", n=0), Call("transfer_to_second"), Say(FINAL))
    chat = Swarm(third, termination_condition=TextMentionTermination(FINAL) | MaxMessageTermination(30))
    async with held(scene):
        return last(await chat.run(task="go"))


async def selected(scene: Scene) -> str:
    a = actor(scene, "a", Call("act", n=0), Say("more"))
    b = actor(scene, "b", Call("act", n=1), Say(FINAL))
    chat = SelectorGroupChat(
        [a, b], model_client=model(scene, "selector", Say("a"), Say("b")), termination_condition=TextMentionTermination(FINAL) | MaxMessageTermination(30)
    )
    async with held(scene):
        return last(await chat.run(task="go"))


async def graph(scene: Scene) -> str:
    together = scene.atogether(2)

    async def act(n: int) -> str:
        """Acts."""
        return await together(n)

    a, b = (actor(scene, name, Call("act", n=n), Say("done"), tools=[act]) for n, name in enumerate("ab"))
    start, end = actor(scene, "start", Say("go")), actor(scene, "end", Say(FINAL))
    builder = DiGraphBuilder()
    for node in (start, a, b, end):
        builder.add_node(node)
    builder.add_edge(start, a).add_edge(start, b).add_edge(a, end).add_edge(b, end)
    chat = GraphFlow([start, a, b, end], graph=builder.build(), termination_condition=MaxMessageTermination(30))
    async with held(scene):
        result = await chat.run(task="go")
        return " ".join(str(message.to_text()) for message in result.messages)


LEDGER = (
    '{"is_request_satisfied": {"reason": "r", "answer": %s}, "is_progress_being_made": {"reason": "r", "answer": true}, "is_in_loop": {"reason": "r", '
    '"answer": false}, "instruction_or_question": {"reason": "r", "answer": "act"}, "next_speaker": {"reason": "r", "answer": "a"}}'
)


async def magentic(scene: Scene) -> str:
    a = actor(scene, "a", Call("act", n=0), Call("act", n=1), Say("acted"))
    boss = model(scene, "boss", Say("facts"), Say("plan"), Say(LEDGER % "false"), Say(LEDGER % "false"), Say(LEDGER % "true"), Say(FINAL))
    chat = MagenticOneGroupChat([a], model_client=boss)
    async with held(scene):
        return last(await chat.run(task="go"))


async def own_runtime(scene: Scene) -> str:
    """The runtime was started before the block, by somebody who knows nothing of it."""
    runtime = SingleThreadedAgentRuntime()
    runtime.start()
    a = actor(scene, "a", Call("act", n=0), Say("more"))
    chat = SelectorGroupChat(
        [a, actor(scene, "b", Say(FINAL))], model_client=model(scene, "selector", Say("a"), Say("b")),
        termination_condition=TextMentionTermination(FINAL) | MaxMessageTermination(30), runtime=runtime,
    )
    try:
        async with held(scene):
            return last(await chat.run(task="go"))
    finally:
        with contextlib.suppress(BaseException):
            await runtime.stop()


async def own_token(scene: Scene) -> str:
    """One token for the whole program: a denial is of one run alone, and the token cancels what has it."""
    token, over, seen = CancellationToken(), asyncio.Event(), []

    class Waits(ReplayChatCompletionClient):
        async def create(self, *args: Any, **options: Any) -> Any:
            seen.append(options["cancellation_token"])
            await over.wait()
            return await super().create(*args, **options)

    async def beside() -> str:
        switch = OffSwitch(scene.async_client, scene.device + "-beside")
        async with switch.run() if scene.guarded else contextlib.nullcontext():
            return last(await team(AssistantAgent("beside", Waits([FINAL]))).run(task="go", cancellation_token=token))

    scene.stage.admin.register(scene.device + "-beside")
    other, chat = asyncio.ensure_future(beside()), team(actor(scene))
    try:
        async with held(scene):
            return last(await chat.run(task="go", cancellation_token=token))
    finally:
        over.set()
        assert await other == FINAL and not token.is_cancelled()
        token.cancel()
        assert [one.is_cancelled() for one in seen] == [True]


async def workbench(scene: Scene) -> str:
    async def act(n: int) -> str:
        """Acts."""
        return await scene.atool(n)

    bench = StaticWorkbench([FunctionTool(act, description="Acts.")])
    agent = AssistantAgent("a", model_client=model(scene, "a", *ACTS), workbench=bench, max_tool_iterations=10)
    async with held(scene):
        return last(await agent.run(task="go"))


async def reflecting(scene: Scene) -> str:
    agent = actor(scene, "a", Call("act", n=0), Say(FINAL), reflect_on_tool_use=True, max_tool_iterations=1)
    async with held(scene):
        return last(await team(agent).run(task="go"))


async def retried(scene: Scene) -> str:
    """The model is overloaded when the revoke comes, and its client tries again by itself."""

    async def act(n: int) -> str:
        """Acts."""
        return f"did {n}"

    client = model(scene, "a", Call("act", n=0), While(scene.end, Fail(429)), Fail(429), Say(FINAL), max_retries=5)
    agent = AssistantAgent("a", model_client=client, tools=[act], max_tool_iterations=10)
    async with held(scene):
        return last(await team(agent).run(task="go"))


class Runner(CodeExecutor):  # type: ignore[misc]
    """Runs no code, but says so."""

    def __init__(self, scene: Scene) -> None:
        self.scene = scene

    async def execute_code_blocks(self, code_blocks: Sequence[Any], cancellation_token: CancellationToken) -> CodeResult:
        return CodeResult(exit_code=1, output=await self.scene.atool(len(code_blocks)))

    async def start(self) -> None: ...
    async def stop(self) -> None: ...
    async def restart(self) -> None: ...


async def code(scene: Scene) -> str:
    block = Say("```python\nprint(1)\n```")
    retry, enough = (Say('{"reason": "r", "retry": %s}' % more) for more in ("true", "false"))
    client = model(scene, "a", block, retry, block, enough, Say(FINAL), model_info=dict(INFO, structured_output=True))
    agent = CodeExecutorAgent("a", Runner(scene), model_client=client, max_retries_on_error=3)
    async with held(scene):
        return last(await team(agent, actor(scene, "b", Say(FINAL))).run(task="go"))


class Counting(BaseChatAgent):  # type: ignore[misc]
    """An agent without a model: its turns are what begins."""

    def __init__(self, name: str, scene: Scene) -> None:
        super().__init__(name, "counts")
        self.scene, self.turns = scene, 0

    @property
    def produced_message_types(self) -> Sequence[Any]:
        return (TextMessage,)

    async def on_messages(self, messages: Sequence[Any], cancellation_token: CancellationToken) -> Response:
        self.turns += 1
        await self.scene.atool(self.turns)
        return Response(chat_message=TextMessage(content=FINAL if self.turns > 2 else "more", source=self.name))

    async def on_reset(self, cancellation_token: CancellationToken) -> None: ...


async def own_agents(scene: Scene) -> str:
    chat = team(Counting("a", scene), Counting("b", scene))
    async with held(scene):
        return last(await chat.run(task="go"))


async def background(scene: Scene) -> str:
    """The run is begun in the block and goes on behind its end."""
    chat = team(actor(scene))
    async with held(scene):
        task = asyncio.ensure_future(chat.run(task="go"))
        await asyncio.sleep(0)
    return last(await task)


async def several(scene: Scene) -> str:
    """Two runs of one switch at once: the denial of one device ends both, each with its own Denied."""
    switch = OffSwitch(scene.async_client, scene.device)
    together = scene.atogether(2)

    async def act(n: int) -> str:
        """Acts."""
        return await together(n)

    async def one(name: str) -> str:
        async with switch.run() if scene.guarded else contextlib.nullcontext():
            return last(await team(actor(scene, name, tools=[act])).run(task="go"))

    results = await asyncio.gather(one("a"), one("b"), return_exceptions=True)
    for result in results:
        if isinstance(result, BaseException):
            raise result
    assert type(results[0]) is type(results[1])
    return " ".join(map(str, results))


def from_plain_code(scene: Scene) -> str:
    """A plain block around an event loop of its own."""
    chat = team(actor(scene))
    with held(scene):
        return last(asyncio.run(chat.run(task="go")))


async def late_classes(scene: Scene) -> str:
    """The model's class is made in the block: as when its module is imported there."""
    scene.model.script("a", *ACTS)

    async def act(n: int) -> str:
        """Acts."""
        return await scene.atool(n)

    async with held(scene):

        class Late(OpenAIChatCompletionClient):  # type: ignore[misc]
            async def create(self, *args: Any, **options: Any) -> Any:
                scene.began("late model")
                return await super().create(*args, **options)

        client = Late(model="a", base_url=scene.model_url, api_key="none", model_info=INFO, max_retries=0)
        return last(await team(AssistantAgent("a", model_client=client, tools=[act], max_tool_iterations=10)).run(task="go"))


async def example(scene: Scene) -> str:
    """examples/autogen_team.py."""
    chat = team(actor(scene))
    if scene.guarded:
        return str(await load("autogen_team").run(scene.async_client, scene.device, chat, "go"))
    return last(await chat.run(task="go"))


async def interrupted(scene: Scene) -> str:
    """The revoke comes while a tool waits for something that does not come: the watch ends it."""

    async def act(n: int) -> str:
        """Acts."""
        did = await scene.atool(n)
        if scene.guarded and scene.ends:
            await asyncio.Event().wait()
        return did

    chat = team(actor(scene, tools=[act]))
    async with held(scene, every=0.1):
        return last(await chat.run(task="go"))


async def interrupted_model(scene: Scene) -> str:
    """The revoke comes while the model thinks for ever."""

    def think() -> None:
        scene.end()
        if scene.guarded and scene.ends:
            scene.over.wait()

    agent = actor(scene, "a", Call("act", n=0), While(think, Call("act", n=1)), Say(FINAL), tools=[quiet])
    async with held(scene, every=0.1):
        return last(await team(agent).run(task="go"))


async def quiet(n: int) -> str:
    """Acts, and ends nothing."""
    return f"did {n}"


def during(steps: Callable[[Scene], List[Any]], **options: Any) -> Any:
    """The revoke comes while the model answers with these steps: what is denied first is what they call."""

    async def body(scene: Scene) -> str:
        agents = [actor(scene, "a", *steps(scene), **options), actor(scene, "second", Say(FINAL))]
        chat = Swarm(agents, termination_condition=TextMentionTermination(FINAL) | MaxMessageTermination(30))
        async with held(scene):
            return last(await chat.run(task="go"))

    return body


def again(**options: Any) -> Any:
    """A team that was denied works again when it may, if it is reset."""

    async def body(scene: Scene) -> str:
        denied = scene.guarded and scene.ends is None
        waits = [denied and bool(options)]

        async def act(n: int) -> str:
            """Acts."""
            did = await scene.atool(n)
            if waits[0]:
                await asyncio.Event().wait()
            return did

        chat = team(actor(scene, tools=[act]))
        if denied:
            scene.ends = REVOKE
            with contextlib.suppress(Denied):
                async with held(scene, **options):
                    return "not denied: " + last(await chat.run(task="go"))
            waits[0] = False
            scene.stage.admin.unrevoke(scene.device)
            await chat.reset()
            scene.model.script("a", Call("act", n=0), Say(FINAL))
        async with held(scene):
            return last(await chat.run(task="go"))

    return body


async def more_than_fit(scene: Scene) -> str:
    """More plain functions in one answer than there are threads: two begin, the others wait."""
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(2))
    begun, together = itertools.count(), scene.together(2)

    def act(n: int) -> str:
        """Acts."""
        return together(n) if next(begun) < 2 else scene.tool(n)

    agent = actor(scene, "a", [Call("act", n=n) for n in range(6)], Say(FINAL), tools=[act])
    async with held(scene):
        return last(await agent.run(task="go"))


async def coroutines_that_block(scene: Scene) -> str:
    """Coroutines in one answer that hold the event loop up: the first one ends the permission."""

    async def act(n: int) -> str:
        """Acts."""
        return scene.tool(n)

    agent = actor(scene, "a", [Call("act", n=n) for n in range(4)], Say(FINAL), tools=[act])
    async with held(scene):
        return last(await agent.run(task="go"))


async def run_in_a_plain_tool(scene: Scene) -> str:
    """A plain function, which AutoGen runs in a thread, has another agent run, and goes on after what comes of it."""

    async def act(n: int) -> str:
        """Acts."""
        return await scene.atool(n)

    def delegate(task: str) -> str:
        """Delegates."""
        inner = actor(scene, "inner", Call("act", n=0), Call("act", n=1), Say("done"), tools=[act])
        try:
            return last(asyncio.run(inner.run(task=task)))
        except Exception as error:
            return f"failed: {error}"

    outer = actor(scene, "outer", Call("delegate", task="x"), Call("delegate", task="y"), Say(FINAL), tools=[delegate])
    async with held(scene):
        return last(await team(outer).run(task="go"))


async def model_in_a_plain_tool(scene: Scene) -> str:
    """A plain function that calls the provider's own client."""
    import openai

    scene.model.script("other", Say("thought"))

    def think(n: int) -> str:
        """Thinks."""
        scene.tool(n)
        client = openai.OpenAI(base_url=scene.model_url, api_key="none", max_retries=0)
        with contextlib.suppress(Exception):
            client.chat.completions.create(model="other", messages=[{"role": "user", "content": "go"}])
        return "thought"

    agent = actor(scene, "a", Call("think", n=0), Say(FINAL), tools=[think])
    async with held(scene):
        return last(await agent.run(task="go"))


async def turn_read_elsewhere(scene: Scene) -> str:
    """One turn's stream, asked for in the block and read behind its end."""
    agent = actor(scene)
    async with held(scene):
        items = agent.on_messages_stream([TextMessage(content="go", source="user")], CancellationToken())
    said = [item async for item in items]
    return str(said[-1].chat_message.to_text())


async def model_read_elsewhere(scene: Scene) -> str:
    client = model(scene, "m", Say(FINAL))
    async with held(scene):
        await scene.atool()
        items = client.create_stream([UserMessage(content="go", source="user")])
    said = [item async for item in items]
    return str(said[-1].content)


class Iterator:
    """An asynchronous iterator that is no generator."""

    def __init__(self, items: Any) -> None:
        self.items = items

    def __aiter__(self) -> Any:
        return self

    async def __anext__(self) -> Any:
        return await self.items.__anext__()


async def own_iterator(scene: Scene) -> str:
    """A user's own model, whose stream cannot be closed."""

    class Own(OpenAIChatCompletionClient):  # type: ignore[misc]
        def create_stream(self, *args: Any, **options: Any) -> Any:
            return Iterator(super().create_stream(*args, **options))

    scene.model.script("a", *ACTS)
    client = Own(model="a", base_url=scene.model_url, api_key="none", model_info=INFO, max_retries=0)

    async def act(n: int) -> str:
        """Acts."""
        return await scene.atool(n)

    agent = AssistantAgent("a", model_client=client, model_client_stream=True, tools=[act], max_tool_iterations=10)
    async with held(scene):
        return last(await agent.run(task="go"))


@dataclass
class Go:
    n: int


class Core(RoutedAgent):  # type: ignore[misc]
    """An agent of AutoGen's core, without AgentChat: its messages are what begins. It hands on to the other one, and answers."""

    def __init__(self, scene: Scene, other: str = "") -> None:
        super().__init__("acts")
        self.scene, self.other = scene, other

    @message_handler  # type: ignore[untyped-decorator]
    async def on(self, message: Go, ctx: MessageContext) -> Go:
        await self.scene.atool(message.n)
        if self.other and message.n < 4:
            await self.publish_message(Go(message.n + 1), DefaultTopicId(type=self.other))
        return Go(message.n + 1)


def core_published(*, started_before: bool) -> Any:
    async def body(scene: Scene) -> str:
        """Agents of AutoGen's core that publish to each other; the runtime may have been started by somebody who knows nothing of the block."""
        runtime = SingleThreadedAgentRuntime()
        for name, other in ("xy", "yx"):
            await Core.register(runtime, name, lambda other=other: Core(scene, other))
            await runtime.add_subscription(TypeSubscription(topic_type=name, agent_type=name))
        if started_before:
            runtime.start()
        async with held(scene):
            if not started_before:
                runtime.start()
            await runtime.publish_message(Go(0), DefaultTopicId(type="x"))
            await runtime.stop_when_idle()
            return FINAL

    return body


def core_sent(*, started_before: bool) -> Any:
    async def body(scene: Scene) -> str:
        """Messages to an agent of AutoGen's core, each after the answer to the one before."""
        runtime = SingleThreadedAgentRuntime()
        await Core.register(runtime, "x", lambda: Core(scene))
        if started_before:
            runtime.start()
        try:
            async with held(scene):
                if not started_before:
                    runtime.start()
                message = Go(0)
                while message.n < 4:
                    message = await runtime.send_message(message, AgentId("x", "default"))
                return FINAL
        finally:
            await runtime.stop()

    return body


async def core_tools(scene: Scene) -> str:
    """An agent of AutoGen's core that has tools."""

    async def act(n: int) -> str:
        """Acts."""
        return await scene.atool(n)

    tools = [FunctionTool(act, description="Acts.")]
    runtime = SingleThreadedAgentRuntime()
    await ToolAgent.register(runtime, "tools", lambda: ToolAgent("has tools", tools))
    runtime.start()
    try:
        async with held(scene):
            said = await tool_agent_caller_loop(
                runtime, AgentId("tools", "default"), model(scene, "a", *ACTS),
                [UserMessage(content="go", source="user")], tools,
            )
            return str(said[-1].content)
    finally:
        await runtime.stop()


CELLS = [
    Cell("sequential", sequential, EVERY_END), Cell("in a team", in_a_team, EVERY_END), Cell("parallel", parallel), Cell("plain functions", plain_functions),
    Cell("streamed", streamed), Cell("console", console), Cell("read elsewhere", read_elsewhere), Cell("nested: agent as a tool", nested),
    Cell("nested: team as a tool", nested_team), Cell("nested: team in a team", team_in_a_team), Cell("nested: society of mind", society),
    Cell("hand-over: Swarm", handoff), Cell("hand-over: SelectorGroupChat", selected), Cell("hand-over: GraphFlow", graph, varies=True),
    Cell("hand-over: MagenticOne", magentic), Cell("own runtime", own_runtime), Cell("own token", own_token), Cell("workbench", workbench),
    Cell("reflecting", reflecting), Cell("retry on", retried), Cell("code", code), Cell("own agents", own_agents), Cell("background", background),
    Cell("several at once", several, varies=True), Cell("interrupted: tool", interrupted),
    Cell("interrupted: model", interrupted_model), Cell("again", again()), Cell("again, interrupted", again(every=0.1)),
    Cell("from plain code", from_plain_code),
    Cell("late classes", late_classes), Cell("example", example),
    Cell("during a model call: tool", during(lambda scene: [While(scene.end, Call("act", n=0)), Say(FINAL)])),
    Cell("during a model call: tools", during(lambda scene: [While(scene.end, [Call("act", n=0), Call("act", n=1)]), Say(FINAL)])),
    Cell("during a model call: hand-over", during(lambda scene: [While(scene.end, Call("transfer_to_second")), Say(FINAL)], handoffs=["second"])),
    Cell("during a model call: one turn", during(lambda scene: [While(scene.end, Call("act", n=0)), Say(FINAL)], max_tool_iterations=1)),
    Cell("parallel: more than fit", more_than_fit), Cell("parallel: coroutines that block", coroutines_that_block), Cell("plain functions: a run inside", run_in_a_plain_tool),
    Cell("plain functions: a model inside", model_in_a_plain_tool), Cell("read elsewhere: one turn", turn_read_elsewhere),
    Cell("read elsewhere: a model", model_read_elsewhere), Cell("a stream of one's own", own_iterator),
    Cell("core: published", core_published(started_before=False)), Cell("core: published, own runtime", core_published(started_before=True)), Cell("core: sent", core_sent(started_before=False)),
    Cell("core: sent, own runtime", core_sent(started_before=True), EVERY_END), Cell("core: tools, own runtime", core_tools),
]

if __name__ == "__main__":
    main("autogen", CELLS, ["autogen-agentchat", "autogen-core", "autogen-ext", "openai"])
