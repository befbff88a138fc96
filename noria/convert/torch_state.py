"""Weights of PyTorch, without PyTorch: `.safetensors`, and `.pth` or `.pt` in both of its formats.

    weights = torch_state.read("mobilenet_v2-b0353104.pth")     # name -> array
    state = torch_state.fit(program.state, weights)             # what the Program needs of them

Files are data here: a pickle is taken apart, not run (`torch_pickle.py`).
"""

from __future__ import annotations

import errno
import io
import math
import os
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from mmap import ACCESS_READ, mmap
from pathlib import Path
from typing import Any

import numpy as np

from noria.convert.torch_pickle import Named, Storage, Tensor, load
from noria.core.dims import format_shape
from noria.core.dtypes import as_dtype, is_float, to_numpy
from noria.core.errors import FormatError, MissingError, NoriaError, ShapeError, nearest
from noria.ir.program import Spec
from noria.ir.tensors import DTYPES, read_tensors

Arrays = dict[str, np.ndarray]
MAGIC, VERSION = 0x1950A86A20F9469CFC6C, 1001  # of the format before torch 1.6
PARTS = ("state_dict", "model_state_dict", "model", "module", "net", "weights")
UNUSED = "num_batches_tracked"  # a counter of torch's batch norm; momentum makes it needless
SHOWN = 10
MAX_PICKLE = 1 << 28  # bytes


def read(path: str | os.PathLike[str], part: str | None = None) -> Arrays:
    """The tensors of a file, by name. They may share memory, as they do in the file: do not write.

    part: of a checkpoint that holds more than weights, the entry to take, as "ema"; the default is
          the first of "state_dict", "model" and the like. A "module." in front of all names, which
          data parallel training leaves, is taken away.
    Raises FormatError for what is no such file, or asks for anything but tensors; MissingError.
    """
    file = Path(path)
    try:
        found = _contents(file)
    except NoriaError as error:
        raise error.at(str(path)) from None
    weights = _weights(found, part, str(path))
    if weights and all(name.startswith("module.") for name in weights):
        weights = {name.removeprefix("module."): a for name, a in weights.items()}
    return weights


def _contents(file: Path) -> Any:
    with open(file, "rb") as opened:
        start = opened.read(16)
    if start[:4] == b"PK\x03\x04":
        return _read_zip(file)
    if start[:1] == b"\x80":
        return _read_legacy(file)
    if start[8:9] == b"{":
        return _read_safetensors(file)
    raise FormatError(
        "this is no file of weights", expected="safetensors, or what torch.save writes"
    )


def _weights(found: Any, part: str | None, where: str) -> Arrays:
    """The entries that are tensors, of the part asked for."""
    if not isinstance(found, dict):
        raise FormatError("the file holds no names", where=where, got=type(found).__name__)
    if part is not None:
        if not isinstance(found.get(part), dict):
            names = [str(k) for k, v in found.items() if isinstance(v, dict)]
            raise MissingError(
                f"the file has no part '{part}'", where=where, hint=nearest(part, names)
            )
        found = found[part]
    elif not any(isinstance(v, np.ndarray) for v in found.values()):
        found = next((found[p] for p in PARTS if isinstance(found.get(p), dict)), found)
    tensors = {str(k): v for k, v in found.items() if isinstance(v, np.ndarray)}
    if found and not tensors:
        held = ", ".join(str(k)[:40] for k in list(found)[:SHOWN])
        raise FormatError("the file holds no tensors by name", where=where, got=held)
    return tensors


# ---- safetensors ---------------------------------------------------------------------------------


def _read_safetensors(file: Path) -> Arrays:
    arrays = {}
    with read_tensors(file, file.name) as tensors:
        for name in sorted(tensors.left):
            dtype, shape = tensors.file.kind(name)
            if dtype not in DTYPES:
                raise FormatError(f"'{name}' is of a dtype that noria lacks", got=dtype)
            arrays[name] = tensors.take(name, Spec(shape, DTYPES[dtype]), "weights")
    return arrays


# ---- torch.save, since torch 1.6: a zip ----------------------------------------------------------


_BAD_ZIP = (
    zipfile.BadZipFile, zlib.error, struct.error, EOFError, NotImplementedError, RuntimeError,
    ValueError, OSError,
)  # fmt: skip


@contextmanager
def _sound_zip() -> Iterator[None]:
    try:
        yield
    except NoriaError:
        raise
    except _BAD_ZIP as error:
        if isinstance(error, OSError) and error.errno != errno.EINVAL:
            raise  # the disk's; a place before the start of the file is the archive's
        raise FormatError("the zip archive is damaged", got=str(error)[:200]) from None


