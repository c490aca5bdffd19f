"""Whatever the process, its threads, its environment or its name servers do: the documented errors, and no ALLOW."""

from __future__ import annotations

import copy
import errno
import gc
import os
import pickle
import resource
import selectors
import socket
import subprocess
import sys
import threading
import unittest
import warnings
from pathlib import Path
from typing import Any, Callable, Dict, List
from unittest import mock

from machineid_client import Denied, MachineID, MachineIDError, Refused, Unavailable, _judge

from .calls import CALLS
from .scripted import Scripted, allow, close, deny, error, http

KEY = "org_test"
HERE = Path(__file__).resolve().parents[1]
YES = http(200, allow())
NO_THREAD = RuntimeError("can't start new thread")


def client(url: str, **options: Any) -> MachineID:
    options.setdefault("retries", 0)
    options.setdefault("timeout", 20)
    return MachineID(KEY, url, **options)


class FaultsTest(unittest.TestCase):
    def fails(self, c: MachineID, code: str, outcome: str = "not_done") -> None:
        """Every call of the client fails, as it is written down."""
        for row in CALLS:
            with self.subTest(row.name), self.assertRaises(Unavailable) as caught:
                getattr(c, row.name)(*row.args, **row.options)
            changes = row.method == "POST"
            self.assertEqual((caught.exception.code, caught.exception.outcome), (code, outcome if changes else "not_done"))
            self.assertTrue(str(caught.exception))
        for answer in (c.validate("a"), c.validate_batch(["a"])["decisions"][0]):
            self.assertEqual((answer["allowed"], answer["code"], answer["deviceId"]), (False, "SYSTEM_UNAVAILABLE", "a"))
            self.assertTrue(answer["message"])
        self.assertEqual(c.validate("a")["error"], code)
        for ask in (lambda: c.validate("a", raise_on_error=True), lambda: c.validate_batch(["a"], raise_on_error=True)):
            with self.assertRaises(Unavailable) as caught:
                ask()
            self.assertEqual(caught.exception.code, code)
        c.close()

    def test_no_thread_for_the_look_up(self) -> None:
        with mock.patch("threading.Thread.start", side_effect=NO_THREAD):
            self.fails(client("http://a-name.invalid"), "connection_failed")

    def test_no_thread_for_a_watch(self) -> None:
        start = threading.Thread.start

        def but_watches(thread: threading.Thread) -> None:
            if thread.name == "machineid-watch":
                raise NO_THREAD
            start(thread)

        with Scripted(YES) as server, client(server.url) as c, mock.patch("threading.Thread.start", but_watches):
            watch = c.watch("a", every=5)
            self.assertRaises(Unavailable, watch.start)
            self.assertFalse(watch.allowed)
            self.assertRaises(Unavailable, watch.start)  # as often as you like
            guard = c.guard("a", every=5)
            for _ in range(2):
                with self.assertRaises(Denied) as caught, guard:
                    self.fail("the work began")
                self.assertEqual((caught.exception.code, caught.exception.decision["error"]), ("SYSTEM_UNAVAILABLE", "client_error"))

    def test_name_servers(self) -> None:
        label = "a" * 64
        for host in (f"{label}.example", "a..b", ".", "nobody.invalid", "a" * 300):
            with self.subTest(host[:20]):
                self.assertEqual(client(f"http://{host}").validate("a")["allowed"], False)
        for fault in (socket.gaierror(socket.EAI_AGAIN, "again"), UnicodeError("label too long"), OSError(errno.EMFILE, "files"), MemoryError(), SystemError("x"), ValueError("x")):
            with self.subTest(type(fault).__name__), mock.patch("socket.getaddrinfo", side_effect=fault):
                self.fails(client("http://a.example"), "connection_failed")
        with mock.patch("socket.getaddrinfo", return_value=[]):
            self.fails(client("http://a.example"), "connection_failed")

    def test_addresses_that_are_none(self) -> None:
        for found in (
            [(socket.AF_INET, socket.SOCK_STREAM, 0, "", ("127.0.0.1", 1 << 20))], [(socket.AF_INET, socket.SOCK_STREAM, 0, "", ())],
            [(socket.AF_INET6, socket.SOCK_STREAM, 0, "", (10, b"x"))], [(12345, socket.SOCK_STREAM, 0, "", ("x", 1))],
        ):
            with self.subTest(found), mock.patch("socket.getaddrinfo", lambda *_: found):  # noqa: B023
                self.fails(client("http://a.example"), "connection_failed")

    def test_no_descriptor_for_waiting(self) -> None:
        with Scripted(YES) as server, mock.patch.object(selectors, "DefaultSelector", side_effect=OSError(errno.EMFILE, "Too many open files")):
            self.fails(client(server.url), "connection_failed")

    def test_no_descriptors(self) -> None:
        before = resource.getrlimit(resource.RLIMIT_NOFILE)
        with Scripted(YES) as server:
            c = client(server.url)
            taken = os.open(os.devnull, os.O_RDONLY)
            self.addCleanup(os.close, taken)
            resource.setrlimit(resource.RLIMIT_NOFILE, (taken + 1, before[1]))
            spare: List[int] = []
            try:
                while True:  # those that were freed below it
                    spare.append(os.dup(taken))
            except OSError:
                pass
            try:
                answer = c.validate("a")
            finally:
                resource.setrlimit(resource.RLIMIT_NOFILE, before)
                for fd in spare:
                    os.close(fd)
            self.assertEqual((answer["allowed"], answer["error"]), (False, "connection_failed"))

    def test_a_stack_that_is_nearly_full(self) -> None:
        with Scripted(YES) as server, client(server.url) as c:
            c.validate("a")
            seen: List[Any] = []

            def deeper(call: Callable[[], Any]) -> None:
                try:
                    deeper(call)
                except RecursionError:
                    pass
                if len(seen) < 400:  # on the way back there is more room each time
                    try:
                        seen.append(call())
                    except MachineIDError as err:
                        seen.append(err)
                    except RecursionError:  # not even the first frame of the call had room
                        pass

            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ResourceWarning)  # closing needs room too: what had none is closed when it is collected
                deeper(lambda: c.validate("a"))
                gc.collect()
            self.assertTrue(any(answer["allowed"] for answer in seen))
            self.assertTrue(all(answer["allowed"] or answer["code"] == "SYSTEM_UNAVAILABLE" for answer in seen))
            self.assertTrue(any(not answer["allowed"] for answer in seen), "the stack was never too full: this shows nothing")

    def test_memory_that_is_not_there(self) -> None:
        for where in ("http.client.HTTPConnection.getresponse", "machineid_client._http._read", "machineid_client._http._head"):
            with self.subTest(where), Scripted(YES) as server, mock.patch(where, side_effect=MemoryError()):
                self.fails(client(server.url), "connection_failed" if "getresponse" in where else "broken_answer", "unknown")
        with Scripted(YES) as server, mock.patch.object(_judge, "parse", side_effect=MemoryError()):
            self.fails(client(server.url), "client_error", "unknown")

    def test_lists_that_are_none(self) -> None:
        for call, handler in (("list_devices", "devices/list"), ("org_keys", "org/keys"), ("audit", "audit"), ("org_export", "org/export")):
            for body in ({}, {"devices": None, "keys": None, "entries": None}, {"devices": {"a": 1}, "keys": "k", "entries": 7}):
                with self.subTest(call, body=body), Scripted(http(200, {"handler": handler, **body})) as server, client(server.url) as c:
                    self.assertRaises(Unavailable, getattr(c, call))
        with Scripted(http(200, {"handler": "devices/list"})) as server, client(server.url) as c:
            self.assertRaises(Unavailable, list, c.iter_devices())
        with Scripted(http(200, {"handler": "audit"})) as server, client(server.url) as c:
            self.assertRaises(Unavailable, list, c.iter_audit())

    def test_keys_that_are_none(self) -> None:
        for body in ({}, {"orgApiKey": None, "keyId": "k"}, {"orgApiKey": "org_x", "keyId": 7}):
            for call, handler in ((lambda c: c.org_keys_create("n", "agent"), "org/keys"), (lambda c: c.org_keys_rotate(), "org/keys/rotate")):
                with Scripted(http(200, {"handler": handler, **body})) as server, client(server.url) as c, self.assertRaises(Unavailable) as caught:
                    call(c)
                self.assertEqual(caught.exception.outcome, "unknown")
        with Scripted(http(200, {"handler": "org_create"})) as server, self.assertRaises(Unavailable):
            MachineID.org_create(server.url)


