"""What all adapters have in common: the base that they are made of, without any framework. tests/frameworks tries them with the real ones."""

from __future__ import annotations

import asyncio
import contextvars
import functools
import sys
import threading
import unittest
from typing import Any, AsyncIterator, Callable, Iterator, List, Optional

from machineid_client import AsyncMachineID, Denied, MachineID
from machineid_client.integrations import OffSwitch, Run, current
from machineid_client.integrations._ask import ask_first, ask_first_everywhere, family
from machineid_client.integrations._run import aread, joined, read

from .scripted import Answer, Scripted, allow, deny, hang, http

ALLOW, DENY = http(200, allow()), http(403, deny())
OTHER_DENY = http(403, deny("ORG_DISABLED"))


class FrameworkError(Exception):
    """What a framework makes of an exception."""


class AlsoDenied(Denied, FrameworkError):
    """What an adapter raises where its framework only lets its own errors through."""


class AlsoSwitch(OffSwitch):
    raises = AlsoDenied


class Case(unittest.TestCase):
    def server(self, *answers: Answer) -> Scripted:
        made = Scripted(*answers)
        self.addCleanup(made.__exit__)
        return made

    def switch(self, *answers: Answer, every: Optional[float] = None, timeout: float = 20.0, kind: Any = OffSwitch, client: Any = MachineID) -> Any:
        made = kind(client("org_k", self.server(*answers).url, timeout), "a", every=every)
        self.addCleanup(made.client.close)
        return made