def _read_zip(file: Path) -> Any:
    with _sound_zip(), zipfile.ZipFile(file) as archive:
        names = [n for n in archive.namelist() if n == "data.pkl" or n.endswith("/data.pkl")]
        if len(names) != 1:
            raise FormatError("the archive is not of torch.save", expected="one file data.pkl")
        if "constants.pkl" in {n.rsplit("/", 1)[-1] for n in archive.namelist()}:
            raise FormatError(
                "this is a TorchScript program, not weights",
                hint="torch.save(torch.jit.load(path).state_dict(), other)",
            )
        root = names[0].removesuffix("data.pkl")
        order = _byte_order(archive, root)
        bytes_: dict[str, bytes] = {}
        left = file.stat().st_size  # entries may overlap, and be as long as the file each

        def storage(key: Any) -> Storage:
            nonlocal left
            found = _storage(key)
            if found.key not in bytes_:
                bytes_[found.key] = _entry(archive, f"{root}data/{found.key}", left)
                left -= len(bytes_[found.key])
            return found

        content = load(io.BytesIO(_entry(archive, names[0])), str(file), storage)
        return _arrays(content, lambda s: bytes_[s.key], order)


def _entry(archive: zipfile.ZipFile, name: str, most: int = MAX_PICKLE) -> bytes:
    """An entry of a zip, of at most so many bytes."""
    try:
        info = archive.getinfo(name)
    except KeyError:
        raise FormatError("a part of the archive is missing", expected=name) from None
    if info.compress_type != zipfile.ZIP_STORED or info.file_size > info.compress_size:
        raise FormatError("torch stores its arrays as they are", got=f"{name}, compressed")
    if info.file_size > most:
        raise FormatError("an entry is too long", got=f"{name} of {info.file_size:,} bytes")
    return archive.read(info)


def _byte_order(archive: zipfile.ZipFile, root: str) -> str:
    if f"{root}byteorder" not in archive.namelist():
        return "<"
    return ">" if _entry(archive, f"{root}byteorder").strip() == b"big" else "<"


def _storage(key: Any) -> Storage:
    """What a persistent id ("storage", type, key, device, count) stands for."""
    if not isinstance(key, tuple) or len(key) < 5 or key[0] != "storage":
        raise ValueError("no storage")
    _, kind, name, _, count = key[:5]
    if not (isinstance(kind, Named) and kind.kind == "storage" and isinstance(name, str)):
        raise ValueError("a storage without a type or a name")
    if type(count) is not int or not 0 <= count < 1 << 62:
        raise ValueError("a storage of a wrong size")
    return Storage(name, kind.value, count)


# ---- torch.save, before torch 1.6: one pickle after another --------------------------------------


def _read_legacy(file: Path) -> Any:
    size = file.stat().st_size
    # Mapped: a read of more than there is gives what there is, and takes no memory for the rest.
    with open(file, "rb") as on_disk, mmap(on_disk.fileno(), 0, access=ACCESS_READ) as mapped:
        opened: Any = mapped
        numbers = [load(opened, str(file), _no_storage) for _ in range(2)]
        if numbers != [MAGIC, VERSION]:
            raise FormatError("this pickle is not of torch.save")
        machine = load(opened, str(file), _no_storage)
        little = machine.get("little_endian", True) if isinstance(machine, dict) else True
        known: dict[str, Storage] = {}
        content = load(opened, str(file), lambda key: _legacy_storage(key, known))
        keys = load(opened, str(file), _no_storage)
        if not isinstance(keys, list) or not all(isinstance(k, str) for k in keys):
            raise FormatError("the list of storages is damaged")
        bytes_ = {k: _legacy_bytes(mapped, known.get(k), size) for k in keys}
    missing = sorted(known.keys() - bytes_.keys())
    if missing:
        raise FormatError("storages are missing", got=", ".join(missing[:SHOWN]))
    return _arrays(content, lambda s: bytes_[s.key], "<" if little else ">")


def _no_storage(key: Any) -> Storage:
    raise ValueError("a storage where none belongs")


def _legacy_storage(key: Any, known: dict[str, Storage]) -> Storage:
    """As `_storage`, with a view (key, first, count) of the storage as a sixth entry."""
    whole = _storage(key)
    known[whole.key] = whole
    view = key[5] if len(key) > 5 else None
    if view is None:
        return whole
    if not isinstance(view, tuple) or len(view) != 3 or not all(type(n) is int for n in view[1:]):
        raise ValueError("a view of a storage is damaged")
    _, first, count = view
    if first < 0 or count < 0 or first + count > whole.count:
        raise ValueError("a view reaches beyond its storage")
    return Storage(whole.key, whole.dtype, count, first)


def _legacy_bytes(file: mmap, storage: Storage | None, size: int) -> bytes:
    if storage is None:
        raise FormatError("a storage that no tensor has")
    count = int.from_bytes(file.read(8), "little")
    length = count * to_numpy(storage.dtype).itemsize
    if count != storage.count or length > size - file.tell():
        raise FormatError("a storage is cut off", got=f"{count:,} elements")
    return file.read(length)


# ---- arrays --------------------------------------------------------------------------------------


def _arrays(content: Any, bytes_of: Callable[[Storage], bytes], order: str) -> Any:
    """Dicts, at most two deep, with arrays in the place of tensors."""

    def made(value: Any, depth: int) -> Any:
        if isinstance(value, Tensor):
            return _array(value, bytes_of(value.storage), order)
        if isinstance(value, dict) and depth:
            return {k: made(v, depth - 1) for k, v in value.items()}
        return value

    return made(content, 2)


