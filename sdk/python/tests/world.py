"""Real servers: the machineid binary that MACHINEID_TEST_SERVER names (cmd/machineid's tests name themselves), or one built for this run."""

from __future__ import annotations

import atexit
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
import unittest
from pathlib import Path
from typing import Callable, List, Optional

from machineid import MachineID

REPOSITORY = Path(__file__).resolve().parents[3]
PATIENT = 30.0  # seconds for whatever has no bound of its own, on a machine that does much else

_built: Optional[str] = None


def server_binary() -> str:
    global _built
    named = os.environ.get("MACHINEID_TEST_SERVER")
    if named:
        return named
    if _built is None:
        folder = tempfile.mkdtemp()
        atexit.register(shutil.rmtree, folder)
        _built = os.path.join(folder, "machineid")
        subprocess.run(["go", "build", "-o", _built, "./cmd/machineid"], cwd=REPOSITORY, check=True, timeout=600)
    return _built


class Process:
    """One machineid process. It ends with this one, however that ends: it reads the pipe that is its stdin until nobody holds the other end."""

    def __init__(self, *args: str) -> None:
        env = {k: v for k, v in os.environ.items() if not k.startswith("MACHINEID_")}
        env.update(MACHINEID_TEST_RUN_MAIN="1", MACHINEID_TEST_SHORT_LEASE="1")
        self.name = args[0]
        self.text = ""
        self._changed = threading.Condition()
        self._process = subprocess.Popen(
            [server_binary(), *args], env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            with self._changed:
                self.text += line.decode("utf-8", "replace")
                self._changed.notify_all()
        with self._changed:
            self._changed.notify_all()

    def await_text(self, pattern: str) -> "re.Match[str]":
        with self._changed:
            self._changed.wait_for(lambda: re.search(pattern, self.text) or self._process.poll() is not None, PATIENT)
            found = re.search(pattern, self.text)
            assert found, f"{self.name} does not print {pattern!r}:\n{self.text}"
            return found

    def kill(self) -> None:
        """SIGKILL, also of a stopped one."""
        if self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait(PATIENT)
        self._reader.join(PATIENT)
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()
        assert "DATA RACE" not in self.text and "panic" not in self.text, self.text

    def pause(self) -> None:
        """SIGSTOP; returns when none of its threads runs any more."""
        os.killpg(self._process.pid, signal.SIGSTOP)
        tasks = Path(f"/proc/{self._process.pid}/task")
        if tasks.is_dir():  # else no Linux: the signal was sent, which has to do
            eventually(f"{self.name} is stopped", lambda: all(b") T " in stat.read_bytes() for stat in tasks.glob("*/stat")))

    def resume(self) -> None:
        os.killpg(self._process.pid, signal.SIGCONT)


class Dev(Process):
    """`machineid dev` on free ports."""

    def __init__(self, data: str) -> None:
        free = [f"--{name}=127.0.0.1:0" for name in ("edge-http", "edge-ops", "authority-http", "authority-link", "authority-raft", "authority-ops")]
        super().__init__("dev", "--data", data, *free)
        self.edge = self.await_text(r"agents ask +(http://[\d.:]+)/")[1]
        self.await_text("Type next:")


_dev: Optional[Dev] = None


def shared_dev() -> Dev:
    global _dev
    if _dev is None:
        folder = tempfile.TemporaryDirectory()
        atexit.register(folder.cleanup)
        _dev = Dev(folder.name)
        atexit.register(_dev.kill)
    return _dev


class Tiers:
    """An authority and an edge, each a process, with a short lease: one that a busy machine keeps, or the shortest there is."""

    def __init__(self, data: str, lease: str = "1s") -> None:
        http, link, raft, ops = (free_address() for _ in range(4))
        self._parts: List[Process] = []
        try:
            self.authority = self._start(
                "authority", "--id", "a1", "--data", data, "--bootstrap", "--open-signup", "--lease", lease,
                "--http", http, "--link", link, "--raft", raft, "--ops", ops,
            )
            edge, edge_ops = free_address(), free_address()
            self.edge_process = self._start("edge", "--id", "e1", "--limits=false", "--http", edge, "--ops", edge_ops, "--authority", link)
            self.edge = "http://" + edge
            eventually("both tiers are ready", lambda: all(ready(at) for at in (ops, edge_ops)))
        except BaseException:
            self.kill()
            raise

    def _start(self, *args: str) -> Process:
        part = Process(*args)
        self._parts.append(part)
        return part

    def kill(self) -> None:
        for part in self._parts:
            part.kill()


class Cluster:
    """Three authority nodes and an edge, each a process, with a short lease."""

    def __init__(self, folder: str) -> None:
        token = os.path.join(folder, "token")
        with open(os.open(token, os.O_WRONLY | os.O_CREAT, 0o600), "w") as f:
            f.write("a-token-of-more-than-thirty-two-characters")
        self._parts: List[Process] = []
        self._args: List[List[str]] = []
        self.nodes: List[Process] = []
        self._ops: List[str] = []
        links: List[str] = []
        first = ""
        try:
            for i in range(3):
                http, link, raft, ops = (free_address() for _ in range(4))
                args = [
                    "authority", "--id", f"a{i + 1}", "--data", os.path.join(folder, f"a{i + 1}"), "--open-signup", "--lease", "1s",
                    "--operator-token-file", token, "--http", http, "--link", link, "--raft", raft, "--ops", ops,
                ]
                self.nodes.append(self._start(*args, *(["--join", first] if first else ["--bootstrap"])))
                self._args.append(args)
                self._ops.append(ops)
                links.append(link)
                first = first or http
                self.await_node(i)
            edge, edge_ops = free_address(), free_address()
            self._start("edge", "--id", "e1", "--limits=false", "--http", edge, "--ops", edge_ops, "--authority", ",".join(links))
            self.edge = "http://" + edge
            eventually("the edge is ready", lambda: ready(edge_ops))
        except BaseException:
            self.kill()
            raise

    def _start(self, *args: str) -> Process:
        part = Process(*args)
        self._parts.append(part)
        return part

    def await_node(self, i: int) -> None:
        eventually(f"node {i + 1} is ready", lambda: ready(self._ops[i]))

    def restart(self, i: int) -> None:
        """Starts a node that was killed; it may not be ready yet."""
        self.nodes[i] = self._start(*self._args[i])

    def kill(self) -> None:
        for part in self._parts:
            part.kill()


class RealServer(unittest.TestCase):
    """Tests with one `machineid dev` for all of a run, and an org of its own for each test."""

    dev: Dev

    @classmethod
    def setUpClass(cls) -> None:
        cls.dev = shared_dev()

    def setUp(self) -> None:
        self.org = MachineID.org_create(self.dev.edge, name=self.id()[-200:])
        self.admin = MachineID(self.org["orgApiKey"], self.dev.edge)
        self.agent = MachineID(self.org["agentKey"], self.dev.edge)
        self.addCleanup(self.admin.close)
        self.addCleanup(self.agent.close)


def ready(ops: str) -> bool:
    try:
        with socket.create_connection(tuple(ops.split(":")), 1) as conn:  # type: ignore[arg-type]
            conn.sendall(b"GET /readyz HTTP/1.0\r\n\r\n")
            return b" 200 " in conn.recv(64)
    except OSError:
        return False


def free_address() -> str:
    """A loopback address that nobody listens on, below the ports of outgoing connections."""
    while True:
        port = random.SystemRandom().randrange(10_000, 30_000)
        try:
            socket.create_server(("127.0.0.1", port)).close()
        except OSError:
            continue
        return f"127.0.0.1:{port}"


def eventually(what: str, holds: Callable[[], bool], within: float = PATIENT) -> None:
    """Waits until a condition of another process holds, which nobody tells us about."""
    end = time.monotonic() + within
    pause = threading.Event()
    while not holds():
        assert time.monotonic() < end, f"not within {within} s: {what}"
        pause.wait(0.01)
