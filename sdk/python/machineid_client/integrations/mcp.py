"""Servers of the Model Context Protocol, and of the package fastmcp: a denied agent's request is refused before anything runs.

    server = MCPServer("files", middleware=[OffSwitch(client, "agent-01")])         # mcp.server.mcpserver
    server.middleware.append(OffSwitch(client, "agent-01"))                         # mcp.server.lowlevel.Server
    server = FastMCP("files", middleware=[OffSwitch(client, "agent-01")])           # fastmcp

A server with many callers finds out whose request it is:

    OffSwitch(client, lambda ctx: ctx.request.headers.get("x-agent-id"))            # behind something that proves the header

Refused requests end in the protocol's error DENIED; its data says which decision it was: {"code": "DEVICE_REVOKED", "deviceId": "agent-01"}.
"""

from __future__ import annotations

import inspect
import sys
from typing import Any, Awaitable, Callable, Dict, Optional, Union

from .._errors import Denied
from . import _run
from ._ask import ask_first
from ._extra import extra
from ._run import Client
from ._threads import ask_in_threads

with extra("mcp"):
    from mcp.server.mcpserver import MCPServer, resolve
    from mcp.server.mcpserver.prompts import base as prompts
    from mcp.server.mcpserver.resources import templates, types
    from mcp.server.mcpserver.utilities import func_metadata
    from mcp.server.session import ServerSession
    from mcp.shared.exceptions import MCPError

__all__ = ["DENIED", "OffSwitch"]

DENIED = -32050  # of the range that JSON-RPC leaves to servers

# What opens and keeps a connection. Anything else, also what later versions of the protocol bring, is asked for.
_CONNECTION = frozenset({"initialize", "ping", "server/discover"})

DeviceID = Union[str, Callable[[Any], Union[Optional[str], Awaitable[Optional[str]]]]]


class OffSwitch:
    """Middleware of a server. Each request is a run of its own: it asks before the tool, resource or prompt, where a plain function begins, and before
    each thing that they ask of the client (sampling, elicitation) or have the server do. So a request after a restore goes through, and one that was
    denied stays so to its end.

    device_id: the agent's, or a function (also async) from the request's context to it. None, or what is no string, is refused.
    every: seconds between questions while a request is served; a denial then cancels it, where it awaits.
    """

    def __init__(self, client: Client, device_id: DeviceID, *, every: Optional[float] = None) -> None:
        self._find = device_id if callable(device_id) else None
        self._switch = _Switch(client, "" if callable(device_id) else device_id, every=every)

    def __repr__(self) -> str:
        return repr(self._switch)

    async def __call__(self, context: Any, call_next: Callable[[Any], Awaitable[Any]]) -> Any:
        """Is called by mcp with a ServerRequestContext and by fastmcp with a MiddlewareContext: both have a method, and pass themselves on."""
        if context.method in _CONNECTION or _is_notification(context):
            return await call_next(context)
        switch = await self._of(context)
        try:
            async with switch.run():
                return await call_next(context)
        except Denied as denied:
            raise _refusal(denied) from None

    async def check_resource_access(self, context: Any) -> None:
        """fastmcp asks this where a resource is not read but named by something else."""
        await self(context, _nothing)

    async def _of(self, context: Any) -> "_Switch":
        if self._find is None:
            return self._switch
        device_id = self._find(context)
        if inspect.isawaitable(device_id):
            device_id = await device_id
        if not isinstance(device_id, str) or not device_id:
            raise MCPError(DENIED, "it is not known which agent this request is of", {"code": "DEVICE_UNKNOWN"})
        return _Switch(self._switch.async_client, device_id, every=self._switch.every)  # one client, so one pool of threads for all callers


class _Switch(_run.OffSwitch):
    def prepare(self) -> None:
        ask_first(ServerSession, "send_request")
        for method in ("call_tool", "read_resource", "get_prompt"):  # by a handler: fastmcp's have the middleware ask
            ask_first(MCPServer, method)
        for module in (func_metadata, prompts, resolve, templates, types):
            ask_in_threads(module)
        if "fastmcp.utilities.async_utils" in sys.modules:
            ask_in_threads(sys.modules["fastmcp.utilities.async_utils"])


async def _nothing(_: Any) -> None:
    return None


def _is_notification(context: Any) -> bool:
    kind = getattr(context, "type", None)  # fastmcp
    return kind == "notification" if kind is not None else context.request_id is None


def _refusal(denied: Denied) -> MCPError:
    data: Dict[str, Any] = {"code": denied.code, "deviceId": denied.device_id}
    return MCPError(DENIED, f"{denied.device_id} may not work: {denied.code}", data)
