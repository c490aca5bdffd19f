"""The client of MachineID, the off switch for fleets of agents.

    from machineid_client import MachineID

    client = MachineID.from_env()                      # MACHINEID_ORG_KEY, MACHINEID_BASE_URL
    if client.validate("agent-01")["allowed"]:
        work()

validate fails closed: whatever goes wrong comes back as allowed False. See MachineID, AsyncMachineID, Guard and Watch.
"""

from ._async import AsyncMachineID
from ._async_guard import AsyncGuard, AsyncPermit, AsyncWatch
from ._client import MachineID
from ._errors import COMMITTED, NOT_DONE, UNKNOWN, Denied, MachineIDError, Refused, Unavailable
from ._guard import Guard, Permit
from ._namesake import warn_of_it
from ._version import __version__
from ._watch import Watch

__all__ = [
    "AsyncGuard",
    "AsyncMachineID",
    "AsyncPermit",
    "AsyncWatch",
    "COMMITTED",
    "Denied",
    "Guard",
    "MachineID",
    "MachineIDError",
    "NOT_DONE",
    "Permit",
    "Refused",
    "UNKNOWN",
    "Unavailable",
    "Watch",
    "__version__",
]

warn_of_it()
