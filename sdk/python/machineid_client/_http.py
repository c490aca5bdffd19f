"""One HTTP exchange at a time over kept connections, each within a deadline of its own. It follows no redirect and knows no proxy."""

from __future__ import annotations

import errno
import http.client
import io
import os
import select
import selectors
import socket
import ssl
import threading
from typing import Any, Dict, List, Mapping, Optional, Tuple, cast
from urllib.parse import urlsplit

from ._clock import now

# A page of 10,000 devices with 4 KiB of metadata each is 44 MB; whatever is larger is not ours.
MAX_BODY = 64 << 20
# The server closes after 75 s; a connection that rested longer than this is likely to be closed while a request is on its way.
MAX_IDLE = 60.0
MAX_IDLE_CONNECTIONS = 16
# How long an address is tried before the next one is tried as well (RFC 8305), and how often it is looked whether the call was given up meanwhile.
STAGGER, LOOK = 0.25, 0.05


class Cancelled(Exception):
    """The exchange was given up by Cancel."""


class Failed(Exception):
    """No whole answer. sent: the server may have seen the request. answered: at least a byte of an answer came."""

    def __init__(self, why: str, *, sent: bool, answered: bool = False, stale: bool = False, timeout: bool = False) -> None:
        super().__init__(why)
        self.sent = sent
        self.answered = answered
        self.stale = stale  # a kept connection that the server had closed
        self.timeout = timeout


class Response:
    """A whole answer, whatever its status."""

    __slots__ = ("status", "headers", "body")

    def __init__(self, status: int, headers: Mapping[str, str], body: bytes) -> None:
        self.status = status
        self.headers = headers
        self.body = body


class Cancel:
    """Ends an exchange from another thread: whatever it waits for fails at once. Safe for concurrent use."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._socket: Optional[socket.socket] = None
        self._event = threading.Event()

    def cancel(self) -> None:
        """Gives up. What was sent stays sent: a change may be made all the same."""
        with self._lock:
            self._event.set()
            if self._socket is not None:
                _shut(self._socket)

    @property
    def cancelled(self) -> bool:
        return self._event.is_set()

    def sleep(self, seconds: float) -> None:
        """Waits; raises Cancelled as soon as it is cancelled."""
        if self._event.wait(seconds):
            raise Cancelled

    def hold(self, sock: Optional[socket.socket]) -> None:
        """Names the socket that cancel has to shut; None when the exchange is over."""
        with self._lock:
            self._socket = sock
            if self._event.is_set():
                raise Cancelled


def _shut(sock: socket.socket) -> None:
    try:
        socket.socket.shutdown(sock, socket.SHUT_RDWR)  # not SSLSocket's: its state belongs to the thread that reads
    except OSError:
        pass


def _left(deadline: float) -> float:
    left = deadline - now()
    if left <= 0:
        raise socket.timeout("out of time")
    return left


class _Reader(io.RawIOBase):
    """Reads a socket, each time for no longer than is left until the deadline: a server that drips bytes gains nothing by it."""

    def __init__(self, timed: "_TimedSocket") -> None:
        self._timed = timed

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        if self._timed.over:
            return 0
        self._timed.arm()
        n = self._timed.sock.recv_into(buffer)
        if n:
            self._timed.answered = True
        return n


class _Buffered(io.BufferedReader):
    """Notes at the end of an answer whether more lies in the buffer than that answer: then whatever comes next cannot be trusted."""

    def __init__(self, timed: "_TimedSocket") -> None:
        super().__init__(_Reader(timed))
        self._timed = timed

    def close(self) -> None:
        if not self.closed:
            self._timed.over = True
            self._timed.left_over = bool(self.peek(1))
        super().close()


class _TimedSocket:
    """What http.client needs of a socket, with a deadline for all of an exchange instead of a time-out for each operation."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.deadline = 0.0
        self.answered = False  # a byte of an answer came
        self.over = False  # the answer was read
        self.left_over = False

    def start(self, deadline: float) -> None:
        """Begins an exchange."""
        self.deadline, self.answered, self.over, self.left_over = deadline, False, False, False

    def arm(self) -> None:
        self.sock.settimeout(_left(self.deadline))

    def sendall(self, data: Any) -> None:
        self.arm()
        self.sock.sendall(data)  # its time-out is for all of the data

    def makefile(self, *_: Any, **__: Any) -> io.BufferedReader:
        return _Buffered(self)

    def close(self) -> None:
        """Nothing: http.client closes before it reads what ends with the connection. _Connection closes."""


