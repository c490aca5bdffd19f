"""The examples, against a real edge and doubles of the frameworks (doubles.py): each lets work run and stops it after a revoke."""

from __future__ import annotations

import queue
import threading
import unittest
from typing import Any, List

from machineid_client import AsyncMachineID, Denied

from . import doubles
from .world import RealServer


class ExamplesTest(RealServer):
    def setUp(self) -> None:
        super().setUp()
        self.agent.register("a")

    def test_worker(self) -> None:
        example = doubles.load("worker")
        steps: List[int] = []

        def three() -> bool:
            steps.append(1)
            return len(steps) < 3

        self.assertEqual(example.work(self.agent, "a", three, every=0.05), 3)

        pause = threading.Event()

        def until_denied() -> bool:
            if len(steps) == 3:
                self.admin.revoke("a")
            steps.append(1)
            pause.wait(0.01)
            return True

        with self.assertRaises(Denied) as caught:
            example.work(self.agent, "a", until_denied, every=0.05)
        self.assertEqual(caught.exception.code, "DEVICE_REVOKED")

    def test_queue_worker(self) -> None:
        example = doubles.load("queue_worker")
        self.agent.register("b")
        jobs: "queue.Queue[Any]" = queue.Queue()
        for n in range(5):
            jobs.put(n)
        done: List[int] = []

        def run(job: int) -> None:
            done.append(job)
            if job == 2:
                self.admin.revoke("a")

        self.assertEqual(example.consume(self.agent, "a", jobs, run), "DEVICE_REVOKED")
        self.assertEqual(done, [0, 1, 2])
        jobs.put(None)
        self.assertEqual(example.consume(self.agent, "b", jobs, done.append), "done")
        self.assertEqual(sorted(done), [0, 1, 2, 3, 4])
        self.assertEqual(jobs.unfinished_tasks, 0)

    def test_langchain(self) -> None:
        example = doubles.load("langchain_callback", **doubles.langchain)
        handler = example.OffSwitch(self.agent, "a")
        done: List[str] = []
        doubles.langchain_run(handler, ["chain", "chat_model", "tool", "llm", "retriever"], done)
        self.assertEqual(len(done), 5)
        self.admin.revoke("a")
        for step in ("chain", "chat_model", "tool", "llm", "retriever"):
            with self.assertRaises(Denied):
                doubles.langchain_run(handler, [step], done)
        self.assertEqual(len(done), 5)

    def test_crewai(self) -> None:
        example = doubles.load("crewai_hooks")
        switch = example.OffSwitch(self.agent, "a")
        self.assertEqual(switch.kickoff(doubles.Crew(switch.step), inputs={}), "result")
        self.assertIsNone(switch.before_tool_call(object()))

        def revoke_then(output: Any) -> None:
            if crew.done == 2:
                self.admin.revoke("a")
            switch.step(output)

        crew = doubles.Crew(revoke_then)
        with self.assertRaises(Denied):
            switch.kickoff(crew)
        self.assertEqual(crew.done, 4)  # two steps, and the first of each of the two attempts that the crew makes by itself
        self.assertIs(switch.before_tool_call(object()), False)
        self.admin.restore("a")
        with self.assertRaises(Denied):  # for good
            switch.kickoff(crew)


class AsyncExamplesTest(RealServer, unittest.IsolatedAsyncioTestCase):
    async def test_openai_agents(self) -> None:
        example = doubles.load("openai_agents_hooks", **doubles.agents)
        async with AsyncMachineID(self.org["orgApiKey"], self.dev.edge) as client:
            await client.register("a")
            hooks, trip = example.OffSwitch(client, "a"), example.guardrail(client, "a")
            done: List[str] = []
            points = ["agent_start", "llm_start", "tool_start", "handoff"]
            await doubles.agents_run(hooks, points, done)
            self.assertEqual(done, points)
            self.assertFalse((await trip(None, None, "hello")).tripwire_triggered)
            await client.revoke("a")
            for point in points:
                with self.assertRaises(Denied):
                    await doubles.agents_run(hooks, [point], done)
            self.assertEqual(done, points)
            self.assertTrue((await trip(None, None, "hello")).tripwire_triggered)

    async def test_autogen(self) -> None:
        example = doubles.load("autogen_termination", **doubles.autogen)
        async with AsyncMachineID(self.org["orgApiKey"], self.dev.edge) as client:
            await client.register("a")
            condition = example.OffSwitch(client, "a")
            done: List[int] = []
            self.assertIsNone(await doubles.team_run(condition, 3, done))
            await client.revoke("a")
            stop = await doubles.team_run(condition, 3, done)
            assert stop is not None
            self.assertIn("DEVICE_REVOKED", stop.content)
            self.assertEqual(len(done), 4)
            with self.assertRaises(doubles.TerminatedException):
                await condition([])
            await condition.reset()
            self.assertFalse(condition.terminated)

