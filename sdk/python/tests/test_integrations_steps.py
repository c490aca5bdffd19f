"""Where a step really starts: in a thread that it waited for, in a stream that is read elsewhere, behind a decorator. And what is left when it is over."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import functools
import gc
import inspect
import sys
import threading
import types
import unittest.mock
from typing import Any, AsyncIterator, Callable, List
from unittest import IsolatedAsyncioTestCase

from machineid_client import AsyncMachineID, Denied, MachineID
from machineid_client.integrations import OffSwitch, current
from machineid_client.integrations._ask import ask_first
from machineid_client.integrations._run import Run, joined, running
from machineid_client.integrations._threads import ask_in_threads

from .scripted import hang
from .test_integrations import ALLOW, DENY, Case
from .test_integrations_more import all_of, tick


def a_framework() -> types.ModuleType:
    """A module of a framework, with the ways in which such modules use threads."""
    module = types.ModuleType("framework")
    source = """
import asyncio
import contextvars

async def to_thread(call, *args, **options):
    return await asyncio.to_thread(call, *args, **options)

async def executor(call, *args):
    return await asyncio.get_running_loop().run_in_executor(None, call, *args)

async def given(pool, call, *args):
    return await asyncio.get_event_loop().run_in_executor(pool, contextvars.copy_context().run, call, *args)
"""
    exec(source, module.__dict__)
    return module


def identity(value: Any) -> Any:
    return value


class ThreadsTest(Case, IsolatedAsyncioTestCase):
    def framework(self) -> Any:
        module = a_framework()
        for _ in range(2):  # again does nothing
            ask_in_threads(module)
        return module

    async def test_a_function_asks_where_it_starts(self) -> None:
        for hop in ("to_thread", "executor"):
            begun: List[int] = []
            with self.subTest(hop), self.assertRaises(Denied):
                async with self.switch(ALLOW, ALLOW, DENY).run():
                    await getattr(self.framework(), hop)(begun.append, 1)
                    await getattr(self.framework(), hop)(begun.append, 2)
            self.assertEqual(begun, [1])

    async def test_what_waited_for_a_thread_begins_nothing_after_a_denial(self) -> None:
        framework, begun = self.framework(), []
        with contextlib.ExitStack() as stack:
            pool = stack.enter_context(concurrent.futures.ThreadPoolExecutor(1))
            held = threading.Event()
            pool.submit(held.wait, 20)
            stack.callback(held.set)
            with self.assertRaises(Denied):
                async with self.switch(ALLOW, DENY).run():
                    waiting = [asyncio.ensure_future(framework.given(pool, begun.append, n)) for n in range(3)]
                    await asyncio.sleep(0)
                    held.set()
                    await asyncio.gather(*waiting, return_exceptions=True)
        self.assertEqual(begun, [])

    async def test_the_thread_is_part_of_the_run_with_or_without_a_context(self) -> None:
        framework = self.framework()
        async with self.switch(ALLOW).run() as run:
            for hop in ("to_thread", "executor"):
                self.assertIs(await getattr(framework, hop)(current), run)
        # The thread itself is not: it goes on to serve others.
        self.assertIsNone(await asyncio.get_running_loop().run_in_executor(None, current))

    async def test_without_a_run_nothing_changes(self) -> None:
        framework = self.framework()
        self.assertEqual(await framework.to_thread(dict, a=1), {"a": 1})
        self.assertEqual(await framework.executor(identity, 2), 2)
        self.assertIs(framework.asyncio.get_running_loop(), asyncio.get_running_loop())
        self.assertIs(framework.asyncio.CancelledError, asyncio.CancelledError)
        self.assertIsNot(framework.asyncio, asyncio)

    async def test_what_goes_to_another_process_is_left_alone(self) -> None:
        class Pool(concurrent.futures.ProcessPoolExecutor):
            def submit(self, fn: Any, /, *args: Any, **options: Any) -> Any:
                made: Any = concurrent.futures.Future()
                made.set_result((fn, args))
                return made

        module = types.ModuleType("framework")
        exec("import asyncio\ndef go(pool, call): return asyncio.get_running_loop().run_in_executor(pool, call)", module.__dict__)
        ask_in_threads(module)
        async with self.switch(ALLOW).run():
            self.assertEqual(await module.go(Pool(1), len), (len, ()))

    async def test_a_frameworks_own_way_to_a_thread(self) -> None:
        ways, module = types.ModuleType("ways"), types.ModuleType("framework")
        exec("import asyncio\nasync def hop(call, *args): return await asyncio.get_running_loop().run_in_executor(None, call, *args)", ways.__dict__)
        hop, ways.__dict__["other"] = ways.__dict__["hop"], 1
        hop.__module__ = "ways"
        with unittest.mock.patch.dict(sys.modules, ways=ways):
            module.__dict__.update(hop=hop, ways=ways)
            for _ in range(2):
                ask_in_threads(module, hop)
        begun: List[int] = []
        for way in (module.__dict__["hop"], module.__dict__["ways"].hop):
            await way(begun.append, 0)
            with self.assertRaises(Denied):
                async with self.switch(ALLOW, ALLOW, DENY).run():
                    await way(begun.append, 1)
                    await way(begun.append, 2)
        self.assertEqual(begun, [0, 1, 0, 1])
        self.assertEqual((module.__dict__["ways"].other, ways.__dict__["hop"]), (1, hop))  # the framework's other modules are as they were

    def test_a_module_without_threads_is_a_fault(self) -> None:
        with self.assertRaises(AttributeError):
            ask_in_threads(types.ModuleType("framework"))


class Streams:
    """Streams in all forms, and what user's decorators make of them."""

    def __init__(self) -> None:
        self.begun: List[str] = []

    async def items(self, word: str) -> AsyncIterator[str]:
        self.begun.append(word)
        yield word
        await self.step("step")
        yield "end"

    async def step(self, word: str) -> str:
        self.begun.append(word)
        return word

    def own_stream(self, word: str) -> Any:
        class Own:  # an iterator that is no generator, so there is no aclose
            def __init__(self, items: Any) -> None:
                self.items = items

            def __aiter__(self) -> Any:
                return self

            async def __anext__(self) -> str:
                return str(await self.items.__anext__())

        return Own(self.items(word))


