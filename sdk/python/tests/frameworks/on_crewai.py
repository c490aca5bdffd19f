"""CrewAI's cells."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
from concurrent.futures import ThreadPoolExecutor
from typing import Any, List, Optional

os.environ.update(OTEL_SDK_DISABLED="true", CREWAI_DISABLE_TELEMETRY="true", CREWAI_TRACING_ENABLED="false", CREWAI_TESTING="true", OPENAI_API_KEY="none")

from crewai import LLM, Agent, Crew, Process, Task  # noqa: E402
from crewai.flow.flow import Flow, listen, start  # noqa: E402
from crewai.llms.base_llm import BaseLLM  # noqa: E402
from crewai.llms.providers.openai.completion import OpenAICompletion  # noqa: E402
from crewai.tools import BaseTool, tool  # noqa: E402
from pydantic import BaseModel  # noqa: E402

from machineid_client import Denied  # noqa: E402
from machineid_client.integrations.crewai import OffSwitch  # noqa: E402

from ..test_examples import load  # noqa: E402
from .model import Call, Fail, Say, While  # noqa: E402
from .scene import EVERY_END, FINAL, REVOKE, Cell, Scene, main  # noqa: E402


def held(scene: Scene, **options: Any) -> Any:
    return OffSwitch(scene.client, scene.device, **options).run() if scene.guarded else contextlib.nullcontext()


class Text(OpenAICompletion):  # type: ignore[misc]
    """A model without native tool calling: it writes what it wants to do."""

    def supports_function_calling(self) -> bool:
        return False


def llm(scene: Scene, name: str, *steps: Any, kind: Any = LLM, **options: Any) -> Any:
    scene.model.script(name, *steps)
    options.setdefault("max_retries", 0)
    return kind(model=name if kind is Text else f"openai/{name}", base_url=scene.model_url, api_key="none", **options)


def act_of(scene: Scene, **options: Any) -> Any:
    @tool("act", **options)
    def act(n: int) -> str:
        """Acts."""
        return scene.tool(n)

    return act


def act_together(scene: Scene, count: int) -> Any:
    together = scene.together(count)

    @tool("act")
    def act(n: int) -> str:
        """Acts."""
        return together(n)

    return act


FOUR = [Call("act", n=n) for n in range(4)]


def actor(scene: Scene, name: str = "a", *steps: Any, tools: Optional[List[Any]] = None, model: Any = None, **options: Any) -> Agent:
    steps = steps or (*FOUR, Say(FINAL))
    return Agent(
        role=name, goal="g", backstory="b", tools=[act_of(scene)] if tools is None else tools,
        llm=model if model is not None else llm(scene, name, *steps), **options
    )


def task(agent: Optional[Agent], **options: Any) -> Task:
    return Task(description="d", expected_output="x", agent=agent, **options)


def crew(*agents: Agent, **options: Any) -> Crew:
    return Crew(agents=list(agents), tasks=options.pop("tasks", None) or [task(agent) for agent in agents], **options)


def of(*agents: Any, **options: Any) -> Any:
    """A body: a crew of these actors' steps, by kickoff."""

    def body(scene: Scene) -> str:
        made = [make(scene) for make in agents]
        with held(scene):
            return str(crew(*made, **options).kickoff())

    return body


def aof(method: str) -> Any:
    async def body(scene: Scene) -> str:
        made = crew(actor(scene))
        async with held(scene):
            return str(await getattr(made, method)())

    return body


sequential = of(actor)


def parallel(scene: Scene) -> str:
    made = crew(actor(scene, "a", [Call("act", n=n) for n in range(3)], Say(FINAL), tools=[act_together(scene, 3)]))
    with held(scene):
        return str(made.kickoff())


def write(n: int) -> Say:
    return Say(f'Thought: I have to act\nAction: act\nAction Input: {{"n": {n}}}')


def text(scene: Scene) -> str:
    model = llm(scene, "a", *[write(n) for n in range(4)], Say(f"Thought: I now can give a great answer\nFinal Answer: {FINAL}"), kind=Text)
    made = crew(actor(scene, model=model))
    with held(scene):
        return str(made.kickoff())


