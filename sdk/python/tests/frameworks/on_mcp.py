"""Cells of MCP servers: mcp's two, over HTTP and in memory, and fastmcp's. The caller goes on whatever is answered, as an agent's framework might."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any, AsyncIterator, Awaitable, Callable, List

import uvicorn
from fastmcp import Client as FastClient
from fastmcp import FastMCP
from mcp import Client, MCPError
from mcp.server.lowlevel import Server
from mcp.server.mcpserver import Context, MCPServer
from mcp.types import (
    CallToolResult, CreateMessageResult, GetPromptResult, ListToolsResult, PromptMessage, ReadResourceResult, SamplingMessage, TextContent,
    TextResourceContents, Tool,
)

from machineid_client import Denied
from machineid_client.integrations.mcp import DENIED, OffSwitch

from .scene import EVERY_END, FINAL, Cell, Scene, main


def middleware(scene: Scene, **options: Any) -> List[Any]:
    return [OffSwitch(scene.async_client, scene.device, **options)] if scene.guarded else []


def server(scene: Scene, **options: Any) -> MCPServer:
    made = MCPServer("s", middleware=middleware(scene, **options))
    furnish(made, scene)
    return made


def furnish(made: Any, scene: Scene) -> None:
    @made.tool()
    async def act(n: int) -> str:
        return await scene.atool(n)

    @made.tool()
    def act_sync(n: int) -> str:
        return scene.tool(n)

    @made.resource("thing://{n}")
    def thing(n: str) -> str:
        return scene.tool(int(n))

    @made.prompt()
    def ask(n: str) -> str:
        return scene.tool(int(n))


async def all_of(*steps: Callable[[], Awaitable[Any]]) -> Any:
    """Takes all steps whatever comes of them; returns the first refusal as what the agent's own client would raise."""
    refused: List[MCPError] = []
    for step in steps:
        try:
            result = await step()
            assert not getattr(result, "is_error", False), result
        except MCPError as err:
            assert err.error.code == DENIED, err.error
            refused.append(err)
    if refused:
        data = refused[0].error.data
        return Denied(data["deviceId"], {"code": data["code"]})
    return FINAL


async def of_each_kind(client: Any) -> Any:
    return await all_of(
        lambda: client.call_tool("act", {"n": 0}),
        lambda: client.call_tool("act", {"n": 1}),
        lambda: client.call_tool("act_sync", {"n": 2}),
        lambda: client.read_resource("thing://3"),
        lambda: client.get_prompt("ask", {"n": "4"}),
    )


async def in_memory(scene: Scene) -> Any:
    async with Client(server(scene)) as client:
        return await of_each_kind(client)


async def handshake_era(scene: Scene) -> Any:
    """The versions of the protocol before 2026, which open a session."""
    async with Client(server(scene), mode="legacy") as client:
        return await of_each_kind(client)


@contextlib.asynccontextmanager
async def serving(app: Any) -> AsyncIterator[str]:
    web = uvicorn.Server(uvicorn.Config(app, port=0, log_level="error", lifespan="on"))
    task = asyncio.ensure_future(web.serve())
    while not web.started:
        await asyncio.sleep(0.01)
        if task.done():
            task.result()
    try:
        yield f"http://127.0.0.1:{web.servers[0].sockets[0].getsockname()[1]}"
    finally:
        web.should_exit = web.force_exit = True
        await task


async def over_http(scene: Scene) -> Any:
    async with serving(server(scene).streamable_http_app()) as url, Client(url + "/mcp") as client:
        return await of_each_kind(client)


async def low_level(scene: Scene) -> Any:
    async def list_tools(ctx: Any, params: Any) -> ListToolsResult:
        return ListToolsResult(tools=[Tool(name="act", input_schema={"type": "object"})])

    async def call_tool(ctx: Any, params: Any) -> CallToolResult:
        return CallToolResult(content=[TextContent(type="text", text=await scene.atool(params.arguments["n"]))])

    async def read_resource(ctx: Any, params: Any) -> ReadResourceResult:
        return ReadResourceResult(contents=[TextResourceContents(uri=params.uri, text=await scene.atool(3))])

    async def get_prompt(ctx: Any, params: Any) -> GetPromptResult:
        return GetPromptResult(messages=[PromptMessage(role="user", content=TextContent(type="text", text=await scene.atool(4)))])

    made = Server("s", on_list_tools=list_tools, on_call_tool=call_tool, on_read_resource=read_resource, on_get_prompt=get_prompt)
    made.middleware.extend(middleware(scene))
    async with Client(made) as client:
        return await all_of(
            lambda: client.call_tool("act", {"n": 0}),
            lambda: client.call_tool("act", {"n": 1}),
            lambda: client.read_resource("thing://3"),
            lambda: client.get_prompt("ask", {"n": "4"}),
        )


