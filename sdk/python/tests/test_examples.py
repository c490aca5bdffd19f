"""The examples without a framework, against a real edge: each lets work run and stops it after a revoke. tests/frameworks has the others."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import threading
import unittest
from pathlib import Path
from typing import Any, List, Mapping

from machineid_client import Denied, Refused

from .world import PATIENT, RealServer, free_address

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"


def load(name: str) -> Any:
    spec = importlib.util.spec_from_file_location("example_" + name, EXAMPLES / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class ExamplesTest(RealServer):
    def setUp(self) -> None:
        super().setUp()
        self.agent.register("a")

    def run_example(self, name: str, *args: str, edge: str = "", env: Mapping[str, str] = {}) -> "subprocess.CompletedProcess[str]":
        """Runs an example as people do; it must not end in a traceback."""
        env = {**os.environ, "MACHINEID_ORG_KEY": self.org["agentKey"], "MACHINEID_BASE_URL": edge or self.dev.edge, "PYTHONPATH": str(EXAMPLES.parent), **env}
        done = subprocess.run(
            [sys.executable, "-B", str(EXAMPLES / f"{name}.py"), *args], env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, encoding="utf-8", timeout=4 * PATIENT
        )
        self.assertNotIn("Traceback", done.stderr)
        return done

    def test_worker(self) -> None:
        example = load("worker")
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

    def test_a_worker_that_cannot_start_says_why(self) -> None:
        self.admin.revoke("a")
        down = "http://" + free_address()
        for args, edge in (("a", ""), ("b", down)):
            done = self.run_example("worker", args, edge=edge)
            self.assertEqual(done.returncode, 1)
            self.assertRegex(done.stderr, "^(stopped|cannot start): ")
            self.assertEqual(done.stdout, "")

    def test_queue_worker(self) -> None:
        example = load("queue_worker")
        self.agent.register("b")
        jobs, done = example.Jobs(range(5)), []

        def run(job: int) -> None:
            done.append(job)
            if job == 2:
                self.admin.revoke("a")

        self.assertEqual(example.consume(self.agent, "a", jobs, run), "DEVICE_REVOKED")
        self.assertEqual(done, [0, 1, 2])
        self.assertEqual(jobs.left(), 2)
        self.assertEqual(example.consume(self.agent, "b", jobs, done.append), "done")
        self.assertEqual(done, [0, 1, 2, 3, 4])  # in their order: what came back was the next one
        self.assertEqual(jobs.left(), 0)

    def test_a_worker_waits_for_jobs_that_may_come_back(self) -> None:
        example = load("queue_worker")
        jobs, done, ended = example.Jobs([1]), [], []
        job = jobs.take()  # the last one, and nobody knows yet whether it will be done
        other = threading.Thread(target=lambda: ended.append(example.consume(self.agent, "a", jobs, done.append)))
        other.start()
        jobs.back(job)
        other.join(PATIENT)
        self.assertEqual((ended, done), (["done"], [1]))

    def test_a_job_that_fails_is_not_lost(self) -> None:
        example = load("queue_worker")
        jobs = example.Jobs([1])

        def fail(job: int) -> None:
            raise ValueError("the job fails")

        with self.assertRaises(ValueError):
            example.consume(self.agent, "a", jobs, fail)
        self.assertEqual(jobs.left(), 1)

    def test_queue_workers_that_cannot_start_leave_the_jobs_to_the_others(self) -> None:
        self.admin.revoke("a")
        done = self.run_example("queue_worker", "a", "b")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual(sorted(map(int, done.stdout.split())), list(range(20)))
        self.assertIn("b: done", done.stderr)
        done = self.run_example("queue_worker", "a")
        self.assertEqual((done.returncode, done.stdout), (1, ""))
        self.assertIn("20 jobs are left", done.stderr)
        done = self.run_example("queue_worker", "a", "b", edge="http://" + free_address())
        self.assertEqual((done.returncode, done.stdout), (1, ""))

    def test_newcomers_at_the_plans_limit_are_told_what_to_do(self) -> None:
        for name in ("b", "c"):  # "a" has a seat already, and a new org has three
            self.agent.register(name)
        for example, begins in (("worker", "cannot start: device_limit_reached: "), ("queue_worker", "newcomer: device_limit_reached: ")):
            done = self.run_example(example, "newcomer")
            self.assertEqual((done.returncode, done.stdout), (1, ""))
            self.assertTrue(done.stderr.startswith(begins), done.stderr)
            self.assertIn("larger plan", done.stderr)
        with self.assertRaises(Refused):
            load("worker").work(self.agent, "newcomer", lambda: self.fail("the work began"))

    def test_a_key_or_an_address_that_is_none_is_told_of(self) -> None:
        for env in ({"MACHINEID_ORG_KEY": ""}, {"MACHINEID_ORG_KEY": "a key"}, {"MACHINEID_BASE_URL": "127.0.0.1:8080"}):
            for example in ("worker", "queue_worker"):
                done = self.run_example(example, "a", env=env)
                self.assertEqual((done.returncode, done.stdout), (1, ""))
                self.assertTrue(done.stderr.startswith("cannot start: "), done.stderr)
