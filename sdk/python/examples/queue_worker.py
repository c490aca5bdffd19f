"""Workers on a queue: each asks before it starts a job. A job that may not be started goes back to the queue, for a worker that may.

queue.Queue stands for your broker here: put is its "nack and requeue", task_done its "ack".
"""

from __future__ import annotations

import queue
import sys
import threading
from typing import Any, Callable

from machineid_client import MachineID


def consume(client: MachineID, device_id: str, jobs: "queue.Queue[Any]", run: Callable[[Any], None]) -> str:
    """Takes jobs until it gets None ("done") or is denied; returns the denial's code then."""
    while True:
        job = jobs.get()
        if job is None:
            jobs.task_done()
            return "done"
        decision = client.validate(device_id)  # after the job was taken: the wait for it may have been long
        if decision["allowed"] is not True:
            jobs.put(job)  # first back, then done: the queue is never empty in between
            jobs.task_done()
            return str(decision["code"])
        run(job)
        jobs.task_done()


def main() -> int:
    client = MachineID.from_env()
    jobs: "queue.Queue[Any]" = queue.Queue()
    for n in range(20):
        jobs.put(n)
    names = ["worker-1", "worker-2"]
    for name in names:
        client.register(name)
        jobs.put(None)
    threads = [threading.Thread(target=lambda name=name: print(name, consume(client, name, jobs, print))) for name in names]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return 0


if __name__ == "__main__":
    sys.exit(main())
