"""What an adapter says where its framework is not installed."""

from __future__ import annotations

from typing import Any


class extra:
    """A block of imports. If one fails, the error says which extra brings the framework, at a version that the adapter knows."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __enter__(self) -> None: ...

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        if isinstance(error, ImportError):
            known = ModuleNotFoundError if isinstance(error, ModuleNotFoundError) else ImportError
            raise known(f"{error}. To install what this needs: pip install 'machineid-client[{self._name}]'", name=error.name, path=error.path) from error