def decorated(call: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(call)
    def decorator(*args: Any, **options: Any) -> Any:
        return call(*args, **options)

    return decorator


def streams() -> Any:
    owner = type("Streams", (object,), dict(Streams.__dict__))
    made: Any = owner
    made.decorated = decorated(made.items)
    made.decorated_step = decorated(made.step)
    made.block = contextlib.asynccontextmanager(made.items)
    for name in ("items", "step", "decorated", "decorated_step", "block"):
        ask_first(made, name)
    ask_first(made, "own_stream", awaited=True)
    return made()


class StreamsTest(Case, IsolatedAsyncioTestCase):
    async def test_a_stream_is_part_of_the_run_that_it_is_asked_for_in(self) -> None:
        for name, asks in (("items", 1), ("decorated", 1), ("own_stream", 2)):
            made = streams()
            read: List[str] = []
            async with self.switch(*[ALLOW] * (1 + asks), DENY).run():  # the block and the stream, but not the step in it
                items = getattr(made, name)("go")
            with self.subTest(name), self.assertRaises(Denied):
                async for item in items:
                    self.assertIsNone(current())
                    read.append(item)
            self.assertEqual((read, made.begun), (["go"], ["go"]))

    async def test_denied_it_does_not_begin_wherever_it_is_read(self) -> None:
        for name in ("items", "decorated", "own_stream"):
            made = streams()
            async with self.switch(ALLOW, DENY).run():
                items = getattr(made, name)("go")
            with self.subTest(name), self.assertRaises(Denied):
                await asyncio.ensure_future(all_of(items))
            self.assertEqual(made.begun, [])

    async def test_also_a_block(self) -> None:
        made = streams()
        async with self.switch(ALLOW, DENY).run():
            block = made.block("go")
        with self.assertRaises(Denied):
            async with block:
                self.fail("it began")
        self.assertEqual(made.begun, [])

    async def test_asked_for_outside_it_is_part_of_the_run_that_reads_it(self) -> None:
        made = streams()
        items = made.items("go")
        with self.assertRaises(Denied):
            async with self.switch(ALLOW, DENY).run():
                await all_of(items)
        self.assertEqual(made.begun, [])

    async def test_a_run_of_a_generator_is_inside_the_one_that_asked_for_it(self) -> None:
        switch = self.switch(ALLOW)
        seen: List[Any] = []

        async def steps(run: Run) -> AsyncIterator[int]:
            seen.extend((run.outer, current() is run))
            yield 1

        async with self.switch(ALLOW).run() as outer:
            items = running(switch, steps)
        self.assertEqual(await all_of(items), [1])
        self.assertEqual(seen, [outer, True])

    async def test_a_run_inside_stays_inside(self) -> None:
        switch = self.switch(ALLOW)
        async with switch.run() as outer:
            async with switch.run() as inner:
                with joined(outer):
                    self.assertIs(current(), inner)
            with joined(inner):
                self.assertIs(current(), inner)
            self.assertIs(current(), outer)


class DecoratedTest(Case, IsolatedAsyncioTestCase):
    async def test_without_a_run_nothing_changes(self) -> None:
        made = streams()
        self.assertEqual(await all_of(made.decorated("a")), ["a", "end"])
        self.assertTrue(inspect.isasyncgen(made.decorated("a")))
        self.assertEqual(await all_of(made.own_stream("a")), ["a", "end"])
        self.assertEqual(await made.decorated_step("a"), "a")
        self.assertTrue(inspect.iscoroutine(step := made.decorated_step("a")))
        step.close()

    async def test_in_a_run_it_is_used_as_ever(self) -> None:
        made = streams()
        async with self.switch(ALLOW).run():
            for name in ("decorated", "own_stream"):
                self.assertEqual(await all_of(getattr(made, name)("a")), ["a", "end"])
                items = getattr(made, name)("a")
                self.assertEqual(await items.__anext__(), "a")
                await items.aclose()
            self.assertEqual(await made.decorated_step("a"), "a")

    async def test_the_loop_goes_on_while_a_decorated_coroutine_asks(self) -> None:
        made, ticks = streams(), []
        with self.assertRaises(Denied):
            async with self.switch(ALLOW, hang, timeout=3.0).run():
                ticker = asyncio.ensure_future(tick(ticks))
                try:
                    await made.decorated_step("a")
                finally:
                    ticker.cancel()
        self.assertGreater(len(ticks), 1)
        self.assertEqual(made.begun, [])


class OverTest(Case):
    def test_runs_that_are_over_are_forgotten_by_their_outer_run(self) -> None:
        switch, denied = self.switch(ALLOW), self.switch(DENY)

        async def scene(outer: Run) -> None:
            async with switch.run():
                pass
            with self.assertRaises(Denied):
                async with denied.run():
                    pass

        with switch.run() as outer:
            for _ in range(3):
                with switch.run():
                    pass
                with self.assertRaises(Denied), denied.run():
                    pass
                asyncio.run(scene(outer))
                Run(switch, outer)
            gc.collect()
            self.assertEqual((outer._stops, list(outer._inner)), ([], []))

    def test_an_outer_denial_reaches_every_run_inside(self) -> None:
        switch = self.switch(ALLOW)
        with self.assertRaises(Denied), switch.run() as outer:
            before = Run(switch, outer)
            stopped: List[int] = []
            before.on_denied(lambda: stopped.append(1))
            outer.deny({"allowed": False, "code": "DEVICE_REVOKED"})
            after = Run(switch, outer)
            for run in (before, after):
                with self.assertRaises(Denied):
                    run.look()
            self.assertEqual(stopped, [1])

    def test_switches_over_one_client_share_its_threads(self) -> None:
        client, other = MachineID("org_k", "http://127.0.0.1:1"), MachineID("org_k", "http://127.0.0.1:1")
        one, two = OffSwitch(client, "a"), OffSwitch(client, "b")
        self.assertIs(one.async_client, two.async_client)
        self.assertIsNot(one.async_client, OffSwitch(other, "a").async_client)
        given = AsyncMachineID.over(client)
        self.assertIs(OffSwitch(given, "a").async_client, given)
