"""Which function converts which operator of another framework."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator
from difflib import get_close_matches
from typing import Any

from noria.core.errors import ProgramError

Handler = Callable[..., Any]


class Handlers:
    """The operators of one framework that noria can convert.

        onnx_op = Handlers("ONNX")

        @onnx_op("Relu", "PRelu")
        def relu(node, x): ...

    A function that a later version of the other framework changed is registered again with
    `since`: the newest one that is not newer than the model serves.
    """

    def __init__(self, framework: str) -> None:
        self.framework = framework
        self._versions: dict[tuple[str, str], list[tuple[int, Handler]]] = {}
        self.refused: dict[tuple[str, str], str] = {}

    def __call__(
        self, *names: str, since: int = 1, domain: str = ""
    ) -> Callable[[Handler], Handler]:
        """Registers a function under these names. Raises ProgramError for one that is taken."""

        def register(fn: Handler) -> Handler:
            for name in names:
                versions = self._versions.setdefault((domain, name), [])
                if any(v == since for v, _ in versions):
                    raise ProgramError(f"{self.framework} {name}, since {since}, is already there")
                versions.append((since, fn))
                versions.sort(key=lambda entry: entry[0])
            return fn

        return register

    def refuse(self, reason: str, *names: str, domain: str = "") -> None:
        """Says why these operators are not converted, for whoever meets them."""
        self.refused.update(((domain, name), reason) for name in names)

    def find(self, name: str, *, version: int = 1, domain: str = "") -> Handler | None:
        """What converts this operator, None if nothing does."""
        versions = self._versions.get((domain, name), [])
        place = bisect_right([v for v, _ in versions], version)
        return versions[place - 1][1] if place else None

    def names(self, domain: str = "") -> Iterator[str]:
        """The operators of a domain, sorted."""
        return iter(sorted(name for d, name in self._versions if d == domain))

    def require(self, used: Iterable[tuple[str, str, int, str]]) -> None:
        """Checks a whole model: (domain, operator, version, where) of each operator in it.

        Raises UnsupportedOperators, which names all that are missing, before anything is converted.
        """
        missing: dict[tuple[str, str], list[str]] = {}
        for domain, name, version, where in used:
            if self.find(name, version=version, domain=domain) is None:
                missing.setdefault((domain, name), []).append(where)
        if missing:
            raise UnsupportedOperators(self, missing)


class UnsupportedOperators(ProgramError):
    """A model uses operators that noria cannot convert; `operators` names each once."""

    def __init__(self, handlers: Handlers, missing: dict[tuple[str, str], list[str]]) -> None:
        self.operators = [f"{d}.{n}" if d else n for d, n in sorted(missing)]
        lines = []
        for (domain, name), places in sorted(missing.items()):
            close = get_close_matches(name, list(handlers.names(domain)), n=2)
            hint = "nearest: " + " or ".join(close) if close else ""
            hint = handlers.refused.get((domain, name), hint)
            more = f" and {len(places) - 1} more" if len(places) > 1 else ""
            full = f"{domain}.{name}" if domain else name
            lines.append(f"{full} at {places[0]}{more}" + (f" ({hint})" if hint else ""))
        super().__init__(
            f"{len(lines)} operators of this {handlers.framework} model are not supported",
            got="\n  " + "\n  ".join(lines),
            hint="an operator of your own: register a handler that emits noria ops for it",
        )


class NeedsConstant(ProgramError):
    """A number decides a shape or the form of the graph, and only a run would tell it.

    name: the value; inputs: the inputs of the model it depends on, which may be given as constants
    """

    def __init__(self, name: str, what: str, inputs: Iterable[str] = ()) -> None:
        self.name = name
        self.inputs = tuple(inputs)
        given = ", ".join(f'"{i}": ...' for i in self.inputs)
        super().__init__(
            f"{what} must be known when the model is converted",
            got=f"'{name}', which the run would tell",
            hint=f"convert with constants={{{given}}}" if given else "",
        )
