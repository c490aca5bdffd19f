"""The asyncio client: the same calls and rules, and tasks that are cancelled."""

from __future__ import annotations

import asyncio
import inspect
import sys
import threading
import time
import unittest
from typing import Any, List
from unittest import mock

from machineid_client import AsyncMachineID, Denied, MachineID, Refused, Unavailable, _async, _async_guard

from .calls import CALLS
from .scripted import Scripted, allow, bare, close, deny, hang, http
from .test_validate import BROKEN
from .world import PATIENT, RealServer

YES, NO = http(200, allow()), http(200, deny())


def client(server: Scripted, **options: Any) -> AsyncMachineID:
    options.setdefault("retries", 0)
    return AsyncMachineID("org_test", server.url, **options)


class AsyncCallsTest(unittest.IsolatedAsyncioTestCase):
    async def test_every_call(self) -> None:
        for row in CALLS:
            answer = {"handler": row.target.partition("?")[0], **row.answer}
            with self.subTest(row.name, args=row.args), Scripted(http(200, answer)) as server:
                async with client(server) as c:
                    self.assertEqual(bare(await getattr(c, row.name)(*row.args, **row.options)), answer)
                    sent = server.requests[0]
                    self.assertEqual((sent.method, sent.target, sent.body), (row.method, "/api/v1/" + row.target, row.body))

    async def test_the_same_names_and_parameters(self) -> None:
        for name, value in vars(MachineID).items():
            if name.startswith("_") or name == "bound" or not callable(getattr(MachineID, name)):
                continue
            with self.subTest(name):
                mine, other = inspect.signature(getattr(AsyncMachineID, name)), inspect.signature(getattr(MachineID, name))
                self.assertEqual(list(mine.parameters.values()), list(other.parameters.values()))

    async def test_broken_answers_deny(self) -> None:
        for name, answer in BROKEN.items():
            with self.subTest(name), Scripted(answer) as server:
                async with client(server, timeout=5) as c:
                    got = await c.validate("a")
                    self.assertEqual((got["allowed"], got["code"]), (False, "SYSTEM_UNAVAILABLE"))

    async def test_pages(self) -> None:
        first = http(200, {"handler": "devices/list", "devices": [{"deviceId": "x"}], "nextCursor": "c"})
        last = http(200, {"handler": "devices/list", "devices": [{"deviceId": "y"}]})
        with Scripted(first, last) as server:
            async with client(server) as c:
                self.assertEqual([d["deviceId"] async for d in c.iter_devices(page=1)], ["x", "y"])

    async def test_a_cancelled_call_frees_its_thread(self) -> None:
        with mock.patch.object(_async, "MAX_THREADS", 1), Scripted(hang, YES) as server:
            async with client(server, timeout=600) as c:
                task = asyncio.ensure_future(c.validate("a"))
                await asyncio.get_running_loop().run_in_executor(None, server.await_requests, 1)
                task.cancel()
                with self.assertRaises(asyncio.CancelledError):
                    await task
                self.assertTrue((await asyncio.wait_for(c.validate("a"), PATIENT))["allowed"])

    async def test_waiting_for_a_thread_counts(self) -> None:
        with mock.patch.object(_async, "MAX_THREADS", 1), Scripted(hang) as server:
            async with client(server, timeout=0.5) as c:
                began = time.monotonic()
                answers = await asyncio.gather(*(c.validate("a") for _ in range(20)))
                self.assertEqual({a["error"] for a in answers}, {"timeout"})
                self.assertLess(time.monotonic() - began, 5)  # and not 20 * 0.5 s

    async def test_it_is_of_use_after_close(self) -> None:
        with Scripted(YES) as server:
            async with client(server) as c:
                await c.close()
                self.assertTrue((await c.validate("a"))["allowed"])
            self.assertNotIn("org_test", repr(c))

    async def test_no_thread_to_be_had(self) -> None:
        with Scripted(YES) as server:
            async with client(server) as c:
                with mock.patch.object(_async, "ThreadPoolExecutor", side_effect=RuntimeError("can't start new thread")):
                    self.assertFalse((await c.validate("a"))["allowed"])
                    self.assertEqual([d["allowed"] for d in (await c.validate_batch(["a", "b"]))["decisions"]], [False, False])
                    for call in (c.revoke("a"), c.usage(), c.validate("a", raise_on_error=True)):
                        with self.assertRaises(Unavailable) as caught:
                            await call
                        self.assertEqual((caught.exception.code, caught.exception.outcome), ("client_error", "unknown"))
                with mock.patch("threading.Thread.start", side_effect=RuntimeError("can't start new thread")):
                    answer = await c.validate("a")
                    self.assertEqual((answer["allowed"], answer["error"]), (False, "client_error"))
                self.assertEqual(server.requests, [])


