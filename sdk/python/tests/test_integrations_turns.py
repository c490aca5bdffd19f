"""Steps of one run in one event loop: none begins on an answer that is older than what held the loop up."""

from __future__ import annotations

import asyncio
import threading
from typing import Any, List
from unittest import IsolatedAsyncioTestCase

from machineid_client import Denied
from machineid_client.integrations import current

from .scripted import hang
from .test_integrations import ALLOW, DENY, Case


class TurnsTest(Case, IsolatedAsyncioTestCase):
    def until(self, revoked: threading.Event) -> Any:
        """A switch whose server says ALLOW until then."""
        return self.switch(lambda *_: DENY if revoked.is_set() else ALLOW)

    async def test_what_holds_the_loop_up_lets_nothing_begin_on_an_answer_from_before(self) -> None:
        revoked = threading.Event()
        begun: List[int] = []

        async def step(n: int) -> None:
            run = current()
            assert run is not None
            await run.acheck()
            begun.append(n)
            revoked.set()  # in the first part of the step, which awaits nothing
            await asyncio.sleep(0)

        with self.assertRaises(Denied):
            async with self.until(revoked).run():
                await asyncio.gather(*map(step, range(8)), return_exceptions=True)
        self.assertEqual(len(begun), 1)

    async def test_a_run_inside_takes_turns_with_the_one_around_it(self) -> None:
        revoked = threading.Event()
        begun: List[int] = []
        switch = self.until(revoked)

        async def inside(n: int) -> None:
            async with switch.run() as run:
                await run.acheck()
                begun.append(n)
                revoked.set()

        with self.assertRaises(Denied):
            async with switch.run():
                await asyncio.gather(*map(inside, range(8)), return_exceptions=True)
        self.assertEqual(len(begun), 1)

    async def test_a_question_that_is_cancelled_leaves_its_turn_to_the_next_one(self) -> None:
        go = threading.Event()
        self.addCleanup(go.set)

        def late(*_: Any) -> bytes:
            go.wait(20)
            return ALLOW

        async with self.switch(ALLOW, late, ALLOW).run() as run:
            asking, waiting, last = [asyncio.ensure_future(run.acheck()) for _ in range(3)]
            await asyncio.sleep(0)
            waiting.cancel()
            asking.cancel()
            go.set()
            await asyncio.gather(asking, waiting, last, return_exceptions=True)
        self.assertTrue(asking.cancelled() and waiting.cancelled())
        self.assertIsNone(last.exception())

    async def test_after_a_denial_nobody_waits_for_a_turn(self) -> None:
        with self.assertRaises(Denied):
            async with self.switch(ALLOW, hang).run() as run:
                asking = asyncio.ensure_future(run.acheck())
                await asyncio.sleep(0)
                run.deny({"allowed": False, "code": "DEVICE_REVOKED"})
                with self.assertRaises(Denied):
                    await run.acheck()
                self.assertFalse(asking.done())
                asking.cancel()