async def text_async(scene: Scene) -> str:
    model = llm(scene, "a", *[write(n) for n in range(4)], Say(f"Thought: I now can give a great answer\nFinal Answer: {FINAL}"), kind=Text)
    made = crew(actor(scene, model=model))
    async with held(scene):
        return str(await made.akickoff())


def async_tool(scene: Scene) -> str:
    @tool("act")
    async def act(n: int) -> str:
        """Acts."""
        return await scene.atool(n)

    made = crew(actor(scene, tools=[act]))
    with held(scene):
        return str(made.kickoff())


def streamed(scene: Scene) -> str:
    made = crew(actor(scene, model=llm(scene, "a", *FOUR, Say(FINAL), stream=True)), stream=True)
    with held(scene):
        output = made.kickoff()
        for _ in output:
            pass
        return str(output.result)


async def streamed_async(scene: Scene) -> str:
    made = crew(actor(scene, model=llm(scene, "a", *FOUR, Say(FINAL), stream=True)), stream=True)
    async with held(scene):
        output = await made.akickoff()
        async for _ in output:
            pass
        return str(output.result)


def read_elsewhere(scene: Scene) -> str:
    """The stream is begun in the block and read behind its end."""
    made = crew(actor(scene, model=llm(scene, "a", *FOUR, Say(FINAL), stream=True)), stream=True)
    with held(scene):
        output = made.kickoff()
    for _ in output:
        pass
    return str(output.result)


def next_task(scene: Scene) -> str:
    a = actor(scene, "a", Call("act", n=0), Say("done"))
    made = crew(a, actor(scene, "b", Call("act", n=1), Say(FINAL)))
    with held(scene):
        return str(made.kickoff())


def background(scene: Scene) -> str:
    """Tasks of async_execution, in threads of CrewAI's."""
    a, b = actor(scene, "a", *FOUR, Say("done")), actor(scene, "b", Say(FINAL))
    first = task(a, async_execution=True)
    made = crew(a, b, tasks=[first, task(b, context=[first])])
    with held(scene):
        return str(made.kickoff())


async def background_async(scene: Scene) -> str:
    a, b = actor(scene, "a", *FOUR, Say("done")), actor(scene, "b", Say(FINAL))
    first = task(a, async_execution=True)
    made = crew(a, b, tasks=[first, task(b, context=[first])])
    async with held(scene):
        return str(await made.akickoff())


def hierarchical(scene: Scene) -> str:
    worker = actor(scene, "worker", Call("act", n=0), Say("done"))
    delegate = Call("delegate_work_to_coworker", task="t", context="c", coworker="worker")
    boss = llm(scene, "boss", delegate, delegate, Say(FINAL))
    made = Crew(agents=[worker], tasks=[task(None)], process=Process.hierarchical, manager_llm=boss)
    with held(scene):
        return str(made.kickoff())


def delegating(scene: Scene) -> str:
    ask = Call("ask_question_to_coworker", question="q", context="c", coworker="other")
    a = actor(scene, "a", ask, Call("act", n=1), Say(FINAL), allow_delegation=True)
    other = actor(scene, "other", Call("act", n=0), Say("done"))
    made = crew(a, other, tasks=[task(a)])
    with held(scene):
        return str(made.kickoff())


def nested(scene: Scene) -> str:
    """A crew in a tool of another crew."""
    inner = actor(scene, "inner")

    @tool("sub")
    def sub(n: int) -> str:
        """Has another crew act."""
        return str(crew(inner).kickoff())

    made = crew(actor(scene, "a", Call("sub", n=0), Call("sub", n=1), Say(FINAL), tools=[sub]))
    with held(scene):
        return str(made.kickoff())