class AsyncGuardTest(unittest.IsolatedAsyncioTestCase):
    async def test_the_block(self) -> None:
        with Scripted(YES, NO) as server:
            async with client(server) as c:
                with self.assertRaises(Denied):
                    async with c.guard("a") as permit:
                        await permit.check()
                        self.fail("went on")

    async def test_a_denied_block_does_not_begin(self) -> None:
        for answer in (NO, close):
            for every in (None, 60):
                with Scripted(answer) as server:
                    async with client(server) as c:
                        with self.assertRaises(Denied):
                            async with c.guard("a", every=every):
                                self.fail("the work began")

    async def test_a_denial_interrupts_what_the_block_awaits(self) -> None:
        with Scripted(YES, YES, NO) as server:
            async with client(server) as c:
                done: List[str] = []
                with self.assertRaises(Denied) as caught:
                    async with c.guard("a", every=0.01):
                        done.append("began")
                        await asyncio.sleep(600)
                        done.append("went on")
                self.assertEqual((done, caught.exception.code), (["began"], "DEVICE_REVOKED"))
                self.assertEqual(getattr(asyncio.current_task(), "cancelling", int)(), 0)
                await asyncio.sleep(0)  # the task itself is not cancelled: nothing is raised here
                self.assertEqual([t for t in asyncio.all_tasks() if t is not asyncio.current_task()], [])

    async def test_work_that_swallows_the_cancellation(self) -> None:
        with Scripted(YES, NO) as server:
            async with client(server) as c:
                with self.assertRaises(Denied):
                    async with c.guard("a", every=0.01):
                        try:
                            await asyncio.sleep(600)
                        except asyncio.CancelledError:
                            pass

    async def test_work_that_makes_an_error_of_its_own_of_the_cancellation(self) -> None:
        """As drivers do: the caller hears of the denial, and finds the error as its cause."""

        class Aborted(Exception):
            pass

        async def work(ends: BaseException) -> None:
            try:
                await asyncio.sleep(600)
            except asyncio.CancelledError:
                raise ends from None

        for ends in (Aborted(), OSError(), asyncio.TimeoutError()):
            with Scripted(YES, NO) as server:
                async with client(server) as c:
                    with self.assertRaises(Denied) as caught:
                        async with c.guard("a", every=0.01):
                            await work(ends)
                    self.assertEqual(caught.exception.code, "DEVICE_REVOKED")
                    self.assertIs(caught.exception.__cause__, ends)
                    self.assertEqual(getattr(asyncio.current_task(), "cancelling", int)(), 0)
        with Scripted(YES, NO) as server:
            async with client(server) as c:
                with self.assertRaises(GeneratorExit):  # what ends more than the work goes first
                    async with c.guard("a", every=0.01):
                        await work(GeneratorExit())

    async def test_somebody_elses_cancellation_stays_one(self) -> None:
        with Scripted(YES) as server:
            async with client(server) as c:
                began = asyncio.Event()

                async def work() -> None:
                    async with c.guard("a", every=60):
                        began.set()
                        await asyncio.sleep(600)

                task = asyncio.ensure_future(work())
                await began.wait()
                task.cancel()
                with self.assertRaises(asyncio.CancelledError):
                    await task

    async def test_a_denial_and_somebody_elses_cancellation_at_once(self) -> None:
        interrupt = _async_guard.AsyncPermit._interrupt

        def both(permit: Any, decision: Any) -> None:
            interrupt(permit, decision)
            task.cancel()

        with Scripted(YES, NO) as server, mock.patch.object(_async_guard.AsyncPermit, "_interrupt", both):
            async with client(server) as c:

                async def work() -> None:
                    async with c.guard("a", every=0.01):
                        await asyncio.sleep(600)

                task = asyncio.ensure_future(work())
                with self.assertRaises(asyncio.CancelledError if sys.version_info >= (3, 11) else Denied):
                    await task

    async def test_the_works_own_error_goes_through(self) -> None:
        with Scripted(YES) as server:
            async with client(server) as c:
                with self.assertRaises(KeyError):
                    async with c.guard("a", every=60):
                        raise KeyError

    async def test_the_decorator(self) -> None:
        with Scripted(YES, NO) as server:
            async with client(server) as c:

                @c.guard("a")
                async def work(x: int) -> int:
                    return x + 1

                self.assertEqual(await work(1), 2)
                with self.assertRaises(Denied):
                    await work(1)
                with self.assertRaisesRegex(TypeError, "MachineID's"):
                    c.guard("a")(lambda: None)

    async def test_watch(self) -> None:
        with Scripted(YES, NO, close, YES, hang) as server:
            async with client(server, timeout=600) as c:
                said: List[str] = []
                back = asyncio.Event()

                async def told(decision: Any) -> None:
                    said.append(decision["code"])
                    if len(said) == 3:
                        back.set()

                watch = c.watch("a", every=0.01, on_denied=told, on_allowed=told)
                self.assertRaises(Denied, watch.checkpoint)
                async with watch:
                    await asyncio.wait_for(back.wait(), PATIENT)
                    watch.checkpoint()
                    await asyncio.get_running_loop().run_in_executor(None, server.await_requests, 5)
                self.assertEqual(said, ["ALLOW", "DEVICE_REVOKED", "ALLOW"])
                self.assertFalse(watch.allowed)
                self.assertEqual([t for t in asyncio.all_tasks() if t is not asyncio.current_task()], [])