class RunTest(Case):
    def test_it_asks_before_each_step_and_keeps_the_first_denial(self) -> None:
        switch = self.switch(ALLOW, ALLOW, DENY, ALLOW)
        with self.assertRaises(Denied) as caught, switch.run() as run:
            run.check()
            with self.assertRaises(Denied):
                run.check()
            with self.assertRaises(Denied):
                run.check()  # ALLOW again: nobody asks for it
        self.assertEqual(caught.exception.code, "DEVICE_REVOKED")
        with switch.run() as run:  # another run has its own state
            self.assertIsNone(run.denied)

    def test_a_denied_run_does_not_begin(self) -> None:
        for client in (MachineID, AsyncMachineID):
            with self.assertRaises(Denied):
                with self.switch(DENY, client=client).run():
                    self.fail("the block was entered")
        self.assertIsNone(current())

    def test_the_caller_gets_denied_whatever_the_framework_does(self) -> None:
        def swallow() -> None:
            try:
                the_run().check()
            except Denied:
                pass

        def wrap() -> None:
            try:
                the_run().check()
            except Denied as denied:
                raise FrameworkError("a step failed") from denied

        def by_itself() -> None:
            the_run().check()

        for how in (swallow, wrap, by_itself):
            with self.subTest(how.__name__):
                with self.assertRaises(AlsoDenied) as caught:
                    with self.switch(ALLOW, DENY, kind=AlsoSwitch).run():
                        how()
                self.assertIsNone(caught.exception.__cause__)
                self.assertEqual(caught.exception.device_id, "a")

    def test_other_errors_stay_what_they_are(self) -> None:
        with self.assertRaises(FrameworkError):
            with self.switch(ALLOW).run():
                raise FrameworkError("it failed, and nobody was denied")
        for kind in (KeyboardInterrupt, SystemExit):
            with self.assertRaises(kind):
                with self.switch(ALLOW, DENY).run() as run:
                    try:
                        run.check()
                    finally:
                        raise kind()

    def test_an_allow_that_was_under_way_when_another_step_was_denied_is_none(self) -> None:
        asked, denied = threading.Event(), threading.Event()

        def late(request: Any, client: Any) -> bytes:
            asked.set()
            denied.wait(20)
            return ALLOW

        switch = self.switch(ALLOW, late, DENY)
        seen: List[str] = []

        def step(run: Run) -> None:
            try:
                run.check()
                seen.append("begun")
            except Denied as err:
                seen.append(err.code)

        with self.assertRaises(Denied), switch.run() as run:
            slow = threading.Thread(target=step, args=(run,))
            slow.start()
            self.assertTrue(asked.wait(20))
            step(run)
            denied.set()
            slow.join(20)
        self.assertEqual(seen, ["DEVICE_REVOKED"] * 2)

    def test_threads_with_a_copy_of_the_context_are_part_of_the_run(self) -> None:
        seen: List[Optional[Run]] = []
        with self.switch(ALLOW).run() as run:
            for target in (contextvars.copy_context().run, lambda call: call()):
                thread = threading.Thread(target=target, args=(lambda: seen.append(current()),))
                thread.start()
                thread.join(20)
        self.assertEqual(seen, [run, None])

    def test_a_watch_denies_between_steps(self) -> None:
        stopped = threading.Event()
        with self.assertRaises(Denied), self.switch(ALLOW, ALLOW, DENY, every=0.01).run() as run:
            run.on_denied(stopped.set)
            self.assertTrue(stopped.wait(20))
            with self.assertRaises(Denied):
                run.look()

    def test_what_is_to_be_stopped_is_stopped_once(self) -> None:
        calls: List[str] = []
        with self.assertRaises(Denied), self.switch(ALLOW).run() as run:
            run.on_denied(lambda: calls.append("before"))

            def gone() -> None:
                calls.append("forgotten")

            run.on_denied(gone)
            run.forget(gone)
            run.deny(deny())
            run.deny(deny())
            run.on_denied(lambda: calls.append("after"))
        self.assertEqual(calls, ["before", "after"])

    def test_nested_runs(self) -> None:
        inner = self.switch(ALLOW)
        inner.device_id = "a"
        # Of the same device: what ends the inner one ends the outer one, also if the framework swallows it.
        switch = self.switch(ALLOW, ALLOW, DENY, ALLOW)
        with self.assertRaises(Denied), switch.run() as outer:
            with self.assertRaises(Denied), switch.run() as within:
                self.assertIs(within.outer, outer)
                within.check()
            with self.assertRaises(Denied):
                outer.look()
        # The outer one's denial ends the inner one.
        with self.assertRaises(Denied), switch.run() as outer:
            with self.assertRaises(Denied), inner.run() as within:
                outer.deny(deny())
                within.look()
        # Another device's denial is that device's alone.
        denied = self.switch(ALLOW, DENY)
        with switch.run() as outer:
            with self.assertRaises(Denied), denied.run() as within:
                within.check()
            outer.check()
        self.assertEqual(outer._stops, [])

    def test_a_client_that_fails_denies(self) -> None:
        class Broken:
            def validate(self, device_id: str) -> Any:
                raise ValueError("the test says so")

        with self.assertRaises(Denied) as caught, self.switch(ALLOW).run() as run:
            run.switch.client, client = Broken(), run.switch.client
            try:
                run.check()
            finally:
                run.switch.client = client
        self.assertEqual((caught.exception.code, caught.exception.decision["error"]), ("SYSTEM_UNAVAILABLE", "client_error"))

    def test_a_cancellation_that_comes_out_of_a_loop(self) -> None:
        async def cancelled() -> None:
            raise asyncio.CancelledError

        with self.assertRaises(Denied), self.switch(ALLOW).run() as run:
            run.deny(deny())
            asyncio.run(cancelled())

    def test_one_block_is_one_run(self) -> None:
        scope = self.switch(ALLOW).run()
        with scope:
            with self.assertRaises(RuntimeError), scope:
                pass

    def test_the_device_id_is_a_str(self) -> None:
        with self.assertRaises(TypeError):
            OffSwitch(MachineID("org_k", "http://127.0.0.1:1"), None)  # type: ignore[arg-type]
        with self.assertRaises(ValueError):
            OffSwitch(MachineID("org_k", "http://127.0.0.1:1"), "a", every=0)

    def test_it_shows_no_key(self) -> None:
        self.assertNotIn("org_secret", repr(OffSwitch(MachineID("org_secret", "http://127.0.0.1:1"), "a")))


