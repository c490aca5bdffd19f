"""Another name of the package machineid, for programs that import it so."""

from machineid import *  # noqa: F401,F403
from machineid import __all__, __version__  # noqa: F401
