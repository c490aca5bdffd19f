"""The client for asyncio: the same calls, each run by the blocking client in a thread.

Threads rather than streams of its own, so that there is one implementation of what must never fail: deadlines, half answers, retries, what counts as an
ALLOW. A validate takes well under a millisecond of a thread's time; MAX_THREADS of them can be under way at once, and what waits for one is still
bound by its timeout, which counts from the call. Cancelling a task shuts its socket: the thread is free at once.
"""

from __future__ import annotations

import asyncio
import functools
import os
import ssl
from concurrent.futures import ThreadPoolExecutor
from typing import Any, AsyncIterator, Awaitable, Callable, Dict, Mapping, Optional, Sequence, Union

from . import _judge as judge
from ._async_guard import AsyncGuard, AsyncWatch
from ._call import fault
from ._client import ORG_KEY_ENV, MachineID, base_url_or_default, id_list, key_from_env, next_cursor
from ._clock import now
from ._errors import MachineIDError
from ._http import Cancel

JSON = Dict[str, Any]

MAX_THREADS = 32


class AsyncMachineID:
    """MachineID with async methods; see there for what each does. It may be used by one event loop after another.

    A task that is cancelled while it waits for a change leaves that change's outcome unknown: call again.
    """

    def __init__(
        self, org_key: str, base_url: Optional[str] = None, timeout: float = 10.0, *, retries: int = 2, ssl_context: Optional[ssl.SSLContext] = None
    ) -> None:
        self._client = MachineID(org_key, base_url_or_default(base_url), timeout, retries=retries, ssl_context=ssl_context)
        self._threads: Optional[ThreadPoolExecutor] = None
        self._pid = os.getpid()

    @classmethod
    def from_env(cls, env_var: str = ORG_KEY_ENV, base_url: Optional[str] = None, timeout: float = 10.0) -> "AsyncMachineID":
        return cls(key_from_env(env_var), base_url, timeout)

    @classmethod
    def over(cls, client: MachineID) -> "AsyncMachineID":
        """The same client for coroutines: its key, connections and timeout are shared."""
        made = cls.__new__(cls)
        made._client, made._threads, made._pid = client, None, os.getpid()
        return made

    def __repr__(self) -> str:
        return "Async" + repr(self._client)

    @property
    def base_url(self) -> str:
        return self._client.base_url

    @property
    def timeout(self) -> float:
        return self._client.timeout

    async def __aenter__(self) -> "AsyncMachineID":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Closes the connections that rest and lets the threads end. The client can still be used."""
        threads, self._threads = self._threads, None
        if threads is not None and self._pid == os.getpid():
            threads.shutdown(wait=False)
        self._client.close()

    def replace_key(self, org_key: str) -> None:
        self._client.replace_key(org_key)

    async def validate(self, device_id: str, *, raise_on_error: bool = False) -> JSON:
        try:
            return await self._run(MachineID.validate, device_id, raise_on_error=raise_on_error)
        except MachineIDError as err:  # also if no thread can be started: the device may not work
            if raise_on_error:
                raise
            return judge.unavailable(judge.trimmed(device_id), err.code, str(err.args[0]), err.request_id)

    async def validate_batch(self, device_ids: Sequence[str], *, raise_on_error: bool = False) -> JSON:
        ids = id_list(device_ids)
        try:
            return await self._run(MachineID.validate_batch, ids, raise_on_error=raise_on_error)
        except MachineIDError as err:
            if raise_on_error:
                raise
            return judge.unavailable_batch(ids, err.code, str(err.args[0]), err.request_id)

    async def register(
        self, device_id: str, *, name: Optional[str] = None, metadata: Optional[Mapping[str, Any]] = None, ttl_seconds: Optional[int] = None,
        idempotency_key: Optional[str] = None, raise_on_error: bool = False,
    ) -> JSON:
        return await self._run(
            MachineID.register, device_id, name=name, metadata=metadata, ttl_seconds=ttl_seconds, idempotency_key=idempotency_key,
            raise_on_error=raise_on_error,
        )

    async def list_devices(self, limit: Optional[int] = None, cursor: Optional[str] = None) -> JSON:
        return await self._run(MachineID.list_devices, limit, cursor)

    async def iter_devices(self, page: int = 500) -> AsyncIterator[JSON]:
        async for one in _pages(lambda cursor: self.list_devices(page, cursor), "devices"):
            yield one

    async def get_device(self, device_id: str) -> JSON:
        return await self._run(MachineID.get_device, device_id)

    async def revoke(self, device_id: str, *, idempotency_key: Optional[str] = None) -> JSON:
        return await self._run(MachineID.revoke, device_id, idempotency_key=idempotency_key)

    async def unrevoke(self, device_id: str, *, idempotency_key: Optional[str] = None) -> JSON:
        return await self._run(MachineID.unrevoke, device_id, idempotency_key=idempotency_key)

    async def restore(self, device_id: str, *, idempotency_key: Optional[str] = None) -> JSON:
        return await self._run(MachineID.restore, device_id, idempotency_key=idempotency_key)

    async def remove(self, device_id: str, *, idempotency_key: Optional[str] = None) -> JSON:
        return await self._run(MachineID.remove, device_id, idempotency_key=idempotency_key)

    async def revoke_batch(
        self, device_ids: Optional[Sequence[str]] = None, *, scope: Optional[str] = None, idempotency_key: Optional[str] = None
    ) -> JSON:
        return await self._run(MachineID.revoke_batch, device_ids, scope=scope, idempotency_key=idempotency_key)

    async def unrevoke_batch(
        self, device_ids: Optional[Sequence[str]] = None, *, scope: Optional[str] = None, idempotency_key: Optional[str] = None
    ) -> JSON:
        return await self._run(MachineID.unrevoke_batch, device_ids, scope=scope, idempotency_key=idempotency_key)

    async def usage(self) -> JSON:
        return await self._run(MachineID.usage)

    async def org(self) -> JSON:
        return await self._run(MachineID.org)

    async def org_execution(self, enabled: bool, *, idempotency_key: Optional[str] = None) -> JSON:
        return await self._run(MachineID.org_execution, enabled, idempotency_key=idempotency_key)

    async def org_settings(self, version: int, *, idempotency_key: Optional[str] = None) -> JSON:
        return await self._run(MachineID.org_settings, version, idempotency_key=idempotency_key)

    async def org_delete(self, confirm: str, *, idempotency_key: Optional[str] = None) -> JSON:
        return await self._run(MachineID.org_delete, confirm, idempotency_key=idempotency_key)

    async def org_export(self, limit: Optional[int] = None, cursor: Optional[str] = None) -> JSON:
        return await self._run(MachineID.org_export, limit, cursor)

    async def org_keys(self) -> JSON:
        return await self._run(MachineID.org_keys)

    async def org_keys_create(self, name: str, scope: str, expires_at: Optional[str] = None, *, idempotency_key: Optional[str] = None) -> JSON:
        return await self._run(MachineID.org_keys_create, name, scope, expires_at, idempotency_key=idempotency_key)

    async def org_keys_rotate(
        self, key_id: Optional[str] = None, grace_seconds: Optional[int] = None, *, idempotency_key: Optional[str] = None
    ) -> JSON:
        return await self._run(MachineID.org_keys_rotate, key_id, grace_seconds, idempotency_key=idempotency_key)

    async def org_keys_revoke(self, key_id: str, *, idempotency_key: Optional[str] = None) -> JSON:
        return await self._run(MachineID.org_keys_revoke, key_id, idempotency_key=idempotency_key)

    async def audit(self, limit: Optional[int] = None, cursor: Optional[str] = None) -> JSON:
        return await self._run(MachineID.audit, limit, cursor)

    async def iter_audit(self, page: int = 500) -> AsyncIterator[JSON]:
        async for one in _pages(lambda cursor: self.audit(page, cursor), "entries"):
            yield one

    async def propagation(self, index: int) -> JSON:
        return await self._run(MachineID.propagation, index)

    @staticmethod
    async def org_create(
        base_url: Optional[str] = None, *, name: Optional[str] = None, external_id: Optional[str] = None, operator_token: Optional[str] = None,
        timeout: float = 10.0, ssl_context: Optional[ssl.SSLContext] = None,
    ) -> JSON:
        call = functools.partial(
            MachineID.org_create, base_url, name=name, external_id=external_id, operator_token=operator_token, timeout=timeout, ssl_context=ssl_context
        )
        return await _in(lambda: None, call)

    def guard(self, device_id: Union[str, Callable[..., str]], *, every: Optional[float] = None) -> AsyncGuard:
        """As MachineID.guard, for async with and async functions; with every a denial cancels what the block waits for. See AsyncGuard."""
        return AsyncGuard(self, device_id, every)

    def watch(
        self, device_id: str, *, every: float = 30.0, on_denied: Optional[Callable[[JSON], object]] = None,
        on_allowed: Optional[Callable[[JSON], object]] = None,
    ) -> AsyncWatch:
        """As MachineID.watch, in a task. The callbacks may be async. See AsyncWatch."""
        return AsyncWatch(self, device_id, every, on_denied, on_allowed)

    async def _run(self, method: Callable[..., JSON], *args: Any, **options: Any) -> JSON:
        cancel = Cancel()
        bound = self._client.bound(cancel, now() + self._client.timeout)
        work = functools.partial(method, bound, *args, **options)
        try:
            return await _in(self._pool, work)
        except BaseException:  # cancelled; or no thread was there, and whichever comes later finds it given up
            cancel.cancel()
            raise

    def _pool(self) -> ThreadPoolExecutor:
        if self._threads is None or self._pid != os.getpid():  # after a fork the parent's threads are not here
            self._threads, self._pid = ThreadPoolExecutor(MAX_THREADS, "machineid"), os.getpid()
        return self._threads


async def _in(threads: Callable[[], Optional[ThreadPoolExecutor]], work: Callable[[], JSON]) -> JSON:
    """Runs work in a thread. Raises Unavailable if none can be had: there are too many, or the interpreter ends."""
    try:
        future = asyncio.get_running_loop().run_in_executor(threads(), work)
    except Exception as err:
        raise fault(err) from err
    return await future


async def _pages(page: Callable[[Optional[str]], Awaitable[JSON]], name: str) -> AsyncIterator[JSON]:
    cursor: Optional[str] = None
    while True:
        answer = await page(cursor)
        for one in answer[name]:
            yield one
        cursor = next_cursor(answer, cursor)
        if cursor is None:
            return
