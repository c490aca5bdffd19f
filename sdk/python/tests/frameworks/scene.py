"""A cell of the table: one way to use a framework, played with real servers and a scripted model.

A framework's module (on_crewai.py) lists its cells and calls main. Each cell is played

    held      with the adapter; something ends the permission inside the first tool: what begins after that counts, and has to be 0
    free      with the adapter and no end: it has to come to its last answer
    bare      without the adapter, revoked all the same: how many begin then shows that the count can be more than 0

Nothing here measures time: the order of what began is one list under one lock.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import importlib.metadata
import inspect
import json
import os
import sys
import tempfile
import threading
import traceback
from typing import Any, Awaitable, Callable, Dict, List, Optional, Sequence, Union

from machineid_client import AsyncMachineID, Denied, MachineID

from ..world import Tiers, eventually
from .model import Model

FINAL = "the last answer"
PATIENT = 120.0  # seconds for a whole scene, on a machine that does much else: a bound of safety
SILENT = 3.0  # the client's timeout where the edge is silent

REVOKE, BEFOREHAND, SILENCE, LOST = "revoke", "beforehand", "silent edge", "authority lost"


class Scene:
    """One play of one cell. body uses client or async_client, device, model and tool; it must not care which play it is but for wrapping."""

    def __init__(self, stage: "Stage", device: str, ends: Optional[str], guarded: bool) -> None:
        self.stage, self.device, self.ends, self.guarded = stage, device, ends, guarded
        timeout = SILENT if ends == SILENCE else 10.0
        self.client = MachineID(stage.org["orgApiKey"], stage.tiers.edge, timeout)
        self.async_client = AsyncMachineID(stage.org["orgApiKey"], stage.tiers.edge, timeout)
        self.model = stage.model
        self.model_url = stage.model.url + "/v1"
        self.ticks = 0
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self.over = threading.Event()  # the play: what waits for it goes on
        self.begun: List[str] = []
        self.after: List[str] = []  # what began after the permission had ended
        self.raised: List[BaseException] = []

    def began(self, what: str) -> None:
        with self._lock:
            (self.after if self._ended.is_set() else self.begun).append(what)

    def end(self) -> None:
        """Ends the permission, once, in the way of this play; returns when it is in force."""
        if self.ends is None or self._ended.is_set():
            return
        stage = self.stage
        if self.ends in (REVOKE, BEFOREHAND):
            stage.admin.revoke(self.device)
        elif self.ends == SILENCE:
            stage.tiers.edge_process.pause()
        elif self.ends == LOST:
            stage.tiers.authority.pause()
            eventually("the edge's lease runs out", lambda: self.client.validate(self.device)["allowed"] is not True)
        with self._lock:
            self._ended.set()

    def tool(self, n: int = 0, *, ends: bool = True) -> str:
        """What a tool does: it is noted, and the first one ends the permission. Blocking; in coroutines use atool."""
        self.began(f"tool {n}")
        if ends:
            self.end()
        return f"did {n}"

    async def atool(self, n: int = 0, *, ends: bool = True) -> str:
        self.began(f"tool {n}")
        if ends:
            await asyncio.to_thread(self.end)
        return f"did {n}"

    def together(self, count: int) -> Callable[[int], str]:
        """A tool for count parallel calls: each waits until all have begun, so that none of them begins after the end."""
        barrier = threading.Barrier(count)

        def tool(n: int) -> str:
            self.began(f"tool {n}")
            barrier.wait(PATIENT)
            self.end()
            return f"did {n}"

        return tool

    def atogether(self, count: int) -> Callable[[int], Awaitable[str]]:
        """together for coroutines in one loop."""
        here: List[int] = []
        all_here = asyncio.Event()

        async def tool(n: int) -> str:
            self.began(f"tool {n}")
            here.append(n)
            if len(here) >= count:
                await asyncio.to_thread(self.end)
                all_here.set()
            await all_here.wait()
            return f"did {n}"

        return tool


def one_thread() -> concurrent.futures.ThreadPoolExecutor:
    """Leaves the running loop one thread for plain functions: all but the first wait for it, and begin after the end."""
    pool = concurrent.futures.ThreadPoolExecutor(1)
    asyncio.get_running_loop().set_default_executor(pool)
    return pool


Body = Callable[[Scene], Union[Any, Awaitable[Any]]]


class Cell:
    """name says the way of use; body plays it. ends: in which ways the permission ends in it, revoke always among them.

    varies: how much begins without the adapter depends on what was faster.
    """

    def __init__(self, name: str, body: Body, ends: Sequence[str] = (REVOKE,), *, varies: bool = False) -> None:
        self.name, self.body, self.ends, self.varies = name, body, list(ends), varies


EVERY_END = (REVOKE, BEFOREHAND, SILENCE, LOST)


class Stage:
    """The servers of one framework's cells."""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory()
        self.tiers = Tiers(os.path.join(self._folder.name, "data"), lease="3s")
        self.org = MachineID.org_create(self.tiers.edge)
        self.admin = MachineID(self.org["orgApiKey"], self.tiers.edge)
        self.model = Model(self._began)
        self._scene: Optional[Scene] = None
        self._count = 0

    def _began(self, name: str) -> None:
        scene = self._scene
        if scene is not None:
            scene.began(f"model {name}")

    def play(self, cell: Cell, ends: Optional[str], guarded: bool) -> Dict[str, Any]:
        """Plays a cell once; says what it came to and what began after the end."""
        self._count += 1
        device = f"d{self._count}"
        self.admin.register(device)
        scene = Scene(self, device, ends, guarded)
        if ends == BEFOREHAND:
            scene.end()
        self._scene = scene
        del self.model.unknown[:]
        result: Dict[str, Any] = {}
        done = threading.Event()
        threading.Thread(target=self._play, args=(cell, scene, result, done), daemon=True).start()
        if not done.wait(PATIENT):
            faults = "".join("".join(traceback.format_stack(frame)[-8:]) + "\n" for frame in sys._current_frames().values())
            result = {"error": f"not over within {PATIENT} s:\n{faults}"}
        self._scene = None
        scene.over.set()
        if ends == SILENCE:
            self.tiers.edge_process.resume()
        if ends == LOST:
            self.tiers.authority.resume()
        if ends in (SILENCE, LOST):
            eventually("the edge says ALLOW again", lambda: self.admin.validate(device)["allowed"] is True)
        self.admin.remove(device)  # its seat: a plan has few
        result.update(begun=scene.begun, after=scene.after, unknown=list(self.model.unknown), ticks=scene.ticks)
        return result

    def _play(self, cell: Cell, scene: Scene, result: Dict[str, Any], done: threading.Event) -> None:
        try:
            if inspect.iscoroutinefunction(cell.body):
                value = asyncio.run(_ticking(cell.body, scene))
            else:
                value = cell.body(scene)
            result["value"] = str(value)
        except Denied as denied:
            result.update(denied=denied.code, kind=type(denied).__name__)
        except BaseException as err:
            result["error"] = "".join(traceback.format_exception(type(err), err, err.__traceback__))
        done.set()

    def close(self) -> None:
        self.model.close()
        self.tiers.kill()
        self._folder.cleanup()


