"""Nested tuples, lists and dicts taken apart into a list of leaves, and put together again.

`None` is an empty structure; whatever is not a tuple, list, dict or None is a leaf. A form prints
as the structure with `*` for each leaf: `(*, {h: *, c: *})`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Form:
    """A structure without its leaves. Forms compare equal when leaves can be exchanged.

    kind: tuple (or a named tuple), list, dict, NoneType; None for a leaf
    keys: of a dict, in order
    """

    kind: type | None
    keys: tuple[Any, ...] = ()
    children: tuple[Form, ...] = ()

    @property
    def count(self) -> int:
        """Number of leaves."""
        return 1 if self.kind is None else sum(c.count for c in self.children)

    def build(self, leaves: Sequence[Any]) -> Any:
        """The structure with these leaves. Raises ValueError for another number of them."""
        if len(leaves) != self.count:
            raise ValueError(f"{len(leaves)} leaves for a structure of {self.count}")
        return self._build(iter(leaves))

    def _build(self, leaves: Iterator[Any]) -> Any:
        if self.kind is None:
            return next(leaves)
        if self.kind is type(None):
            return None
        items = [c._build(leaves) for c in self.children]
        if self.kind is dict:
            return dict(zip(self.keys, items, strict=True))
        return self.kind(*items) if hasattr(self.kind, "_fields") else self.kind(items)

    def paths(self, base: str = "") -> list[str]:
        """How each leaf is reached: `base[0]`, `base['h']`."""
        if self.kind is None:
            return [base]
        keys = self.keys if self.kind is dict else range(len(self.children))
        pairs = zip(keys, self.children, strict=True)
        return [path for k, child in pairs for path in child.paths(f"{base}[{k!r}]")]

    def __str__(self) -> str:
        if self.kind is None:
            return "*"
        items = [str(c) for c in self.children]
        if self.kind is type(None):
            return "None"
        if self.kind is dict:
            return "{" + ", ".join(f"{k}: {i}" for k, i in zip(self.keys, items, strict=True)) + "}"
        if self.kind is list:
            return "[" + ", ".join(items) + "]"
        return "(" + ", ".join(items) + ("," if len(items) == 1 else "") + ")"


LEAF = Form(None)
NOTHING = Form(type(None))


def flatten(structure: Any) -> tuple[list[Any], Form]:
    """(leaves from left to right, form), so that `form.build(leaves)` is the structure again.

    Entries of a dict are taken in the order of their keys if these can be ordered, so two dicts
    with the same keys have the same form.
    """
    leaves: list[Any] = []
    return leaves, _flatten(structure, leaves)


def _flatten(structure: Any, leaves: list[Any]) -> Form:
    if structure is None:
        return NOTHING
    if isinstance(structure, dict):
        keys = tuple(_ordered(structure))
        return Form(dict, keys, tuple(_flatten(structure[k], leaves) for k in keys))
    if isinstance(structure, (tuple, list)):
        return Form(type(structure), (), tuple(_flatten(s, leaves) for s in structure))
    leaves.append(structure)
    return LEAF


def _ordered(keys: Any) -> list[Any]:
    try:
        return sorted(keys)
    except TypeError:
        return list(keys)
