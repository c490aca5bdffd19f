"""Looks whether the public package machineid-io, whose class has the same name, is meant by mistake."""

from __future__ import annotations

import os
import sys
import warnings

TOLD = (
    "the module machineid, of the package machineid-io, is imported in this program too, and MACHINEID_BASE_URL is set: machineid does not read it, "
    "it sends the org key to the hosted service. Write `from machineid_client import MachineID` where your own edge is meant"
)


def warn_of_it() -> None:
    """Warns (RuntimeWarning) if machineid-io is imported while the environment names another server. Costs two look-ups."""
    other = sys.modules.get("machineid")
    if other is not None and hasattr(other, "MachineID") and os.environ.get("MACHINEID_BASE_URL", "").strip():
        warnings.warn(TOLD, RuntimeWarning, stacklevel=3)