def retry_on(scene: Scene) -> str:
    """The task fails and is begun again, twice by default."""
    fails: List[int] = []

    class Broken(OpenAICompletion):  # type: ignore[misc]
        def call(self, *args: Any, **options: Any) -> Any:
            answer = super().call(*args, **options)
            if len(fails) < 2 and not isinstance(answer, list):
                fails.append(1)
                raise ValueError("the scene says so")
            return answer

    scene.model.script("a", Call("act", n=0), Say("no"), Call("act", n=1), Say("no"), Call("act", n=2), Say(FINAL))
    made = crew(actor(scene, model=Broken(model="a", base_url=scene.model_url, api_key="none")))
    with held(scene):
        return str(made.kickoff())


def overloaded(scene: Scene) -> str:
    """The model is overloaded when the revoke comes, and its client tries again by itself."""
    made = crew(actor(scene, model=llm(scene, "a", Call("act", n=0), While(scene.end, Fail(503)), Fail(503), Say(FINAL), max_retries=5), tools=[quiet]))
    with held(scene):
        return str(made.kickoff())


def throttled(scene: Scene) -> str:
    """The same, and CrewAI itself tries again."""
    made = crew(actor(scene, model=llm(scene, "a", Call("act", n=0), While(scene.end, Fail(429)), Say(FINAL)), tools=[quiet]))
    with held(scene):
        return str(made.kickoff())


@tool("act")
def quiet(n: int) -> str:
    """Acts, and ends nothing."""
    return f"did {n}"


def guardrail(scene: Scene) -> str:
    seen: List[str] = []

    def strict(output):  # type: ignore[no-untyped-def]  # CrewAI wants exactly its own annotation, or none
        seen.append(str(output))
        return (len(seen) > 2, output.raw if len(seen) > 2 else "once more")

    a = actor(scene, "a", Call("act", n=0), Say("no"), Say("no"), Say(FINAL))
    made = crew(a, tasks=[task(a, guardrail=strict)])
    with held(scene):
        return str(made.kickoff())


def planned(scene: Scene) -> str:
    planner = llm(scene, "planner", Say('{"list_of_plans_per_task": [{"task_number": 1, "task": "d", "plan": "act"}]}'))
    made = crew(actor(scene), planning=True, planning_llm=planner)
    with held(scene):
        return str(made.kickoff())


def for_each(scene: Scene) -> str:
    made = crew(actor(scene, "a", Call("act", n=0), Say(FINAL), Call("act", n=1), Say(FINAL)))
    with held(scene):
        return " ".join(map(str, made.kickoff_for_each(inputs=[{}, {}])))


async def for_each_async(scene: Scene) -> str:
    made = crew(actor(scene, "a", Call("act", n=0), Call("act", n=1), Say(FINAL), tools=[act_together(scene, 2)]))
    async with held(scene):
        return " ".join(map(str, await made.akickoff_for_each(inputs=[{}, {}])))


class Answer(BaseModel):
    text: str


def converted(scene: Scene) -> str:
    """The answer is made an object of, by another model call."""
    a = actor(scene, "a", Call("act", n=0), Say("words"), Say('{"text": "%s"}' % FINAL))
    made = crew(a, tasks=[task(a, output_pydantic=Answer)])
    with held(scene):
        return str(made.kickoff())


async def converted_async(scene: Scene) -> str:
    a = actor(scene, "a", Call("act", n=0), Say("words"), Say('{"text": "%s"}' % FINAL))
    made = crew(a, tasks=[task(a, output_pydantic=Answer)])
    async with held(scene):
        return str(await made.akickoff())


def answer_of_a_tool(scene: Scene) -> str:
    """The tool's result is the task's; then comes another task."""
    a = actor(scene, "a", Call("act", n=0), tools=[act_of(scene, result_as_answer=True)])
    made = crew(a, actor(scene, "b", Say(FINAL)))
    with held(scene):
        return str(made.kickoff())


def alone(scene: Scene) -> str:
    """An agent without a crew."""
    agent = actor(scene)
    with held(scene):
        return str(agent.kickoff("go"))


async def alone_async(scene: Scene) -> str:
    agent = actor(scene)
    async with held(scene):
        return str(await agent.kickoff_async("go"))


