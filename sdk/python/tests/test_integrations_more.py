"""What some adapters need of their base: runs that are generators, methods that are context managers, blocks that cancel nobody."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any, AsyncIterator, List, Optional

from machineid_client import Denied
from machineid_client.integrations import OffSwitch, current
from machineid_client.integrations._ask import ask_first
from machineid_client.integrations._run import Run, running

from .scripted import hang
from .test_integrations import ALLOW, DENY, Case


async def all_of(items: Any) -> List[Any]:
    return [item async for item in items]


class RunningTest(Case):
    def test_a_generator_is_a_run_that_ends_with_it(self) -> None:
        async def scene() -> None:
            switch = self.switch(ALLOW, ALLOW)

            async def steps(run: Run) -> AsyncIterator[int]:
                for n in range(2):
                    self.assertIs(current(), run)
                    if n:
                        await run.acheck()
                    yield n

            self.assertEqual(await all_of(running(switch, steps)), [0, 1])
            self.assertIsNone(current())

        asyncio.run(scene())

    def test_it_begins_nothing_when_it_is_denied(self) -> None:
        async def scene() -> None:
            with self.assertRaises(Denied):
                await all_of(running(self.switch(DENY), lambda run: self.fail("it began")))

        asyncio.run(scene())

    def test_a_denial_takes_the_place_of_what_the_generator_makes_of_it(self) -> None:
        async def swallows(run: Run) -> AsyncIterator[int]:
            with contextlib.suppress(Denied):
                await run.acheck()
            yield 1

        async def wraps(run: Run) -> AsyncIterator[int]:
            try:
                await run.acheck()
            except Denied as denied:
                raise RuntimeError("a step failed") from denied
            yield 1

        async def scene() -> None:
            for steps in (swallows, wraps):
                with self.subTest(steps.__name__), self.assertRaises(Denied):
                    await all_of(running(self.switch(ALLOW, DENY), steps))

        asyncio.run(scene())

    def test_a_reader_that_stops_early_leaves_nothing_behind(self) -> None:
        ended: List[bool] = []

        async def steps(run: Run) -> AsyncIterator[int]:
            try:
                yield 1
                yield 2
            finally:
                ended.append(True)

        async def scene() -> None:
            switch = self.switch(ALLOW)
            async with switch.run() as outer:
                items = running(switch, steps)
                async for _ in items:
                    break
                await items.aclose()  # type: ignore[attr-defined]
                self.assertEqual(ended, [True])
                self.assertEqual(outer._stops, [])

        asyncio.run(scene())

    def test_with_every_a_denial_reaches_what_waits(self) -> None:
        async def steps(run: Run) -> AsyncIterator[int]:
            denied = asyncio.Event()
            run.on_denied(denied.set)  # in this loop: the watch is a task of it
            await denied.wait()
            yield 1

        async def scene() -> None:
            with self.assertRaises(Denied):
                await all_of(running(self.switch(ALLOW, ALLOW, DENY, every=0.01), steps))

        asyncio.run(scene())


class ContextManagerTest(Case):
    def test_a_method_that_is_a_context_manager_asks_first_and_awaits_the_answer(self) -> None:
        class Model:
            @contextlib.asynccontextmanager
            async def stream(self, word: str) -> AsyncIterator[str]:
                yield word

        ask_first(Model, "stream")

        async def scene() -> None:
            async with Model().stream("free") as said:
                self.assertEqual(said, "free")
            switch = self.switch(ALLOW, ALLOW, hang, timeout=1.0)
            with self.assertRaises(Denied):
                async with switch.run():
                    async with Model().stream("held") as said:
                        self.assertEqual(said, "held")
                    ticks: List[int] = []
                    ticker = asyncio.ensure_future(tick(ticks))
                    try:
                        async with Model().stream("denied"):
                            self.fail("it began")
                    finally:
                        ticker.cancel()
                        self.assertGreater(len(ticks), 1)  # the loop went on while the server was silent

        asyncio.run(scene())


async def tick(ticks: List[int]) -> None:
    while True:
        ticks.append(1)
        await asyncio.sleep(0)


class NobodyCancelledTest(Case):
    def test_a_switch_may_leave_the_block_alone(self) -> None:
        class Gentle(OffSwitch):
            cancels = False

        async def scene() -> None:
            went_on: List[Optional[Denied]] = []
            with self.assertRaises(Denied):
                async with self.switch(ALLOW, DENY, kind=Gentle).run() as run:
                    await asyncio.gather(asyncio.ensure_future(run.acheck()), return_exceptions=True)
                    await asyncio.sleep(0)
                    went_on.append(run.denied)
            self.assertEqual(len(went_on), 1)

        asyncio.run(scene())