class _Connection:
    """One kept connection. It belongs to one thread at a time."""

    def __init__(self, host: str, timed: _TimedSocket) -> None:
        self.timed = timed
        self.idle_since = 0.0
        self.client = http.client.HTTPConnection(host)
        self.client.auto_open = 0
        self.client.sock = timed

    def close(self) -> None:
        self.client.close()
        self.timed.sock.close()

    def usable(self) -> bool:
        """Nobody closed it while it rested, and no answer without a request lies in it, which would be taken for the next one's."""
        if now() - self.idle_since > MAX_IDLE:
            return False
        try:
            poll = select.poll()
            poll.register(self.timed.sock, select.POLLIN)
            return not poll.poll(0)
        except AttributeError:  # a system without poll
            return not select.select([self.timed.sock], [], [], 0)[0]
        except (OSError, ValueError):
            return False


class _Idle:
    """The resting connections of one process. A fork makes a new one: two processes must never write into one connection."""

    def __init__(self) -> None:
        self.pid = os.getpid()
        self.lock = threading.Lock()
        self.connections: List[_Connection] = []


class Pool:
    """Connections to one server, kept between exchanges. Safe for concurrent use, also after a fork."""

    def __init__(self, base_url: str, context: Optional[ssl.SSLContext] = None) -> None:
        self.host, self.port, self.prefix, secure = parse_base_url(base_url)
        self._context = (context or _trusting()) if secure else None
        self._idle = _Idle()

    def exchange(
        self, method: str, path: str, headers: Mapping[str, str], body: Optional[bytes], deadline: float, cancel: Cancel, fresh: bool = False
    ) -> Response:
        """Sends one request and reads its whole answer. fresh: over a new connection. Raises Failed or Cancelled."""
        conn = None if fresh else self._take()
        reused = conn is not None
        if conn is None:
            conn = self._connect(deadline, cancel)
        timed = conn.timed
        timed.start(deadline)
        keep = False
        try:
            cancel.hold(timed.sock)
            conn.client.request(method, self.prefix + path, body=body, headers=dict(headers))
            answer = conn.client.getresponse()
            if answer.headers.defects:  # a line that is none: the parser leaves out what follows it
                raise http.client.HTTPException(f"the head is malformed: {answer.headers.defects[0]!r}")
            text = _read(answer)
            # After an answer that has no body by its status (1xx, 204, 304) another one or a body may still come.
            plain = answer.status >= 200 and answer.status not in (204, 304)
            keep = plain and not answer.will_close and answer.isclosed() and not timed.left_over
            return Response(answer.status, _head(answer), text)
        except Exception as err:  # also what a parser makes of an answer that nobody thought of
            if cancel.cancelled:
                raise Cancelled from err
            timeout = isinstance(err, socket.timeout)
            raise Failed(
                "out of time" if timeout else f"{type(err).__name__}: {err}",
                sent=True,
                answered=timed.answered,
                stale=reused and not timed.answered and not timeout,
                timeout=timeout,
            ) from err
        finally:
            try:
                cancel.hold(None)
            except Cancelled:
                keep = False
            if keep:
                self._rest(conn)
            else:
                conn.close()

    def forget(self) -> None:
        """Closes the resting connections: after one has timed out the others may lead nowhere as well."""
        idle, self._idle = self._idle, _Idle()
        if idle.pid == os.getpid():
            with idle.lock:
                for conn in idle.connections:
                    conn.close()
                idle.connections.clear()

    def _take(self) -> Optional[_Connection]:
        idle = self._idle
        if idle.pid != os.getpid():
            self._idle = _Idle()
            for conn in list(idle.connections):  # without the lock, which a thread of the parent may have held at the fork
                conn.close()  # this process's descriptors; the parent's connections stay open
            return None
        while True:
            with idle.lock:
                if not idle.connections:
                    return None
                conn = idle.connections.pop()
            if conn.usable():
                return conn
            conn.close()

    def _rest(self, conn: _Connection) -> None:
        conn.idle_since = now()
        idle = self._idle
        with idle.lock:
            if len(idle.connections) < MAX_IDLE_CONNECTIONS:
                idle.connections.append(conn)
                return
        conn.close()

    def _connect(self, deadline: float, cancel: Cancel) -> _Connection:
        last: Optional[Exception] = None
        addresses = _resolve(self.host, self.port, deadline)
        while addresses:
            sock: Optional[socket.socket] = None
            done = False
            try:
                sock = _first(addresses, deadline, cancel)
                cancel.hold(sock)
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                if self._context is not None:
                    sock = self._context.wrap_socket(sock, server_hostname=self.host, do_handshake_on_connect=False)
                    cancel.hold(sock)
                    sock.settimeout(_left(deadline) / (1 + len(addresses)))  # the others have a share, should nobody be behind this one
                    sock.do_handshake()
                name = f"[{self.host}]" if ":" in self.host else self.host
                conn = _Connection(f"{name}:{self.port}", _TimedSocket(sock))
                done = True
                return conn
            except Exception as err:
                if cancel.cancelled:
                    raise Cancelled from err
                last = err
                if sock is None:
                    break  # none could be tried, or none is left
            finally:
                if sock is not None and not done:
                    sock.close()
        timeout = isinstance(last, socket.timeout)
        raise Failed(f"connect to {self.host}:{self.port}: {last}", sent=False, timeout=timeout) from last