def _array(tensor: Tensor, data: bytes, order: str) -> np.ndarray:
    """A view of its storage. Raises FormatError where it would reach beyond."""
    dtype = to_numpy(tensor.dtype)
    unit = to_numpy(tensor.storage.dtype).itemsize
    first, end = tensor.storage.start * unit, (tensor.storage.start + tensor.storage.count) * unit
    if len(tensor.size) != len(tensor.stride):
        raise FormatError("a tensor has another number of strides than of axes")
    count = math.prod(tensor.size)
    reach = sum((n - 1) * s for n, s in zip(tensor.size, tensor.stride, strict=True)) + 1
    last = first + (tensor.offset + (reach if count else 0)) * dtype.itemsize
    if last > min(end, len(data)) or count >= 1 << 48:
        raise FormatError(
            "a tensor reaches beyond its storage",
            expected=f"at most {max(min(end, len(data)) - first, 0)} bytes",
            got=f"shape {list(tensor.size)} and strides {list(tensor.stride)}",
        )
    whole = np.frombuffer(data, np.uint8)[first + tensor.offset * dtype.itemsize :]
    usable = whole[: len(whole) // dtype.itemsize * dtype.itemsize].view(dtype)
    if order == ">":
        usable = usable.byteswap()
    if not count:
        return np.empty(tensor.size, dtype)
    axes = zip(tensor.size, tensor.stride, strict=True)
    strides = [s * dtype.itemsize if n > 1 else 0 for n, s in axes]
    return np.lib.stride_tricks.as_strided(usable, tensor.size, strides, writeable=False)


# ---- into a model --------------------------------------------------------------------------------


def fit(
    wanted: Mapping[str, Any],
    weights: Mapping[str, np.ndarray],
    *,
    rename: Mapping[str, str] | Callable[[str], str | None] | None = None,
    strict: bool = True,
) -> Arrays:
    """The arrays that a model wants, by its names, of its dtypes.

    wanted:  name -> what has a shape and a dtype: `Program.state` or `Module.parameters()`
    rename:  names in the file -> names in the model, or a function; None leaves a weight out. An
             entry that ends with "." stands for all names that begin so.
    strict:  every weight must be wanted and every wanted one there; otherwise only shapes must fit
    Floats are cast to the float dtype that is wanted. Raises ShapeError or MissingError which tell
    all names that are missing, unexpected or of another shape, at once.
    """
    named = renamed(weights, rename)
    specs = {n: _spec(v) for n, v in wanted.items()}
    wrong = [
        f"{n}: {format_shape(named[n].shape)} for {s}"
        for n, s in specs.items()
        if n in named and not _fits(named[n], s)
    ]
    missing = sorted(specs.keys() - named.keys())
    unexpected = sorted(n for n in named.keys() - specs.keys() if not n.endswith(UNUSED))
    if wrong or (strict and (missing or unexpected)):
        kind = ShapeError if wrong else MissingError
        raise kind(
            f"the weights do not fit the model: {len(missing)} are missing, {len(unexpected)} are "
            f"unexpected, {len(wrong)} have another shape",
            got=_listed({"missing": missing, "unexpected": unexpected, "another shape": wrong}),
            hint="rename={'name in the file': 'name in the model'}; strict=False takes what fits",
        )
    return {
        n: np.array(named[n], to_numpy(s.dtype), order="C") for n, s in specs.items() if n in named
    }


def renamed(weights: Mapping[str, np.ndarray], rename: Any) -> Arrays:
    """The weights under other names: `rename` as for `fit`. Raises MissingError for two of one."""
    if rename is None:
        return dict(weights)
    rule = rename if callable(rename) else lambda name: _by_table(name, rename)
    out: Arrays = {}
    for name, array in weights.items():
        new = rule(name)
        if new is None:
            continue
        if new in out:
            raise MissingError(f"two weights would be called '{new}'", got=f"one is '{name}'")
        out[new] = array
    return out


def _by_table(name: str, table: Mapping[str, str | None]) -> str | None:
    if name in table:
        return table[name]
    starts = [s for s in table if s.endswith(".") and name.startswith(s)]
    if not starts:
        return name
    longest = max(starts, key=len)
    new = table[longest]
    return None if new is None else new + name.removeprefix(longest)


def _spec(value: Any) -> Spec:
    value = getattr(value, "value", value)  # a State has a Value
    return Spec(value.shape, value.dtype)


def _fits(array: np.ndarray, spec: Spec) -> bool:
    given = as_dtype(array.dtype)
    kinds = given == spec.dtype or (is_float(given) and is_float(spec.dtype))
    return array.shape == spec.shape and kinds


def _listed(groups: Mapping[str, list[str]]) -> str:
    lines = []
    for title, names in groups.items():
        for name in names[:SHOWN]:
            lines.append(f"{title}: {name}")
        if len(names) > SHOWN:
            lines.append(f"{title}: ... and {len(names) - SHOWN} more")
    return "\n  " + "\n  ".join(lines)