def flow_of(scene: Scene) -> Any:
    class Steps(Flow):  # type: ignore[misc, type-arg]
        @start()
        def one(self) -> str:
            return scene.tool(1)

        @listen(one)
        async def two(self, before: str) -> str:
            return await scene.atool(2)

        @listen(two)
        def three(self, before: str) -> str:
            scene.tool(3)
            return FINAL

    return Steps()


def flow(scene: Scene) -> str:
    made = flow_of(scene)
    with held(scene):
        return str(made.kickoff())


async def flow_async(scene: Scene) -> str:
    made = flow_of(scene)
    async with held(scene):
        return str(await made.kickoff_async())


def flow_with_crews(scene: Scene) -> str:
    a, b = actor(scene, "a", *FOUR, Say("done")), actor(scene, "b", Say(FINAL))

    class Steps(Flow):  # type: ignore[misc, type-arg]
        @start()
        def one(self) -> str:
            return str(crew(a).kickoff())

        @listen(one)
        def two(self, before: str) -> str:
            return str(crew(b).kickoff())

    with held(scene):
        return str(Steps().kickoff())


class Own(BaseLLM):  # type: ignore[misc]
    """A user's own model: it calls no hooks."""

    scene: Any = None

    def call(self, messages: Any, *args: Any, **options: Any) -> str:
        self.scene.began("own model")
        return str(messages and FINAL)


def own_model(scene: Scene) -> str:
    """Calls of a model beside all agents."""
    model = Own(model="own", scene=scene)
    with held(scene):
        model.call("go")
        scene.tool(0)
        with contextlib.suppress(Exception):
            model.call("go")
        return str(model.call("go"))


def during(*steps: Any, **options: Any) -> Any:
    """The revoke comes while the model answers with these steps: what is denied first is what they call."""

    def body(scene: Scene) -> str:
        first, *rest = steps
        made = crew(actor(scene, "a", While(scene.end, first), *rest), actor(scene, "b", Say(FINAL)))
        with held(scene):
            return str(made.kickoff())

    return body


def several(scene: Scene) -> str:
    """Two runs of one switch at once, in threads."""
    switch = OffSwitch(scene.client, scene.device)
    act = act_together(scene, 2)

    def one(name: str) -> str:
        made = crew(actor(scene, name, tools=[act]))
        with switch.run() if scene.guarded else contextlib.nullcontext():
            return str(made.kickoff())

    with ThreadPoolExecutor(2) as pool:
        results = [pool.submit(one, name) for name in "ab"]
        errors = [result.exception() for result in results]
        for error in errors:
            if error is not None:
                raise error
        return " ".join(result.result() for result in results)


def more_than_fit(scene: Scene) -> str:
    """More parallel calls than CrewAI has threads for: the first eight begin, the others wait."""
    together = scene.together(8)

    @tool("act")
    def act(n: int) -> str:
        """Acts."""
        return together(n) if n < 8 else scene.tool(n)

    made = crew(actor(scene, "a", [Call("act", n=n) for n in range(12)], Say(FINAL), tools=[act]))
    with held(scene):
        return str(made.kickoff())


def again(scene: Scene) -> str:
    """A crew that was denied works again when it may."""
    made = crew(actor(scene))
    if scene.guarded and scene.ends is None:
        scene.ends = REVOKE
        with contextlib.suppress(Denied):
            with held(scene):
                return "not denied: " + str(made.kickoff())
        scene.stage.admin.unrevoke(scene.device)
        scene.model.script("a", Call("act", n=0), Say(FINAL))
    with held(scene):
        return str(made.kickoff())


def remembering(scene: Scene) -> str:
    """A crew with a memory, which the model keeps in the background."""
    embedder = {"provider": "openai", "config": {"api_key": "none", "api_base": scene.model_url, "model_name": "embedder"}}
    a = actor(scene, "a", Call("act", n=0), Say("done"))
    made = crew(a, actor(scene, "b", Say(FINAL)), memory=True, embedder=embedder)
    with held(scene):
        return str(made.kickoff())