class AsyncServerTest(RealServer, unittest.IsolatedAsyncioTestCase):
    async def test_many_tasks_never_get_each_others_answers(self) -> None:
        async with AsyncMachineID(self.org["orgApiKey"], self.dev.edge) as c:
            await c.register("yes")

            async def ask(i: int) -> None:
                device_id = "yes" if i % 2 else f"no-{i}"
                answer = await c.validate(device_id)
                self.assertEqual((answer["allowed"], answer["deviceId"]), (device_id == "yes", device_id))

            await asyncio.gather(*(ask(i) for i in range(500)))
            self.assertLessEqual(sum(t.name.startswith("machineid_") for t in threading.enumerate()), 32)

    async def test_a_revoke_interrupts_work(self) -> None:
        async with AsyncMachineID(self.org["orgApiKey"], self.dev.edge) as c:
            await c.register("a")

            @c.guard("a", every=0.05)
            async def work() -> None:
                await c.revoke("a")
                await asyncio.sleep(600)

            with self.assertRaises(Denied) as caught:
                await asyncio.wait_for(work(), PATIENT)
            self.assertEqual(caught.exception.code, "DEVICE_REVOKED")
            with self.assertRaises(Refused):
                await c.register("a", raise_on_error=True)
            made = await AsyncMachineID.org_create(self.dev.edge)
            self.assertEqual(made["handler"], "org_create")

    async def test_a_server_that_is_gone(self) -> None:
        with Scripted(YES) as server:
            pass
        async with client(server) as c:
            self.assertFalse((await c.validate("a"))["allowed"])
            with self.assertRaises(Unavailable):
                await c.usage()
