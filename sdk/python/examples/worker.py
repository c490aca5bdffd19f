"""A plain worker: it registers itself, works in small steps, and stops as soon as it may not work any more.

    export MACHINEID_ORG_KEY=org_...        # the agent key
    python3 worker.py agent-01
"""

from __future__ import annotations

import sys
import time
from typing import Callable

from machineid_client import Denied, MachineID, MachineIDError


def work(client: MachineID, device_id: str, step: Callable[[], bool], every: float = 5.0) -> int:
    """Runs steps until one returns False; returns how many were run. Raises Denied when the worker is switched off, Refused or Unavailable if it cannot
    be registered: str(error) says why, and what to do."""
    client.register(device_id, raise_on_error=True)
    done = 0
    with client.guard(device_id, every=every) as permit:  # asks now, and every few seconds in the background
        while True:
            permit.check()  # costs nothing: it looks at what the background has heard
            more = step()
            done += 1
            if not more:
                return done


def main() -> int:
    def step() -> bool:
        print("working")
        time.sleep(1)
        return True

    try:
        client = MachineID.from_env()
    except ValueError as err:  # no key, or a URL that is none
        print(f"cannot start: {err}", file=sys.stderr)
        return 1
    try:
        with client:
            work(client, sys.argv[1] if len(sys.argv) > 1 else "agent-01", step)
    except Denied as denied:
        print(f"stopped: {denied.code}", file=sys.stderr)
        return 1
    except MachineIDError as err:  # it was revoked before, the plan is full, or the edge is down
        print(f"cannot start: {err}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