def reasoned(scene: Scene) -> str:
    """The agent makes itself a plan before it acts, and has each step judged."""
    plan = Call("create_reasoning_plan", plan="act", steps=[], ready=True)
    model = llm(scene, "a", plan, Call("act", n=0), Call("act", n=1), Say(FINAL), Say(FINAL))
    made = crew(actor(scene, model=model, reasoning=True))
    with held(scene):
        return str(made.kickoff())


def late_classes(scene: Scene) -> str:
    """The model's class is made in the block: as when its module is imported there."""
    with held(scene):

        class Late(Own):
            def call(self, messages: Any, *args: Any, **options: Any) -> str:
                return super().call(messages, *args, **options)

        model = Late(model="late", scene=scene)
        scene.tool(0)
        return str(model.call("go"))


def cleared(scene: Scene) -> str:
    """Somebody cleared all hooks between two runs."""
    from crewai.hooks.dispatch import clear_all

    clear_all()
    return str(sequential(scene))


def example(scene: Scene) -> str:
    """examples/crewai_crew.py."""
    made = crew(actor(scene))
    return str(load("crewai_crew").run(scene.client, scene.device, made) if scene.guarded else made.kickoff())


async def interrupted(scene: Scene) -> str:
    """The revoke comes while a step of a flow waits for something that does not come: the watch ends it."""

    class Steps(Flow):  # type: ignore[misc, type-arg]
        @start()
        async def one(self) -> str:
            did = await scene.atool(1)
            if scene.guarded and scene.ends:
                await asyncio.Event().wait()
            return did

        @listen(one)
        async def two(self, before: str) -> str:
            await scene.atool(2)
            return FINAL

    async with held(scene, every=0.1):
        return str(await Steps().kickoff_async())


def starts(count: int, act: Any) -> Any:
    """A flow that begins with this many steps at once, plain functions."""

    def step(n: int) -> Any:
        def one(self: Any) -> str:
            act(n)
            return FINAL

        one.__name__ = f"step{n}"
        return start()(one)

    return type("Starts", (Flow,), {f"step{n}": step(n) for n in range(count)})()


def threads_of_steps(scene: Scene, threads: int) -> Any:
    begun, together = itertools.count(), scene.together(threads)
    return lambda n: together(n) if next(begun) < threads else scene.tool(n)


def more_steps_than_fit(scene: Scene) -> str:
    """More first steps of a flow than asyncio has threads: those that fit begin, the others wait."""
    threads = min(32, (getattr(os, "process_cpu_count", os.cpu_count)() or 1) + 4)
    made = starts(threads + 4, threads_of_steps(scene, threads))
    with held(scene):
        return str(made.kickoff())


async def more_steps_than_fit_async(scene: Scene) -> str:
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(2))
    made = starts(6, threads_of_steps(scene, 2))
    async with held(scene):
        return str(await made.kickoff_async())


def tools_in_a_flow(scene: Scene) -> str:
    """A flow's step that calls tools by itself, without an agent."""
    act = act_of(scene)

    class Steps(Flow):  # type: ignore[misc, type-arg]
        @start()
        def one(self) -> str:
            for n in range(3):
                with contextlib.suppress(Exception):
                    act.run(n=n)
            return FINAL

    with held(scene):
        return str(Steps().kickoff())


async def tools_in_a_flow_async(scene: Scene) -> str:
    @tool("act")
    async def act(n: int) -> str:
        """Acts."""
        return await scene.atool(n)

    class Steps(Flow):  # type: ignore[misc, type-arg]
        @start()
        async def one(self) -> str:
            for n in range(3):
                with contextlib.suppress(Exception):
                    await act.arun(n=n)
            return FINAL

    async with held(scene):
        return str(await Steps().kickoff_async())


def tools_of_ones_own(scene: Scene) -> str:
    """The same with a class of tools."""

    class Act(BaseTool):  # type: ignore[misc]
        name: str = "act"
        description: str = "Acts."

        def _run(self, n: int) -> str:
            return scene.tool(n)

    act = Act()
    with held(scene):
        for n in range(3):
            with contextlib.suppress(Exception):
                act.run(n=n)
        return FINAL


