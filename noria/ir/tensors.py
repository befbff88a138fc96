"""Named arrays in a file of the safetensors format, bfloat16 included.

The `safetensors` package reads and writes; here arrays are made fit for it, and what it reads is
checked against what the caller declares, before it is given memory.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import safetensors.numpy

from noria.core import shapes
from noria.core.dims import format_shape
from noria.core.dtypes import to_numpy
from noria.core.errors import ArgumentError, FormatError, NoriaError, nearest
from noria.core.mapped import MappedFile
from noria.ir.program import Spec

LEAST_MAPPED = 2 << 20  # bytes; smaller arrays are read, and lie where vectors like it

DTYPES = {
    "BOOL": "bool",
    **{f"U{8 * n}": f"uint{8 * n}" for n in (1, 2, 4, 8)},
    **{f"I{8 * n}": f"int{8 * n}" for n in (1, 2, 4, 8)},
    **{"BF16": "bfloat16", "F16": "float16", "F32": "float32", "F64": "float64"},
}
"""Names of dtypes in the file -> names in noria."""


def write_tensors(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Write the file. Raises EngineError or OSError where the disk refuses."""
    path.touch()  # the package makes files that nobody else may read
    mode = path.stat().st_mode
    safetensors.numpy.save_file(_fit(arrays), path)
    path.chmod(mode)


def tensor_bytes(arrays: Mapping[str, np.ndarray]) -> bytes:
    """What `write_tensors` writes."""
    return safetensors.numpy.save(_fit(arrays))


def _fit(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Contiguous and little-endian; of other arrays the package writes the bytes as they lie."""
    for name in arrays:
        if name == "__metadata__":
            raise ArgumentError("no array can be saved under this name", got=name)
    little = {n: a.astype(a.dtype.newbyteorder("<"), copy=False) for n, a in arrays.items()}
    return {n: np.asarray(a, order="C") for n, a in little.items()}


class Tensors:
    """The arrays of one file, each taken once. where: the file, for error messages."""

    def __init__(self, file: Any, names: Iterable[str], where: str) -> None:
        self.file, self.where = file, where
        self.left = set(names)

    def take(self, name: str, spec: Spec, where: str) -> np.ndarray:
        """The array of that name. Raises FormatError unless its dtype and shape are as declared."""
        if name not in self.left:
            raise FormatError(
                f"the array '{name}' is not in the file",
                where=f"{self.where}, {where}",
                hint=nearest(name, self.left),
            )
        self.left.discard(name)
        dtype, shape = self.file.kind(name)
        if not (DTYPES.get(dtype) == spec.dtype and _fits(spec, shape)):
            raise FormatError(
                f"the array '{name}' has another dtype or shape than declared",
                where=f"{self.where}, {where}",
                expected=Spec.__str__(spec),
                got=f"{DTYPES.get(dtype, dtype)}{format_shape(shape)}",
            )
        return self.file.array(name)

    def end(self) -> None:
        """Raises FormatError if arrays are left that nobody declared."""
        if self.left:
            raise FormatError(
                f"{len(self.left)} arrays in the file belong to nothing in the Program",
                where=self.where,
                got=", ".join(sorted(self.left)[:20]),
                hint="is this the state of another Program?",
            )


def _fits(spec: Spec, shape: list[int]) -> bool:
    try:
        shapes.solve(spec.shape, shape, checks=[])
    except NoriaError:
        return False
    return True


@contextmanager
def read_tensors(source: Path | bytes, where: str, *, mapped: bool = False) -> Iterator[Tensors]:
    """The arrays of a file, or of its bytes. Raises FormatError for what is no such file.

    mapped: large arrays of a file are left in it until they are used (`core/mapped.py`)
    """
    try:
        if isinstance(source, bytes):
            given = _Bytes(source)
            yield Tensors(given, given.found, where)
        else:
            with safetensors.safe_open(source, "np") as file:
                held = _InPlace(file, source) if mapped else _Read(file)
                yield Tensors(held, file.keys(), where)
    except safetensors.SafetensorError as error:
        raise FormatError(
            "this is not a safetensors file, or it is damaged", where=where, got=str(error)
        ) from None


class _Read:
    """Reads one array at a time."""

    def __init__(self, file: Any) -> None:
        self.file = file

    def kind(self, name: str) -> tuple[str, list[int]]:
        part = self.file.get_slice(name)
        return part.get_dtype(), part.get_shape()

    def array(self, name: str) -> np.ndarray:
        return self.file.get_tensor(name)


class _InPlace(_Read):
    """Leaves large arrays where they are. `file` has checked that all lies inside the file."""

    def __init__(self, file: Any, path: Path) -> None:
        super().__init__(file)
        self.memory = MappedFile(path)
        size = int.from_bytes(self.memory.bytes(0, 8), "little")
        self.parts = json.loads(self.memory.bytes(8, 8 + size))
        self.start = 8 + size

    def array(self, name: str) -> np.ndarray:
        dtype, shape = self.kind(name)
        first, end = self.parts[name]["data_offsets"]
        if end - first < LEAST_MAPPED:
            return super().array(name)
        return self.memory.array(self.start + first, shape, to_numpy(DTYPES[dtype]))


class _Bytes:
    def __init__(self, data: bytes) -> None:
        self.found = dict(safetensors.deserialize(data))

    def kind(self, name: str) -> tuple[str, list[int]]:
        return self.found[name]["dtype"], self.found[name]["shape"]

    def array(self, name: str) -> np.ndarray:
        part = self.found[name]
        array = np.frombuffer(part["data"], to_numpy(DTYPES[part["dtype"]]))
        return array.reshape(part["shape"])