class AsyncRunTest(Case, unittest.IsolatedAsyncioTestCase):
    async def test_both_clients_serve(self) -> None:
        for client in (MachineID, AsyncMachineID):
            with self.assertRaises(Denied):
                async with self.switch(ALLOW, ALLOW, DENY, client=client).run() as run:
                    await run.acheck()
                    await run.acheck()

    async def test_a_silent_edge_denies_within_the_timeout_and_the_loop_goes_on(self) -> None:
        ticks: List[int] = []

        async def tick() -> None:
            while True:
                await asyncio.sleep(0.02)
                ticks.append(1)

        switch = self.switch(ALLOW, hang, timeout=1.0)
        with self.assertRaises(Denied) as caught:
            async with switch.run() as run:
                ticker = asyncio.ensure_future(tick())
                try:
                    await run.acheck()
                finally:
                    ticker.cancel()
        self.assertEqual(caught.exception.code, "SYSTEM_UNAVAILABLE")
        self.assertGreater(len(ticks), 3)

    async def test_a_watch_interrupts_what_is_under_way(self) -> None:
        with self.assertRaises(Denied):
            async with self.switch(ALLOW, ALLOW, DENY, every=0.01).run():
                await asyncio.Event().wait()
        await asyncio.sleep(0)  # the cancellation is not left to anybody

    async def test_a_denial_in_another_task_or_thread_interrupts_the_block(self) -> None:
        async def task(run: Run) -> None:
            with self.assertRaises(Denied):
                await run.acheck()

        async def thread(run: Run) -> None:
            def step() -> None:
                with self.assertRaises(Denied):
                    run.check()

            await asyncio.to_thread(step)

        for how in (task, thread):
            with self.subTest(how.__name__), self.assertRaises(Denied):
                async with self.switch(ALLOW, DENY).run() as run:
                    beside = asyncio.ensure_future(how(run))
                    try:
                        await asyncio.Event().wait()
                    finally:
                        with_timeout = asyncio.wait_for(asyncio.shield(beside), 20)
                        await with_timeout

    async def test_a_cancellation_by_the_frameworks_own_means_is_told_as_denied(self) -> None:
        with self.assertRaises(Denied):
            async with self.switch(ALLOW, DENY).run() as run:
                waits = asyncio.get_running_loop().create_future()
                run.on_denied(waits.cancel)
                with self.assertRaises(Denied):
                    await run.acheck()
                await waits

    async def test_somebody_elses_cancellation_is_theirs(self) -> None:
        async def work(*answers: Answer) -> None:
            async with self.switch(ALLOW, *answers).run() as run:
                entered.set()
                try:
                    await asyncio.Event().wait()
                except asyncio.CancelledError:
                    if answers:
                        with self.assertRaises(Denied):
                            await run.acheck()
                    raise

        for answers in ((), (DENY,)):
            entered = asyncio.Event()
            task = asyncio.ensure_future(work(*answers))
            await entered.wait()
            task.cancel()
            if answers and sys.version_info < (3, 11):
                with self.assertRaises(Denied):  # it cannot be told apart there
                    await task
            else:
                with self.assertRaises(asyncio.CancelledError):
                    await task

    async def test_several_runs_at_once(self) -> None:
        switch = self.switch(ALLOW)
        both = asyncio.Event()
        runs: List[Run] = []

        async def one(denied: bool) -> str:
            async with switch.run() as run:
                runs.append(run)
                if len(runs) == 2:
                    both.set()
                await both.wait()
                self.assertIs(current(), run)
                if denied:
                    run.deny(deny())
                run.look()
                return "done"

        results = await asyncio.gather(one(True), one(False), return_exceptions=True)
        self.assertIsInstance(results[0], Denied)
        self.assertEqual(results[1], "done")

    async def test_work_that_goes_on_behind_the_block_goes_on_asking(self) -> None:
        async with self.switch(ALLOW, DENY).run():
            left = asyncio.ensure_future(the_run_acheck())
        with self.assertRaises(Denied):
            await left


