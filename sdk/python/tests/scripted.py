"""A server that answers what a test tells it to, over real sockets."""

from __future__ import annotations

import json
import socket
import ssl
import threading
from typing import Any, Callable, Dict, List, Optional, Union


class Request:
    """What a client sent. body is parsed; connection counts the connections from 0."""

    def __init__(self, line: str, headers: Dict[str, str], body: bytes, connection: int) -> None:
        self.method, self.target, _ = line.split(" ", 2)
        self.path = self.target.partition("?")[0]
        self.headers, self.raw, self.connection = headers, body, connection
        self.body: Any = json.loads(body) if body else None

    @property
    def handler(self) -> str:
        name = self.path[len("/api/v1/"):]
        return "org_create" if name == "org/create" else name


class Client:
    """The server's side of one connection, for answers that do more than write bytes."""

    def __init__(self, server: "Scripted", conn: socket.socket, request: Request) -> None:
        self.server, self.conn = server, conn
        self._request_id = request.headers["x-request-id"].encode()

    def send(self, data: bytes) -> None:
        """Sends, with the request's id for each RID."""
        try:
            self.conn.sendall(data.replace(RID.encode(), self._request_id))
        except OSError:
            pass  # the client has gone

    def await_gone(self) -> None:
        """Waits until the client closes, or the test is over."""
        try:
            while self.conn.recv(4096):
                pass
        except OSError:
            pass


Answer = Union[bytes, Callable[[Request, Client], Optional[bytes]]]


# Stands for the request's own X-Request-Id in an answer, and is as long as one.
RID = "@" * 36
HEAD = f"Content-Type: application/json\r\nX-Request-Id: {RID}\r\n".encode()


def http(status: int, body: Union[bytes, Dict[str, Any]], *headers: str) -> bytes:
    """A whole answer with its length, to the request that it answers."""
    text = body if isinstance(body, bytes) else json.dumps({"request_id": RID, **body}).encode()
    head = [f"HTTP/1.1 {status} X", HEAD.decode().rstrip(), f"Content-Length: {len(text)}", *headers]
    return "\r\n".join(head).encode() + b"\r\n\r\n" + text


def allow(device_id: str = "a", **more: Any) -> Dict[str, Any]:
    body = {"allowed": True, "code": "ALLOW", "handler": "devices/validate", "deviceId": device_id, "request_id": RID, "status": "ok", "valid": True}
    body.update(more)
    return body


def deny(code: str = "DEVICE_REVOKED", **more: Any) -> Dict[str, Any]:
    body = {"allowed": False, "code": code, "handler": "devices/validate", "deviceId": "a", "request_id": RID, "status": "revoked", "valid": False}
    body.update(more)
    return body


def error(code: str, handler: str, **more: Any) -> Dict[str, Any]:
    return {"status": "error", "error": code, "message": "said by the test", "handler": handler, "request_id": RID, **more}


def bare(body: Dict[str, Any]) -> Dict[str, Any]:
    """An answer without what is another each time, or for people."""
    return {name: value for name, value in body.items() if name not in ("request_id", "message")}


def hang(request: Request, client: Client) -> None:
    """Answers nothing and keeps the connection."""
    client.await_gone()


def close(request: Request, client: Client) -> None:
    """Closes the connection without a byte."""


def then_close(data: bytes) -> Answer:
    def answer(request: Request, client: Client) -> None:
        client.send(data)

    return answer


class Scripted:
    """Gives one answer to each request, in order; the last one again and again. An answer of None closes the connection."""

    def __init__(self, *answers: Answer, tls: Optional[ssl.SSLContext] = None, host: str = "127.0.0.1") -> None:
        self._tls = tls
        self.answers = list(answers)
        self.requests: List[Request] = []
        self.changed = threading.Condition()
        self.over = threading.Event()
        self._conns: List[socket.socket] = []
        self._threads: List[threading.Thread] = []
        self._listener = socket.create_server((host, 0))
        self.port = self._listener.getsockname()[1]
        self.url = f"http{'s' if tls else ''}://{host}:{self.port}"
        self._start(self._accept)

    def __enter__(self) -> "Scripted":
        return self

    def __exit__(self, *_: object) -> None:
        self.over.set()
        shut(self._listener)
        with self.changed:
            conns = list(self._conns)
        for conn in conns:
            shut(conn)
        for thread in self._threads:
            thread.join(10)
            assert not thread.is_alive(), "a thread of the scripted server does not end"

    def await_requests(self, n: int, timeout: float = 20.0) -> None:
        with self.changed:
            assert self.changed.wait_for(lambda: len(self.requests) >= n, timeout), f"not {n} requests: {len(self.requests)}"

    def _start(self, target: Callable[..., None], *args: Any) -> None:
        thread = threading.Thread(target=target, args=args, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        count = 0
        while True:
            try:
                conn, _ = self._listener.accept()
            except OSError:
                return
            with self.changed:
                self._conns.append(conn)
            if self.over.is_set():
                shut(conn)
                return
            self._start(self._serve, conn, count)
            count += 1

    def _serve(self, conn: socket.socket, count: int) -> None:
        try:
            if self._tls is not None:
                conn = self._tls.wrap_socket(conn, server_side=True)
                with self.changed:
                    self._conns.append(conn)
            reader = conn.makefile("rb")
        except OSError:
            shut(conn)
            return
        try:
            while True:
                request = read_request(reader, count)
                if request is None:
                    return
                with self.changed:
                    answer = self.answers[min(len(self.requests), len(self.answers) - 1)]
                    self.requests.append(request)
                    self.changed.notify_all()
                client = Client(self, conn, request)
                data = answer(request, client) if callable(answer) else answer
                if data is None:
                    return
                client.send(data)
        except OSError:
            pass
        finally:
            reader.close()
            shut(conn)


def read_request(reader: Any, count: int) -> Optional[Request]:
    line = reader.readline().decode("latin-1").rstrip("\r\n")
    if not line:
        return None
    headers: Dict[str, str] = {}
    while True:
        header = reader.readline().decode("latin-1").rstrip("\r\n")
        if not header:
            break
        name, _, value = header.partition(":")
        assert name.lower() not in headers, f"{name} is sent twice"
        headers[name.lower()] = value.strip()
    body = reader.read(int(headers.get("content-length", "0")))
    return Request(line, headers, body, count)


def shut(sock: socket.socket) -> None:
    try:
        sock.shutdown(socket.SHUT_RDWR)
    except OSError:
        pass
    sock.close()
