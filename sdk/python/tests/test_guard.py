"""Guards and watches: work stops when it is denied, and nothing that fails lets it go on."""

from __future__ import annotations

import threading
import unittest
from typing import Any, Iterator, List
from unittest import mock

from machineid_client import Denied, MachineID, _watch

from .scripted import Scripted, allow, close, deny, hang, http

YES, NO = http(200, allow()), http(200, deny())
PATIENT = 30.0


def client(server: Scripted, **options: Any) -> MachineID:
    options.setdefault("retries", 0)
    return MachineID("org_test", server.url, **options)


class GuardTest(unittest.TestCase):
    def test_the_block(self) -> None:
        with Scripted(YES, YES, NO) as server, client(server) as c:
            done = []
            with self.assertRaises(Denied) as caught:
                with c.guard("a") as permit:
                    done.append(1)
                    permit.check()
                    done.append(2)
                    permit.check()
                    done.append(3)
            self.assertEqual(done, [1, 2])
            self.assertEqual((caught.exception.code, caught.exception.device_id, caught.exception.decision["status"]), ("DEVICE_REVOKED", "a", "revoked"))

    def test_a_denied_block_does_not_begin(self) -> None:
        for answer, code in ((NO, "DEVICE_REVOKED"), (close, "SYSTEM_UNAVAILABLE"), (http(500, b""), "SYSTEM_UNAVAILABLE")):
            for every in (None, 60):
                with Scripted(answer) as server, client(server) as c, self.assertRaises(Denied) as caught:
                    with c.guard("a", every=every):
                        self.fail("the work began")
                self.assertEqual(caught.exception.code, code)

    def test_the_decorator_asks_before_each_call(self) -> None:
        with Scripted(YES, NO, YES) as server, client(server) as c:
            calls = []

            @c.guard("a")
            def work(x: int, *, y: int = 0) -> int:
                """Works."""
                calls.append(x)
                return x + y

            self.assertEqual((work.__name__, work.__doc__), ("work", "Works."))
            self.assertEqual(work(1, y=2), 3)
            self.assertRaises(Denied, work, 2)
            self.assertEqual(work(3), 3)
            self.assertEqual(calls, [1, 3])

    def test_the_device_can_be_an_argument(self) -> None:
        with Scripted(lambda r, c: http(200, allow(r.body["deviceId"]))) as server, client(server) as c:

            @c.guard(lambda job, **_: job["device"])
            def work(job: Any, **_: Any) -> str:
                return str(job["device"])

            self.assertEqual([work({"device": "x"}), work({"device": "y"}, more=1)], ["x", "y"])
            self.assertEqual([r.body["deviceId"] for r in server.requests], ["x", "y"])
            with self.assertRaises(TypeError), c.guard(lambda: "x"):
                self.fail("the work began")

    def test_generators_are_asked_for_when_they_run(self) -> None:
        with Scripted(YES, NO) as server, client(server) as c:

            @c.guard("a")
            def steps() -> Iterator[int]:
                yield 1
                yield 2

            one, other = steps(), steps()
            self.assertEqual(server.requests, [])
            self.assertEqual(list(one), [1, 2])
            self.assertRaises(Denied, next, other)

    def test_async_functions_are_refused(self) -> None:
        async def work() -> None: ...

        with Scripted(YES) as server, client(server) as c, self.assertRaisesRegex(TypeError, "AsyncMachineID"):
            c.guard("a")(work)

    def test_the_works_own_error_goes_through(self) -> None:
        with Scripted(YES) as server, client(server) as c, self.assertRaises(KeyError):
            with c.guard("a", every=60):
                raise KeyError

    def test_one_block_at_a_time(self) -> None:
        with Scripted(YES) as server, client(server) as c:
            guard = c.guard("a")
            with guard, self.assertRaises(RuntimeError), guard:
                pass
            with guard:
                pass

    def test_a_first_denial_ends_the_permit(self) -> None:
        """Also one that came and went between two checkpoints."""
        with Scripted(YES, YES, NO, YES) as server, client(server) as c:
            with self.assertRaises(Denied), c.guard("a", every=0.01) as permit:
                server.await_requests(6)
                permit.check()
                self.fail("went on")

    def test_leaving_a_block_that_was_denied_meanwhile(self) -> None:
        with Scripted(YES, NO) as server, client(server) as c:
            with self.assertRaises(Denied), c.guard("a", every=0.01):
                server.await_requests(3)