def the_run() -> Run:
    run = current()
    assert run is not None
    return run


async def the_run_acheck() -> None:
    await the_run().acheck()


class Framework:
    """Steps in all forms."""

    def __init__(self) -> None:
        self.begun: List[str] = []

    def plain(self, x: int) -> int:
        self.begun.append("plain")
        return x

    async def coroutine(self, x: int) -> int:
        self.begun.append("coroutine")
        return x

    async def items(self, x: int) -> AsyncIterator[int]:
        self.begun.append("items")
        for n in range(x):
            yield n

    @staticmethod
    async def static(x: int) -> int:
        return x

    def returns_an_awaitable(self, x: int) -> Any:
        return self.coroutine(x)

    def returns_a_stream(self, x: int) -> Any:
        return self.items(x)

    returns_a_stream.__name__ = "create_stream"


def fresh() -> Any:
    """The class anew: what is wrapped stays so."""
    return type("Framework", (object,), dict(Framework.__dict__))


class AskFirstTest(Case, unittest.IsolatedAsyncioTestCase):
    async def use(self, made: Any) -> List[Any]:
        return [
            made.plain(1), await made.coroutine(2), [n async for n in made.items(2)], await made.returns_an_awaitable(3),
            [n async for n in made.returns_a_stream(1)],
        ]

    def wrapped(self) -> Any:
        owner = fresh()
        for _ in range(2):  # again does nothing
            for name in ("plain", "coroutine", "items"):
                ask_first(owner, name)
            for name in ("returns_an_awaitable", "returns_a_stream"):
                ask_first(owner, name, awaited=True)
        return owner

    async def test_without_a_run_nothing_changes(self) -> None:
        self.assertEqual(await self.use(self.wrapped()()), [1, 2, [0, 1], 3, [0]])

    async def test_each_call_asks_once(self) -> None:
        server = self.server(ALLOW)
        client = MachineID("org_k", server.url)
        self.addCleanup(client.close)
        async with OffSwitch(client, "a").run():
            self.assertEqual(await self.use(self.wrapped()()), [1, 2, [0, 1], 3, [0]])
        self.assertEqual(len(server.requests), 1 + 5 + 2)  # the block; five calls, and what two of them call

    async def test_after_a_denial_nothing_begins(self) -> None:
        made = self.wrapped()()
        calls: List[Callable[[], Any]] = [
            lambda: asyncio.to_thread(made.plain, 1), lambda: made.coroutine(1), lambda: made.items(1).__anext__(), lambda: made.returns_an_awaitable(1),
            lambda: made.returns_a_stream(1).__anext__(),
        ]
        for call in calls:
            with self.assertRaises(Denied):
                async with self.switch(ALLOW, DENY).run():
                    await call()
        self.assertEqual(made.begun, [])

    def test_a_method_that_is_not_there_is_a_fault(self) -> None:
        with self.assertRaises(AttributeError):
            ask_first(Framework, "gone")
        with self.assertRaises(AttributeError):
            ask_first_everywhere(Framework, "gone")

    async def test_subclasses_ask_too(self) -> None:
        base = fresh()
        child = type("Child", (base,), {"plain": lambda self, x: x + 1})
        grandchild = type("Grandchild", (child,), {})
        ask_first_everywhere(base, "plain")
        self.assertEqual(set(family(base)), {base, child, grandchild})
        late = type("Late", (grandchild,), {"plain": lambda self, x: x + 2})
        for owner in (base, child, grandchild, late):
            with self.assertRaises(Denied):
                async with self.switch(ALLOW, DENY).run():
                    await asyncio.to_thread(owner().plain, 1)


class Tracer:
    """What a tracing library puts in a method's place: an object that passes for the method, and knows whose it is only if it is bound."""

    def __init__(self, wrapped: Any, seen: List[Any], owner: Any = None) -> None:
        self.__wrapped__, self._seen, self._owner = wrapped, seen, owner

    @property
    def __class__(self) -> Any:
        return type(self.__wrapped__)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.__wrapped__, name)

    def __get__(self, owner: Any, kind: Any = None) -> Any:
        return type(self)(self.__wrapped__.__get__(owner, kind), self._seen, owner)

    def __call__(self, *args: Any, **options: Any) -> Any:
        self._seen.append(self._owner)
        return self.__wrapped__(*args, **options)


