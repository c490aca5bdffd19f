"""Workers on a queue: each asks before it starts a job. A job that may not be started goes back to the queue, for a worker that may.

    export MACHINEID_ORG_KEY=org_...        # the agent key
    python3 queue_worker.py worker-1 worker-2

Jobs stands for your broker here.
"""

from __future__ import annotations

import sys
import threading
from collections import deque
from typing import Any, Callable, Iterable, List

from machineid_client import MachineID, MachineIDError


class Jobs:
    """A queue in which a job that is given back is the next one again, before whatever stands behind it. Safe for concurrent use."""

    def __init__(self, jobs: Iterable[Any]) -> None:
        self._waiting = deque(jobs)
        self._taken = 0
        self._changed = threading.Condition()

    def take(self) -> Any:
        """The next job, or None when all are done: not while somebody still has one, which may come back."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or not self._taken)
            if not self._waiting:
                return None
            self._taken += 1
            return self._waiting.popleft()

    def done(self) -> None:
        """A broker's "ack"."""
        with self._changed:
            self._taken -= 1
            self._changed.notify_all()

    def back(self, job: Any) -> None:
        """A broker's "nack and requeue"."""
        with self._changed:
            self._waiting.appendleft(job)
            self._taken -= 1
            self._changed.notify_all()

    def left(self) -> int:
        with self._changed:
            return len(self._waiting)


def consume(client: MachineID, device_id: str, jobs: Jobs, run: Callable[[Any], object]) -> str:
    """Runs jobs until all are done ("done") or the worker is denied; returns the denial's code then. A job that fails goes back as well."""
    while True:
        job = jobs.take()
        if job is None:
            return "done"
        try:
            decision = client.validate(device_id)  # after the job was taken: the wait for it may have been long
            allowed = decision["allowed"] is True
            if allowed:
                run(job)
        except BaseException:
            jobs.back(job)
            raise
        if not allowed:
            jobs.back(job)
            return str(decision["code"])
        jobs.done()


def work(client: MachineID, device_id: str, jobs: Jobs, run: Callable[[Any], object]) -> str:
    """Registers a worker and has it consume. One that may not begin, or cannot be registered now, says why and leaves the jobs to the others."""
    try:
        client.register(device_id, raise_on_error=True)
    except MachineIDError as err:
        return str(err)
    return consume(client, device_id, jobs, run)


def main() -> int:
    jobs = Jobs(range(20))
    ended: List[str] = []

    def worker(client: MachineID, name: str) -> None:
        ended.append(f"{name}: {work(client, name, jobs, print)}")

    try:
        client = MachineID.from_env()
    except ValueError as err:  # no key, or a URL that is none
        print(f"cannot start: {err}", file=sys.stderr)
        return 1
    with client:
        threads = [threading.Thread(target=worker, args=(client, name)) for name in sys.argv[1:] or ["worker-1", "worker-2"]]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    print("\n".join(ended), file=sys.stderr)
    if jobs.left():
        print(f"{jobs.left()} jobs are left", file=sys.stderr)
    return 1 if jobs.left() else 0


if __name__ == "__main__":
    sys.exit(main())