class ArgumentsTest(unittest.TestCase):
    """What cannot be sent is a ValueError or a TypeError, before anything is sent."""

    def test_values(self) -> None:
        deep: List[Any] = []
        for _ in range(100_000):
            deep = [deep]
        loop: Dict[str, Any] = {}
        loop["x"] = loop
        with Scripted(http(200, {"handler": "devices/register"})) as server, client(server.url) as c:
            for wrong in (
                lambda: c.register("a", metadata={"x": float("nan")}), lambda: c.register("a", metadata={"x": float("inf")}), lambda: c.register("a", metadata={"x": deep}),
                lambda: c.register("a", metadata=loop), lambda: c.get_device("\ud800"), lambda: c.list_devices(5, "\ud800"), lambda: client(server.url, timeout=10**400),
                lambda: client(server.url, timeout=float("nan")), lambda: client(server.url, retries=1.5), lambda: client(server.url, retries=-1), lambda: MachineID(KEY, 8080),  # type: ignore[arg-type]
                lambda: MachineID.org_create(server.url, operator_token="a\nb"), lambda: MachineID.org_create(server.url, operator_token="ü"), lambda: MachineID.org_create(server.url, operator_token=""),
            ):
                self.assertRaises(ValueError, wrong)
            for wrong in (
                lambda: c.register("a", metadata={"x": object()}), lambda: c.register("a", metadata={"x": b"y"}), lambda: c.validate_batch("abc"), lambda: c.validate_batch(b"abc"),  # type: ignore[arg-type]
                lambda: c.validate_batch(None), lambda: c.revoke_batch("abc"), lambda: c.unrevoke_batch(7), lambda: c.revoke(7), lambda: client(server.url, timeout="10"),  # type: ignore[arg-type]
            ):
                self.assertRaises(TypeError, wrong)
            self.assertEqual(server.requests, [])

    def test_ids_that_are_none_in_a_batch(self) -> None:
        answer = http(200, {"handler": "devices/validate_batch", "decisions": [{"allowed": True, "code": "ALLOW", "deviceId": 7}]})
        with Scripted(answer) as server, client(server.url) as c:
            for bad in (7, b"a", None, "\ud800"):
                self.assertFalse(c.validate_batch([bad])["decisions"][0]["allowed"])  # type: ignore[list-item]

    def test_the_environment(self) -> None:
        for value in ("nonsense", "http://", "http://[::1", "http://a:b:c", "http://\udcff", "\x01"):
            with self.subTest(value), mock.patch.dict(os.environ, {"MACHINEID_BASE_URL": value}), self.assertRaises(ValueError):
                MachineID(KEY)
        for value in ("\udcff", "org_a b", "org_\x01"):
            with mock.patch("os.environ", {"MACHINEID_ORG_KEY": value}), self.assertRaises(ValueError):
                MachineID.from_env()
        with mock.patch.dict(os.environ, {"SSLKEYLOGFILE": "/"}), self.assertRaises(ValueError):
            MachineID(KEY, "https://a.example")