class DescriptorsTest(Case, unittest.IsolatedAsyncioTestCase):
    """Python calls what stands in a class by binding it, and so does what stands in its place."""

    def owner(self, seen: List[Any]) -> Any:
        async def add(self: Any, by: int, x: int) -> int:
            return by + x

        async def of_any(self: Any, x: Any) -> int:
            return 0

        async def of_int(self: Any, x: int) -> int:
            return 1 + x

        single = functools.singledispatchmethod(of_any)
        single.register(int, of_int)

        async def of_class(cls: Any, x: int) -> int:
            return 1 + x if isinstance(cls, type) else 0

        async def static(x: int) -> int:
            return 1 + x

        names = {
            "traced": Tracer(of_int, seen), "partial": functools.partialmethod(add, 1), "single": single, "of_class": classmethod(of_class),
            "static": staticmethod(static), "traced_static": Tracer(staticmethod(static), seen), "traced_class": Tracer(classmethod(of_class), seen),
            "read": property(lambda self: functools.partial(static)), "no_method": functools.partial(static),
        }
        owner: Any = type("Owner", (object,), {**names, "data": False, "read_data": property(lambda self: 7)})
        for _ in range(2):  # again does nothing
            for name in (*names, "data", "read_data"):
                ask_first(owner, name)
        return owner

    async def test_all_are_called_as_ever_in_a_run_and_outside(self) -> None:
        seen: List[Any] = []
        owner = self.owner(seen)
        made = owner()
        methods = ("traced", "partial", "single", "of_class", "static", "traced_static", "traced_class", "read", "no_method")
        for name in methods:
            with self.subTest(name):
                self.assertEqual(await getattr(made, name)(1), 2)
                server = self.server(ALLOW)
                client = MachineID("org_k", server.url)
                self.addCleanup(client.close)
                async with OffSwitch(client, "a").run():
                    self.assertEqual(await getattr(made, name)(1), 2)
                self.assertEqual(len(server.requests), 2)
                with self.assertRaises(Denied):
                    async with self.switch(ALLOW, DENY).run():
                        await getattr(made, name)(1)
        self.assertEqual(seen, [made] * 2 + [None] * 4)
        self.assertEqual([await getattr(owner, name)(1) for name in ("of_class", "static", "traced_static", "traced_class")], [2] * 4)

    def test_what_is_no_method_is_left_alone(self) -> None:
        owner = self.owner([])
        self.assertEqual((owner.data, owner().read_data), (False, 7))


class ReadTest(Case, unittest.IsolatedAsyncioTestCase):
    def test_a_stream_is_part_of_its_run_wherever_it_is_read(self) -> None:
        def steps() -> Iterator[int]:
            for n in range(3):
                the_run().check()
                yield n

        with self.switch(ALLOW, ALLOW, ALLOW, DENY).run() as run:
            items = read(run, steps())
        found: List[int] = []
        with self.assertRaises(Denied):
            for item in items:
                self.assertIsNone(current())
                found.append(item)
        self.assertEqual(found, [0, 1])

    async def test_also_in_a_loop_and_swallowed(self) -> None:
        async def steps() -> AsyncIterator[int]:
            for n in range(9):
                try:
                    await the_run().acheck()
                except Denied:
                    return
                yield n

        async with self.switch(ALLOW, ALLOW, ALLOW, DENY).run() as run:
            items = aread(run, steps())
        found: List[int] = []
        with self.assertRaises(Denied):
            async for item in items:
                found.append(item)
        self.assertEqual(found, [0, 1])

    def test_joined(self) -> None:
        with self.switch(ALLOW).run() as run:
            pass
        with joined(run):
            self.assertIs(current(), run)
        self.assertIsNone(current())
