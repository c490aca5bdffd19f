"""Cells of MCP servers: mcp's two, over HTTP and in memory, and fastmcp's. The caller goes on whatever is answered, as an agent's framework might."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import re
from typing import Annotated, Any, AsyncIterator, Awaitable, Callable, List

import anyio.to_thread
import uvicorn
from fastmcp import Client as FastClient
from fastmcp import Context as FastContext
from fastmcp import FastMCP
from mcp import Client, MCPError
from mcp.server.lowlevel import Server
from mcp.server.mcpserver import Context, MCPServer, Resolve
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


async def all_at_once(client: Any, count: int, again: Callable[[], Awaitable[Any]]) -> Any:
    """Calls the tool together(n) for each n at once, whatever comes of them."""

    async def one(n: int) -> None:
        with contextlib.suppress(Exception):
            await client.call_tool("fitting", {"n": n})

    await asyncio.gather(*map(one, range(count)))
    return await all_of(again)


def add_fitting(made: Any, scene: Scene) -> None:
    """A plain function, for which there are two threads: two begin, the others wait."""
    anyio.to_thread.current_default_thread_limiter().total_tokens = 2
    begun, together = itertools.count(), scene.together(2)

    @made.tool()
    def fitting(n: int) -> str:
        return together(n) if next(begun) < 2 else scene.tool(n)


async def more_than_fit(scene: Scene) -> Any:
    made = server(scene)
    add_fitting(made, scene)
    async with Client(made) as client:
        await client.list_tools()
        return await all_at_once(client, 8, lambda: client.call_tool("act", {"n": 9}))


async def fast_more_than_fit(scene: Scene) -> Any:
    made = FastMCP("s", middleware=middleware(scene))
    furnish(made, scene)
    add_fitting(made, scene)
    async with FastClient(made) as client:
        return await all_at_once(client, 8, lambda: client.call_tool("act", {"n": 9}))


def of_resources(made: Any, scene: Scene) -> None:
    """Resources and prompts that are plain functions, and two threads for them."""
    anyio.to_thread.current_default_thread_limiter().total_tokens = 2
    begun, together = itertools.count(), scene.together(2)

    def fitting(n: int) -> str:
        return together(n) if next(begun) < 2 else scene.tool(n)

    @made.resource("fitting://{n}")
    def template(n: str) -> str:
        return fitting(int(n))

    @made.prompt()
    def asked(n: str) -> str:
        return fitting(int(n))

    for i in range(3):
        made.resource(f"static://{i}", name=f"static{i}")(static(fitting, i))


def static(act: Callable[[int], str], n: int) -> Callable[[], str]:
    def resource() -> str:
        return act(n)

    return resource


async def read_at_once(client: Any) -> Any:
    async def one(step: Any) -> None:
        with contextlib.suppress(Exception):
            await step

    await asyncio.gather(
        *(one(client.read_resource(f"fitting://{n}")) for n in range(3)), *(one(client.get_prompt("asked", {"n": str(n)})) for n in range(3)),
        *(one(client.read_resource(f"static://{n}")) for n in range(3)),
    )
    return await all_of(lambda: client.call_tool("act", {"n": 9}))


async def resources_and_prompts(scene: Scene) -> Any:
    made = server(scene)
    of_resources(made, scene)
    async with Client(made) as client:
        return await read_at_once(client)


async def fast_resources_and_prompts(scene: Scene) -> Any:
    made = FastMCP("s", middleware=middleware(scene))
    furnish(made, scene)
    of_resources(made, scene)
    async with FastClient(made) as client:
        return await read_at_once(client)


async def resolved(scene: Scene) -> Any:
    """Plain functions that tools need the results of, and two threads for them."""
    made = server(scene)
    anyio.to_thread.current_default_thread_limiter().total_tokens = 2
    begun, together = itertools.count(), scene.together(2)

    def found() -> str:
        n = next(begun)
        return together(n) if n < 2 else scene.tool(n)

    async def fitting(n: int, what: str) -> str:
        return what

    fitting.__annotations__.update(n=int, what=Annotated[str, Resolve(found)])
    made.add_tool(fitting)
    async with Client(made) as client:
        await client.list_tools()
        return await all_at_once(client, 6, lambda: client.call_tool("act", {"n": 9}))


async def tools_in_a_tool(scene: Scene) -> Any:
    """A tool that has the server's other tools, resources and prompts do something."""
    made = server(scene)

    @made.tool()
    async def outer(ctx: Context) -> str:
        await scene.atool(0)
        for step in (made.call_tool("act", {"n": 1}), made.read_resource("thing://2"), made.get_prompt("ask", {"n": "3"}), ctx.read_resource("thing://4")):
            with contextlib.suppress(Exception):
                await step
        return "did"

    async with Client(made) as client:
        return await all_of(lambda: client.call_tool("outer", {}), lambda: client.call_tool("act", {"n": 5}))


async def fast_tools_in_a_tool(scene: Scene) -> Any:
    made = FastMCP("s", middleware=middleware(scene))
    furnish(made, scene)

    @made.tool()
    async def outer(ctx: FastContext) -> str:
        await scene.atool(0)
        for step in (made.call_tool("act", {"n": 1}), ctx.read_resource("thing://2"), ctx.get_prompt("ask", {"n": "3"})):
            with contextlib.suppress(Exception):
                await step
        return "did"

    async with FastClient(made) as client:
        return await all_of(lambda: client.call_tool("outer", {}), lambda: client.call_tool("act", {"n": 5}))


async def fast_mounted_with_its_own(scene: Scene) -> Any:
    """Only the mounted server has the middleware: fastmcp makes an ordinary error of what it is refused with, which says the code in words."""
    inner, made = FastMCP("inner", middleware=middleware(scene)), FastMCP("s")
    furnish(inner, scene)
    made.mount(inner)
    said: List[str] = []
    async with FastClient(made) as client:
        for step in (lambda: client.call_tool("act", {"n": 0}), lambda: client.call_tool("act", {"n": 1}), lambda: client.read_resource("thing://2")):
            try:
                await step()
            except Exception as error:
                said += re.findall(r"may not work: (\w+)", str(error))
    return Denied(scene.device, {"code": said[0]}) if said else FINAL


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
    cell("parallel: more than fit", more_than_fit),
    cell("parallel: resources and prompts", resources_and_prompts),
    cell("parallel: resolved", resolved),
    cell("tools in a tool", tools_in_a_tool),
    cell("fastmcp: more than fit", fast_more_than_fit),
    cell("fastmcp: resources and prompts", fast_resources_and_prompts),
    cell("fastmcp: tools in a tool", fast_tools_in_a_tool),
    cell("fastmcp: mounted with its own", fast_mounted_with_its_own),
]

if __name__ == "__main__":
    main("MCP", CELLS, ["mcp", "fastmcp"])