async def _ticking(body: Callable[[Scene], Awaitable[Any]], scene: Scene) -> Any:
    """Runs a body beside a ticker, which counts while the edge is silent: a loop that is held up does not tick."""

    async def tick() -> None:
        while True:
            await asyncio.sleep(SILENT / 40)
            scene.ticks += scene._ended.is_set()

    ticker = asyncio.ensure_future(tick())
    try:
        return await body(scene)
    finally:
        ticker.cancel()


def play_all(cells: Sequence[Cell], only: str = "") -> List[Dict[str, Any]]:
    """Plays all cells in all ways; one row for each, with what is wrong with it in faults."""
    stage = Stage()
    rows: List[Dict[str, Any]] = []
    try:
        for cell in cells:
            if only not in cell.name:
                continue
            row: Dict[str, Any] = {"cell": cell.name, "varies": cell.varies, "after": {}, "faults": []}
            rows.append(row)
            for ends in cell.ends:
                held = stage.play(cell, ends, guarded=True)
                row["after"][ends] = len(held["after"])
                judge(row["faults"], f"held ({ends})", held, ends)
                if inspect.iscoroutinefunction(cell.body) and ends == SILENCE:
                    row["ticks"] = held["ticks"]
                    if held["ticks"] < 5:
                        row["faults"].append(f"held ({ends}): the event loop stood still: {held['ticks']} ticks of 40")
            free = stage.play(cell, None, guarded=True)
            if FINAL not in free.get("value", "") or free["unknown"]:
                row["faults"].append(f"free: no last answer: {free}")
            bare = stage.play(cell, REVOKE, guarded=False)
            row["bare"] = len(bare["after"])
            if not bare["after"] or bare["unknown"]:
                row["faults"].append(f"bare: nothing begins after the revoke, so the cell shows nothing: {bare}")
            print(json.dumps({"cell": row["cell"], "after": row["after"], "bare": row["bare"], "faults": len(row["faults"])}), file=sys.stderr, flush=True)
    finally:
        stage.close()
    return rows


def judge(faults: List[str], what: str, held: Dict[str, Any], ends: str) -> None:
    if held["after"]:
        faults.append(f"{what}: began after the end: {held['after']}")
    if ends == BEFOREHAND and held["begun"]:
        faults.append(f"{what}: began: {held['begun']}")
    if ends != BEFOREHAND and not held["begun"]:
        faults.append(f"{what}: nothing began at all")
    if "denied" not in held:
        faults.append(f"{what}: no Denied: {held.get('error') or held.get('value')}")
    elif held["denied"] != ("SYSTEM_UNAVAILABLE" if ends in (SILENCE, LOST) else "DEVICE_REVOKED"):
        faults.append(f"{what}: denied with {held['denied']}")
    if held["unknown"]:
        faults.append(f"{what}: the model was asked for {held['unknown']}")


def main(framework: str, cells: Sequence[Cell], versions: Sequence[str]) -> None:
    """Plays the cells (those whose name has argv[1] in it) and prints one JSON object: framework, versions, rows. Exits 1 if there are faults."""
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # frameworks print what they like
    rows = play_all(cells, sys.argv[1] if len(sys.argv) > 1 else "")
    found = {name: importlib.metadata.version(name) for name in versions}
    print(json.dumps({"framework": framework, "versions": found, "rows": rows}), file=out, flush=True)
    sys.stderr.flush()
    os._exit(any(row["faults"] for row in rows) or not rows)  # frameworks leave threads behind that a normal exit waits for
