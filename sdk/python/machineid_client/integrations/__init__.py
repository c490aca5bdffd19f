"""The off switch inside agent frameworks: one module for each, and one rule for all (see OffSwitch).

A module imports its framework; this one imports none. docs/frameworks.md of the repository has what was measured with which versions.
"""

from ._run import OffSwitch, Run, current

__all__ = ["OffSwitch", "Run", "current"]
