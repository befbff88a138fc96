"""Which name of a Fluid program means which value at this point of the conversion.

Fluid assigns to names again and again; noria's values are defined once. So a name stands for its
latest value, and a block inside sees the names around it, as Fluid's scopes do.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from noria.convert.fluid.handlers import Lod
from noria.core.errors import MissingError, nearest


class Scope:
    """Names and what they hold: a Lod, or what a handler made for others to use.

    outer: the scope around this one; writes stay here (`changed` tells which names)
    """

    def __init__(self, outer: Scope | None = None) -> None:
        self.outer = outer
        self.held: dict[str, Any] = {}

    def find(self, name: str) -> Any:
        """What the name holds, None if it was never assigned."""
        scope: Scope | None = self
        while scope is not None:
            if name in scope.held:
                return scope.held[name]
            scope = scope.outer
        return None

    def get(self, name: str, where: str = "") -> Any:
        """What the name holds. Raises MissingError."""
        found = self.find(name)
        if found is None:
            raise MissingError(
                f"variable '{name}' is used before anything is assigned to it",
                where=where,
                hint=nearest(name, self.names()),
            )
        return found

    def set(self, name: str, held: Any) -> None:
        self.held[name] = held if not _plain(held) else Lod(held)

    def names(self) -> Iterator[str]:
        """All names that hold something."""
        scope: Scope | None = self
        while scope is not None:
            yield from scope.held
            scope = scope.outer


def _plain(held: Any) -> bool:
    return hasattr(held, "shape") and hasattr(held, "dtype")