class WatchTest(unittest.TestCase):
    def test_before_and_after_nothing_is_allowed(self) -> None:
        with Scripted(YES) as server, client(server) as c:
            watch = c.watch("a", every=60)
            self.assertRaises(Denied, watch.checkpoint)
            with watch:
                watch.checkpoint()
                self.assertRaises(RuntimeError, watch.start)
            self.assertFalse(watch.allowed)
            self.assertRaises(Denied, watch.checkpoint)
            with watch:
                self.assertTrue(watch.allowed)

    def test_callbacks_come_once_for_each_change(self) -> None:
        answers = [YES, YES, NO, NO, close, YES, NO]
        with Scripted(*answers) as server, client(server) as c:
            said: List[str] = []
            with c.watch("a", every=0.01, on_denied=lambda d: said.append(d["code"]), on_allowed=lambda d: said.append(d["code"])):
                server.await_requests(12)
            self.assertEqual(said, ["ALLOW", "DEVICE_REVOKED", "ALLOW", "DEVICE_REVOKED"])

    def test_the_first_answer_is_told(self) -> None:
        with Scripted(NO) as server, client(server) as c:
            said: List[str] = []
            with c.watch("a", every=60, on_denied=lambda d: said.append(d["code"])):
                self.assertEqual(said, ["DEVICE_REVOKED"])

    def test_a_callback_that_fails_does_not_end_it(self) -> None:
        with Scripted(YES, NO) as server, client(server) as c, self.assertLogs("machineid_client"):
            with c.watch("a", every=0.01, on_denied=lambda d: 1 / 0) as watch:
                server.await_requests(6)
                self.assertRaises(Denied, watch.checkpoint)

    def test_an_old_allow_is_none(self) -> None:
        """The clock goes on while the watch hangs, or the whole machine sleeps."""
        with Scripted(YES, hang) as server, client(server, timeout=50) as c:
            with c.watch("a", every=0.01) as watch:
                server.await_requests(2)
                watch.checkpoint()
                later = _watch.now() + 2 * 0.01 + 50 + 0.1
                with mock.patch.object(_watch, "now", lambda: later):
                    self.assertEqual(watch.decision["error"], "stale")
                    self.assertRaises(Denied, watch.checkpoint)

    def test_stop_does_not_wait_for_a_slow_server(self) -> None:
        with Scripted(YES, hang) as server, client(server, timeout=600) as c:
            watch = c.watch("a", every=0.01).start()
            server.await_requests(2)
            watch.stop()  # would wait for 600 s
            watch.stop()
            self.assertFalse(any(t.name == "machineid-watch" for t in threading.enumerate()))

    def test_it_can_be_stopped_by_its_own_callback(self) -> None:
        with Scripted(YES, NO) as server, client(server) as c:
            stopped = threading.Event()

            def stop(decision: Any) -> None:
                watch.stop()
                stopped.set()

            watch = c.watch("a", every=0.01, on_denied=stop).start()
            self.assertTrue(stopped.wait(PATIENT))
            self.assertFalse(watch.allowed)

    def test_intervals_that_are_none(self) -> None:
        with Scripted(YES) as server, client(server) as c:
            for wrong in (0, -1, float("nan"), float("inf")):
                self.assertRaises(ValueError, client, server, timeout=wrong)
                self.assertRaises(ValueError, c.watch, "a", every=wrong)
                self.assertRaises(ValueError, c.guard, "a", every=wrong)
            texts: List[Any] = ["5", b"5", [5]]  # the first as an environment variable gives it
            for text in texts:
                for call in (lambda: client(server, timeout=text), lambda: c.watch("a", every=text), lambda: c.guard("a", every=text)):
                    with self.assertRaisesRegex(TypeError, "is no number: give seconds"):
                        call()