async def crew_in_a_text_tool(scene: Scene) -> str:
    """CrewAI hands a text tool to a thread: what runs there is part of the run."""
    inner = actor(scene, "inner", Call("act", n=0), Call("act", n=1), Say("done"))

    @tool("sub")
    def sub(n: int) -> str:
        """Has another crew act."""
        try:
            return str(crew(inner).kickoff())
        except Exception as error:
            return f"failed: {error}"

    calls = [Say(f'Thought: I have to act\nAction: sub\nAction Input: {{"n": {n}}}') for n in range(2)]
    model = llm(scene, "a", *calls, Say(f"Thought: I now can give a great answer\nFinal Answer: {FINAL}"), kind=Text)
    made = crew(actor(scene, model=model, tools=[sub]))
    async with held(scene):
        return str(await made.akickoff())


def aduring(*steps: Any) -> Any:
    async def body(scene: Scene) -> str:
        first, *rest = steps
        made = crew(actor(scene, "a", While(scene.end, first), *rest), actor(scene, "b", Say(FINAL)))
        async with held(scene):
            return str(await made.akickoff())

    return body


async def text_during(scene: Scene) -> str:
    model = llm(scene, "a", While(scene.end, write(0)), Say(f"Thought: I now can give a great answer\nFinal Answer: {FINAL}"), kind=Text)
    made = crew(actor(scene, model=model))
    async with held(scene):
        return str(await made.akickoff())


CELLS = [
    Cell("sequential", sequential, EVERY_END), Cell("async: akickoff", aof("akickoff"), EVERY_END), Cell("async: kickoff_async", aof("kickoff_async")),
    Cell("parallel", parallel), Cell("text tools", text), Cell("text tools, async", text_async), Cell("async tool", async_tool), Cell("streamed", streamed),
    Cell("streamed, async", streamed_async), Cell("read elsewhere", read_elsewhere), Cell("next task", next_task), Cell("background", background),
    Cell("background, async", background_async), Cell("hand-over: hierarchical", hierarchical), Cell("hand-over: delegation", delegating),
    Cell("nested", nested), Cell("retry on", retry_on), Cell("retry on: overloaded", overloaded), Cell("retry on: throttled", throttled),
    Cell("guardrail", guardrail), Cell("planning", planned), Cell("for each", for_each), Cell("for each, async", for_each_async),
    Cell("converted", converted), Cell("converted, async", converted_async), Cell("a tool's answer", answer_of_a_tool), Cell("agent alone", alone),
    Cell("agent alone, async", alone_async), Cell("flow", flow), Cell("flow, async", flow_async, EVERY_END), Cell("flow with crews", flow_with_crews),
    Cell("own model", own_model), Cell("during a model call: tool", during(Call("act", n=0), Say("done"))),
    Cell("during a model call: tools", during([Call("act", n=0), Call("act", n=1)], Say("done"))),
    Cell("during a model call: answer", during(Say("done"))), Cell("several at once", several, varies=True), Cell("interrupted", interrupted), Cell("parallel: more than fit", more_than_fit), Cell("again", again),
    Cell("reasoning", reasoned), Cell("memory", remembering, varies=True), Cell("late classes", late_classes),
    Cell("hooks were cleared", cleared), Cell("example", example),
    Cell("flow: more steps than fit", more_steps_than_fit), Cell("flow: more steps than fit, async", more_steps_than_fit_async),
    Cell("flow: tools", tools_in_a_flow), Cell("flow: tools, async", tools_in_a_flow_async, EVERY_END), Cell("tools of one's own", tools_of_ones_own),
    Cell("nested: crew in a text tool", crew_in_a_text_tool),
    Cell("during a model call: tool, async", aduring(Call("act", n=0), Say("done"))),
    Cell("during a model call: tools, async", aduring([Call("act", n=0), Call("act", n=1)], Say("done"))),
    Cell("during a model call: text tool, async", text_during),
]

if __name__ == "__main__":
    main("crewai", CELLS, ["crewai", "openai"])
