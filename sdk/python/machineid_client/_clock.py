"""The clock that deadlines and permissions are measured by."""

from __future__ import annotations

import time

_BOOTTIME = getattr(time, "CLOCK_BOOTTIME", None)


DAY = 86_400.0


def seconds(value: float, name: str) -> float:
    """Refuses what is no time to wait: also infinity, for which a permission would never be too old."""
    try:
        fits = 0 < value <= DAY
    except TypeError:
        raise TypeError(f"{name} is no number: give seconds above 0, at most a day") from None
    if not fits:
        raise ValueError(f"{name} is no time to wait: give seconds above 0, at most a day")
    return float(value)


def now() -> float:
    """Seconds on a clock that never goes back and, where the system has one, counts through suspend.

    A laptop that slept for an hour must not find its permission of an hour ago still fresh.
    """
    if _BOOTTIME is not None:
        return time.clock_gettime(_BOOTTIME)
    return time.monotonic()
