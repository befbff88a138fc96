"""A Scope holds the numbers of state: name -> array, shared by the executors that use it."""

from __future__ import annotations

import threading
import zlib
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from noria.core import dtypes
from noria.core.dims import symbols_of
from noria.core.errors import DTypeError, MissingError, ProgramError, ShapeError, nearest
from noria.core.mapped import give_back_pages, in_file
from noria.ir.opdef import lookup
from noria.ir.program import Program, State
from noria.runtime.arena import Arena, give_back

ZEROS = repr(("fill", {"value": 0.0}))  # so that -0.0 is something else
RANDOM = "random"  # the state that holds (seed, step) of the Program's random numbers


class Scope:
    """Arrays of state by name, at addresses that never change.

    `scope["fc.weight"]` is a copy; `scope["fc.weight"] = array` writes into the same memory.
    version: changes with every write, so that what was computed from state can be recomputed.
    """

    def __init__(self) -> None:
        self.arrays: dict[str, np.ndarray] = {}
        self.version = 0
        self.lock = threading.RLock()
        self._arenas: dict[str, Arena] = {}
        self._in_file: set[str] = set()  # adopted, and not written since

    def __contains__(self, name: str) -> bool:
        return name in self.arrays

    def __iter__(self) -> Iterator[str]:
        return iter(self.arrays)

    def __getitem__(self, name: str) -> np.ndarray:
        if name not in self.arrays:
            raise MissingError(f"no state '{name}' in the scope", hint=nearest(name, self.arrays))
        with self.lock:
            return self.arrays[name].copy()

    def __setitem__(self, name: str, value: Any) -> None:
        if name not in self.arrays:
            raise MissingError(f"no state '{name}' in the scope", hint=nearest(name, self.arrays))
        self._write(name, np.asarray(value))

    def state(self) -> dict[str, np.ndarray]:
        """A copy of everything, for a checkpoint."""
        with self.lock:
            return {n: a.copy() for n, a in self.arrays.items()}

    def initialize(
        self,
        program: Program,
        seed: int = 0,
        values: Mapping[str, np.ndarray] | None = None,
        *,
        adopt: bool = False,
    ) -> Scope:
        """Allocate the Program's state; `values` win, the rest follow their initialisers.

        adopt: given arrays that lie in a mapped file become the state, instead of copies of them

        Each initialiser draws from its own stream (seed, name), so the numbers do not depend on
        the order or on what else a Program holds. State already present is kept as it is.
        Raises ShapeError or DTypeError if a present or given array does not fit the Program.
        """
        given = dict(values or {})
        for name in given.keys() - program.state.keys():
            raise MissingError(
                f"the Program has no state '{name}'", hint=nearest(name, program.state)
            )
        for name, state in program.state.items():
            fits(state, self.arrays.get(name), "the scope")
            if name in given:
                array = np.asarray(given[name])
                fits(state, array, "the given values")
                if adopt and name not in self.arrays and in_file(array):
                    self._in_file.add(name)
                    self.arrays[name] = array
                    continue
                self._allocate(state)
                self._write(name, array)
            elif name not in self.arrays:
                self._allocate(state)
                if state.init[0] != "fill" or repr(state.init) != ZEROS:  # new memory is zero
                    self._write(name, initial_value(state, seed))
        give_back()
        return self

    def give_back(self, name: str) -> None:
        """Lets the system have the memory of a state that is not read soon, where it can be read
        again from a file."""
        with self.lock:
            if name in self._in_file:
                give_back_pages(self.arrays[name])

    def _allocate(self, state: State) -> None:
        if state.name in self.arrays:
            return
        if symbols_of(state.value.shape):
            raise ProgramError(
                f"state '{state.name}' needs a size that is known now", got=str(state.value)
            )
        shape = tuple(int(d) for d in state.value.shape)
        dtype = dtypes.to_numpy(state.value.dtype)
        arena = Arena(int(np.prod(shape, dtype=np.int64)) * dtype.itemsize)
        with self.lock:
            self._arenas[state.name] = arena
            self.arrays[state.name] = arena.view(0, shape, state.value.dtype)

    def _write(self, name: str, value: np.ndarray) -> None:
        old = self.arrays[name]
        if old.shape != value.shape:
            raise ShapeError(
                f"state '{name}' has another shape", expected=str(old.shape), got=str(value.shape)
            )
        if not np.can_cast(value.dtype, old.dtype, "same_kind"):
            raise DTypeError(
                f"state '{name}' cannot hold numbers of that dtype",
                expected=str(old.dtype),
                got=str(value.dtype),
                hint=f"array.astype('{old.dtype}')",
            )
        with self.lock:
            self._in_file.discard(name)
            np.copyto(old, value, casting="same_kind")
            self.version += 1


def fits(state: State, array: np.ndarray | None, place: str) -> None:
    """Raises ShapeError or DTypeError unless the array can be the state's value."""
    if array is None:
        return
    shape = tuple(state.value.shape)
    if array.shape != shape:
        raise ShapeError(
            f"state '{state.name}' in {place} has another shape",
            expected=str(state.value),
            got=f"{array.dtype}{list(array.shape)}",
        )
    if dtypes.as_dtype(array.dtype) != state.value.dtype:
        raise DTypeError(
            f"state '{state.name}' in {place} has another dtype",
            expected=state.value.dtype,
            got=str(array.dtype),
            hint=f"array.astype('{state.value.dtype}')",
        )


def initial_value(state: State, seed: int) -> np.ndarray:
    """The first value of a state, by its initialiser.

    An initialiser is an op with a `shape` attribute; random ones get the key (seed, crc(name)).
    """
    kind, attrs = state.init
    definition = lookup(kind)
    shape, dtype = tuple(state.value.shape), state.value.dtype
    if state.name == RANDOM:
        return np.array([seed, 0], np.int64)
    full: dict[str, Any] = {**attrs, "shape": shape, "dtype": dtype}
    if definition.effect == "random":
        key = np.array([seed, zlib.crc32(state.name.encode())], np.int64)
        return np.asarray(definition(key, **full))
    if kind == "constant":
        return np.asarray(attrs["value"]).astype(dtypes.to_numpy(dtype))
    return np.asarray(definition(**full))