def _trusting() -> ssl.SSLContext:
    try:
        return ssl.create_default_context()
    except OSError as err:  # SSLKEYLOGFILE names a file that cannot be written, and the like
        raise ValueError(f"https cannot be had here: {err}") from err


Address = Tuple[Any, Any, int, Any]


def _first(addresses: List[Address], deadline: float, cancel: Cancel) -> socket.socket:
    """Connects to the address that answers first. One is tried when those before it have failed, or have not answered for a moment: one behind which
    nobody is must not take the time of the others. What was refused or taken is removed from the list; raises OSError if all of it was."""
    waiting = selectors.DefaultSelector()
    last: Exception = socket.timeout("out of time")
    tried: List[Address] = []
    due = 0.0  # the next one's time
    try:
        while True:
            fresh = [a for a in addresses if a not in tried]
            if fresh and (now() >= due or not waiting.get_map()):
                tried.append(fresh[0])
                try:
                    _begin(waiting, fresh[0])
                    due = now() + STAGGER
                except (OSError, TypeError, ValueError, OverflowError) as err:  # the latter: an address of a family that this Python does not know
                    addresses.remove(fresh[0])
                    last = err
                continue
            if not waiting.get_map():
                raise last
            try:
                left = _left(deadline)
            except socket.timeout:
                addresses.clear()
                raise
            for key, _ in waiting.select(max(min(left, LOOK, due - now() if fresh else LOOK), 0)):
                sock = cast(socket.socket, key.fileobj)
                waiting.unregister(sock)
                addresses.remove(key.data)
                code = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
                if code == 0:
                    sock.settimeout(left)
                    return sock
                sock.close()
                last, due = OSError(code, os.strerror(code)), 0.0
            if cancel.cancelled:
                raise Cancelled
    finally:
        for key in list(waiting.get_map().values()):
            cast(socket.socket, key.fileobj).close()
        waiting.close()


