"""What must hold between shapes: broadcasting, and real sizes against symbolic ones.

What cannot be decided while sizes are symbolic becomes a `Check`, verified when they are bound.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from noria.core.dims import (
    Dim,
    Shape,
    Size,
    as_size,
    evaluate,
    format_shape,
    prove_equal,
    substitute,
    symbols_of,
)
from noria.core.errors import ArgumentError, ShapeError


@dataclass(frozen=True, slots=True)
class Check:
    """`left` and `right` must be the same once bound. where: the op and axis that ask for it."""

    left: Size
    right: Size
    where: str = ""

    def verify(self, bindings: Mapping[str, int]) -> None:
        """Raises ShapeError if the bound sizes differ, MissingError if a symbol is unbound."""
        left, right = evaluate(self.left, bindings), evaluate(self.right, bindings)
        if left == right:
            return
        names = sorted(symbols_of((self.left, self.right)))
        bound = ", ".join(f"{name}={bindings[name]}" for name in names)
        raise ShapeError(
            "sizes that must be the same differ",
            where=self.where,
            expected=f"{self.left} equal to {self.right}",
            got=f"{left} and {right}" + (f" with {bound}" if bound else ""),
            hint="feed arrays in which these sizes agree",
        )


@dataclass(frozen=True, slots=True)
class Room(Check):
    """`left`, a number of windows, must be `right` or more once bound."""

    def verify(self, bindings: Mapping[str, int]) -> None:
        """Raises ShapeError if no window fits, MissingError if a symbol is unbound."""
        if evaluate(self.left, bindings) >= evaluate(self.right, bindings):
            return
        raise ShapeError(
            "no window fits",
            where=self.where,
            expected=f"{self.left} of {self.right} or more",
            got=", ".join(f"{name}={bindings[name]}" for name in sorted(symbols_of(self.left))),
            hint="feed arrays that are larger, with their padding, than a window",
        )


# ---- broadcasting -------------------------------------------------------------------------------


def broadcast(*shapes: Sequence[Size]) -> tuple[Shape, list[Check]]:
    """(the shape all broadcast to by NumPy's rules, the checks that remain).

    A symbol is taken to be a real axis, never one that happens to be 1: against an int k > 1 it
    must be k, against another symbol the same. Raises ShapeError if the shapes can never fit.
    """
    if len(shapes) == 1 or all(s == shapes[0] for s in shapes[1:]):
        return tuple(shapes[0]) if shapes else (), []
    checks: list[Check] = []
    rank = max(map(len, shapes))
    result: list[Size] = []
    for axis in range(rank):
        size: Size = 1
        for shape in shapes:
            position = axis - rank + len(shape)
            if position >= 0:
                size = _join(size, shape[position], axis, shapes, checks)
        result.append(size)
    return tuple(result), checks


def _join(
    a: Size, b: Size, axis: int, shapes: Sequence[Sequence[Size]], checks: list[Check]
) -> Size:
    """The size two axes broadcast to; an undecided pair adds a check."""
    if b == 1 or a == b:
        return a
    if a == 1:
        return b
    proof = prove_equal(a, b)
    if proof is False:
        raise ShapeError(
            f"shapes do not broadcast: axis {axis} is {a} and {b}",
            expected="the same size, or 1, on every axis counted from the last",
            got=_listed(shapes),
            hint="reshape, transpose or expand one of them",
        )
    if proof is None:
        checks.append(Check(a, b, f"axis {axis} of broadcasting {_listed(shapes)}"))
    return b if isinstance(b, int) else a


def _listed(shapes: Sequence[Sequence[Size]]) -> str:
    return " with ".join(map(format_shape, shapes))


# ---- real sizes ---------------------------------------------------------------------------------


def solve(
    pattern: Sequence[Size],
    actual: Sequence[int],
    bindings: Mapping[str, int] | None = None,
    *,
    where: str = "",
    checks: list[Check] | None = None,
) -> dict[str, int]:
    """`bindings` and the symbols that the real shape `actual` gives a value.

    ('N', 3) against (5, 3) gives N = 5; (2*N+1,) against (7,) gives N = 3. An axis that does not
    determine its symbols (`T//2`) becomes a check in `checks`, to verify once they are bound
    otherwise; without a `checks` list that is an error. Use `solve_all` for several shapes.
    Raises ShapeError for another rank or size, and for a size no binding gives.
    """
    solver = _Solver(bindings or {})
    solver.add(pattern, actual, where)
    return solver.finish(checks)


def solve_all(
    shapes: Mapping[str, tuple[Sequence[Size], Sequence[int]]],
    bindings: Mapping[str, int] | None = None,
) -> dict[str, int]:
    """`solve` for {name: (pattern, actual)}: one array may bind what another one needs.

    The order of the arrays does not matter. Raises ShapeError as `solve` does.
    """
    solver = _Solver(bindings or {})
    for name, (pattern, actual) in shapes.items():
        solver.add(pattern, actual, name)
    return solver.finish(None)


class _Solver:
    """Axes still to be explained, and the bindings found so far."""

    def __init__(self, bindings: Mapping[str, int]) -> None:
        self.bindings = dict(bindings)
        self.open: list[tuple[Dim, int, str]] = []

    def add(self, pattern: Sequence[Size], actual: Sequence[int], where: str) -> None:
        shown = format_shape(pattern)
        if len(pattern) != len(actual):
            raise ShapeError(
                "the array has another rank than declared",
                where=where,
                expected=f"{len(pattern)} axes: {shown}",
                got=f"{len(actual)} axes: {format_shape(actual)}",
            )
        for axis, (size, real) in enumerate(zip(pattern, actual, strict=True)):
            place = f"{where + ': ' if where else ''}axis {axis} of {shown}"
            self.axis(size, _real(real, place), place)

    def axis(self, size: Size, real: int, place: str) -> None:
        """Bind or compare one axis, or keep it for later."""
        rest = size
        if isinstance(size, Dim):
            rest = substitute(size, self.bindings)
        if isinstance(rest, int):
            if rest != real:
                raise self.conflict(size, rest, real, place)
            return
        unknown = _linear(rest)
        if unknown is None:
            assert isinstance(size, Dim)
            self.open.append((size, real, place))
            return
        name, slope, constant = unknown
        value, remainder = divmod(real - constant, slope)
        if remainder or value < 0:
            raise ShapeError(
                f"no size {name} makes {size} equal to {real}",
                where=place,
                expected=f"{rest} for some whole {name} >= 0",
                got=str(real),
                hint=f"pad or crop this axis so that {rest} fits",
            )
        self.bindings[name] = value

    def conflict(self, size: Size, expected: int, real: int, place: str) -> ShapeError:
        names = sorted(symbols_of(size) & self.bindings.keys())
        bound = ", ".join(f"{name}={self.bindings[name]}" for name in names)
        return ShapeError(
            "the array has another size than declared",
            where=place,
            expected=str(expected) + (f" ({size} with {bound})" if bound else ""),
            got=str(real),
            hint=f"{bound} came from an earlier axis: both must agree" if bound else "",
        )

    def finish(self, checks: list[Check] | None) -> dict[str, int]:
        """Retry what is open while anything new gets bound; hand the rest to `checks`."""
        count = -1
        while self.open and count != len(self.bindings):
            count = len(self.bindings)
            waiting, self.open = self.open, []
            for size, real, place in waiting:
                self.axis(size, real, place)
        if self.open and checks is None:
            size, real, place = self.open[0]
            unknown = ", ".join(sorted(symbols_of(size) - self.bindings.keys()))
            raise ShapeError(
                f"the size {size} does not tell what {unknown} is",
                where=place,
                expected="symbols that some axis determines, such as N or 2*N+1",
                got=f"{size} = {real}",
                hint=f"bind {unknown} by another axis, or give this axis a symbol of its own",
            )
        if checks is not None:
            checks.extend(Check(size, real, place) for size, real, place in self.open)
        return self.bindings


def _real(size: int, place: str) -> int:
    value = as_size(size)
    if isinstance(value, Dim) or value < 0:
        raise ArgumentError("not a real size", where=place, expected="an int >= 0", got=repr(size))
    return value


def _linear(dim: Dim) -> tuple[str, int, int] | None:
    """(name, slope, constant) if the Dim is slope*name + constant, else None."""
    (m, slope), *rest = dim.terms
    if len(m) != 1 or m[0].kind != "sym" or any(other for other, _ in rest):
        return None
    return m[0].args[0], slope, sum(c for _, c in rest)