async def parallel(scene: Scene) -> Any:
    made = server(scene)
    tool = scene.atogether(3)

    @made.tool()
    async def together(n: int) -> str:
        return await tool(n)

    async with Client(made) as client:
        await client.list_tools()  # which the client asks for after a tool's first answer, to check it
        await asyncio.gather(*(client.call_tool("together", {"n": i}) for i in range(3)))
        return await all_of(lambda: client.call_tool("act", {"n": 3}))


async def sampling(scene: Scene) -> Any:
    """A tool that has the client's model say something, after the end."""
    made = server(scene)

    @made.tool()
    async def think(ctx: Context) -> str:
        await scene.atool()
        text = TextContent(type="text", text="go")
        said = await ctx.session.create_message([SamplingMessage(role="user", content=text)], max_tokens=10)
        return str(said.content.text)

    async def model(context: Any, params: Any) -> CreateMessageResult:
        scene.began("model")
        return CreateMessageResult(role="assistant", content=TextContent(type="text", text=FINAL), model="m")

    async with Client(made, mode="legacy", sampling_callback=model) as client:
        return await all_of(lambda: client.call_tool("think", {}))


async def interrupted(scene: Scene) -> Any:
    """every=: a tool that is under way is cancelled."""
    made = server(scene, every=0.1)

    @made.tool()
    async def wait() -> str:
        await scene.atool()
        if scene.guarded and scene.ends:
            await asyncio.Event().wait()
        scene.began("the rest of the tool")
        return "did"

    async with Client(made) as client:
        return await all_of(lambda: client.call_tool("wait", {}))


async def many_callers(scene: Scene) -> Any:
    """The agent is found by a header; another agent goes on."""
    scene.stage.admin.register(scene.device + "-other")

    async def whose(ctx: Any) -> Any:
        return ctx.request.headers.get("x-agent-id")

    made = MCPServer("s", middleware=[OffSwitch(scene.async_client, whose)] if scene.guarded else [])
    furnish(made, scene)

    @made.tool()
    async def other() -> str:
        return "did"

    async with serving(made.streamable_http_app()) as url:
        async with connected(url, scene.device) as mine, connected(url, scene.device + "-other") as others, connected(url) as nobodys:
            await others.call_tool("other", {})
            try:
                return await all_of(lambda: mine.call_tool("act", {"n": 0}), lambda: mine.call_tool("act", {"n": 1}))
            finally:
                await others.call_tool("other", {})
                if scene.guarded:
                    with contextlib.suppress(MCPError):
                        await nobodys.call_tool("act", {"n": 9})
                        raise AssertionError("a caller that nobody knows was served")
                scene.stage.admin.remove(scene.device + "-other")


@contextlib.asynccontextmanager
async def connected(url: str, agent: str = "") -> AsyncIterator[Client]:
    from mcp.client.streamable_http import streamable_http_client
    from mcp.shared._httpx_utils import create_mcp_http_client

    async with create_mcp_http_client(headers={"x-agent-id": agent} if agent else {}) as http:
        async with Client(streamable_http_client(url + "/mcp", http_client=http)) as client:
            yield client


async def fast_in_memory(scene: Scene) -> Any:
    made = FastMCP("s", middleware=middleware(scene))
    furnish(made, scene)
    async with FastClient(made) as client:
        return await of_each_kind(client)


async def fast_mounted(scene: Scene) -> Any:
    """A server mounted into another one, which alone has the middleware."""
    inner, made = FastMCP("inner"), FastMCP("s", middleware=middleware(scene))
    furnish(inner, scene)
    made.mount(inner)
    async with FastClient(made) as client:
        return await of_each_kind(client)


async def fast_over_http(scene: Scene) -> Any:
    made = FastMCP("s", middleware=middleware(scene))
    furnish(made, scene)
    async with serving(made.http_app()) as url, FastClient(url + "/mcp") as client:
        return await of_each_kind(client)


async def fast_called_directly(scene: Scene) -> Any:
    made = FastMCP("s", middleware=middleware(scene))
    furnish(made, scene)
    return await all_of(*(lambda n=n: made.call_tool("act", {"n": n}) for n in range(3)))


def cell(name: str, body: Callable[[Scene], Awaitable[Any]], *more: Any) -> Cell:
    async def raising(scene: Scene) -> Any:
        said = await body(scene)
        if isinstance(said, Denied):  # not inside: the clients' task groups would wrap it
            raise said
        return said

    return Cell(name, raising, *more)


CELLS = [
    cell("in memory", in_memory, EVERY_END),
    cell("handshake era", handshake_era),
    cell("over HTTP", over_http, EVERY_END),
    cell("low-level server", low_level),
    cell("parallel", parallel),
    cell("sampling", sampling),
    cell("many callers", many_callers),
    cell("interrupted: every=", interrupted),
    cell("fastmcp: in memory", fast_in_memory, EVERY_END),
    cell("fastmcp: mounted", fast_mounted),
    cell("fastmcp: over HTTP", fast_over_http),
    cell("fastmcp: called directly", fast_called_directly),
]

if __name__ == "__main__":
    main("MCP", CELLS, ["mcp", "fastmcp"])