def _begin(waiting: selectors.BaseSelector, address: Address) -> None:
    """Begins to connect."""
    family, kind, proto, at = address
    sock = socket.socket(family, kind, proto)
    try:
        sock.setblocking(False)
        code = sock.connect_ex(at)
        if code not in (0, errno.EINPROGRESS, errno.EWOULDBLOCK, getattr(errno, "WSAEWOULDBLOCK", 0)):
            raise OSError(code, os.strerror(code))
        waiting.register(sock, selectors.EVENT_WRITE, address)
    except BaseException:
        sock.close()
        raise


def _head(answer: http.client.HTTPResponse) -> Dict[str, str]:
    """The headers by their names in lower case. One that is given several times is one with commas (RFC 9110, 5.3), so that no reader sees the first only."""
    head: Dict[str, str] = {}
    for name, value in answer.getheaders():
        name = name.lower()
        head[name] = f"{head[name]}, {value}" if name in head else value
    return head


def _read(answer: http.client.HTTPResponse) -> bytes:
    """Reads a whole body; one that ends early raises IncompleteRead, one that is too large HTTPException."""
    if answer.length is not None and answer.length <= MAX_BODY:
        return answer.read()
    text = bytearray()
    while answer.length is None and len(text) <= MAX_BODY:
        some = answer.read(1 << 16)
        if not some:
            return bytes(text)
        text += some
    raise http.client.HTTPException(f"the answer is larger than {MAX_BODY} bytes")


def _resolve(host: str, port: int, deadline: float) -> List[Address]:
    """Looks a name up, within the deadline: the system's look-up knows none, so it runs in a thread that may outlive the call."""
    found: List[Address] = []
    failed: List[Exception] = []

    def look_up(flags: int = 0) -> None:
        try:
            found.extend((a[0], a[1], a[2], a[4]) for a in socket.getaddrinfo(host, port, 0, socket.SOCK_STREAM, 0, flags))
        except Exception as err:  # UnicodeError too: a label of a name may have 63 characters
            failed.append(err)

    look_up(socket.AI_NUMERICHOST)
    if found:
        return found
    failed.clear()
    thread = threading.Thread(target=look_up, name="machineid-look-up", daemon=True)
    try:
        thread.start()
    except RuntimeError as err:  # too many threads, or the interpreter ends
        raise Failed(f"look up {host}: {err}", sent=False) from err
    thread.join(max(deadline - now(), 0))
    if thread.is_alive():
        raise Failed(f"look up {host}: out of time", sent=False, timeout=True)
    if failed or not found:
        raise Failed(f"look up {host}: {failed[0] if failed else 'no address'}", sent=False)
    return found


def parse_base_url(url: str) -> Tuple[str, int, str, bool]:
    """Splits a base URL into host, port, path prefix and whether it is https. Raises ValueError."""
    if not isinstance(url, str):
        raise ValueError(f"base_url is a str, not {type(url).__name__}")
    url = url.strip()
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname or any(c < " " for c in url):  # urlsplit leaves line ends and tabs out
        raise ValueError(f"base_url {url!r} is no http:// or https:// URL: give one like http://127.0.0.1:8080")
    if parts.username is not None or parts.password is not None or "?" in url or "#" in url:
        raise ValueError("base_url has more than scheme, host, port and path: leave user, password, query and fragment out")
    if any(c <= " " or c > "~" for c in parts.hostname):
        raise ValueError(f"base_url {url!r} has a host that is not ASCII: give its form that begins with xn--")
    port = parts.netloc.rpartition("]")[2].partition(":")[1:]
    if port[0] and not (port[1].isascii() and port[1].isdigit() and len(port[1]) < 6 and 0 < int(port[1]) < 65536):
        raise ValueError(f"base_url {url!r} has a port that is none: give one from 1 to 65535, or leave it out")
    prefix = parts.path.rstrip("/")
    if any(c <= " " or c > "~" for c in prefix):
        raise ValueError(f"base_url {url!r} has a path with spaces or characters that are not ASCII: escape them")
    secure = parts.scheme == "https"
    return parts.hostname, parts.port or (443 if secure else 80), prefix, secure