class ErrorsTest(unittest.TestCase):
    def test_they_travel(self) -> None:
        with Scripted(http(404, error("device_not_found", "devices/revoke")), close, close, http(200, deny())) as server, client(server.url) as c:
            found: List[MachineIDError] = []
            for call in (lambda: c.revoke("a"), lambda: c.revoke("a"), lambda: c.guard("a").__enter__()):
                try:
                    call()
                except MachineIDError as err:
                    found.append(err)
        self.assertEqual([type(err) for err in found], [Refused, Unavailable, Denied])
        for err in found:
            for again in (pickle.loads(pickle.dumps(err)), copy.copy(err), copy.deepcopy(err)):
                self.assertIs(type(again), type(err))
                self.assertEqual((str(again), vars(again)), (str(err), vars(err)))


# As the interpreter ends it starts no thread any more; an error of another kind would be a traceback at the end of everybody's program.
AT_EXIT = """
import atexit, sys
sys.path.insert(0, {here!r})
from machineid_client import AsyncMachineID, MachineID, MachineIDError, Unavailable
import asyncio

client = MachineID("org_test", {url!r}, timeout=20, retries=0)
named = MachineID("org_test", "http://localhost:{port}", timeout=20, retries=0)
watch = client.watch("a", every=0.01).start()

def at_exit():
    print(client.validate("a")["allowed"], named.validate("a")["allowed"] in (True, False))
    for call in (lambda: named.revoke("a"), lambda: client.watch("a", every=1).start(), lambda: client.guard("a", every=1).__enter__()):
        try:
            call()
        except MachineIDError:
            pass
    async def ask():
        late = AsyncMachineID("org_test", {url!r}, timeout=20, retries=0)
        print((await late.validate("a"))["allowed"] in (True, False))
        try:
            await late.revoke("a")
        except MachineIDError:
            pass
    asyncio.run(ask())
    print("end")

atexit.register(at_exit)
"""


class ProcessTest(unittest.TestCase):
    def test_the_end_of_the_interpreter(self) -> None:
        with Scripted(YES) as server:
            script = AT_EXIT.format(here=str(HERE), url=server.url, port=server.port)
            ran = subprocess.run([sys.executable, "-B", "-c", script], capture_output=True, text=True, timeout=120)
        self.assertEqual((ran.returncode, ran.stdout, ran.stderr), (0, "True True\nTrue\nend\n", ""))

    @unittest.skipUnless(hasattr(os, "fork"), "a system without fork")
    def test_a_fork_while_a_watch_writes(self) -> None:
        with Scripted(YES) as server, client(server.url) as c, c.watch("a", every=0.001) as watch:
            for _ in range(50):
                self.assertTrue(watch.allowed)
                child = os.fork()
                if child == 0:
                    threading.Timer(60, os._exit, (9,)).start()
                    os._exit(0 if watch.decision["allowed"] is True and c.validate("a")["allowed"] is True else 1)
                self.assertEqual(os.waitpid(child, 0)[1], 0)
