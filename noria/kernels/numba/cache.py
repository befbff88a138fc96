"""Object code on disk, so that a second start compiles nothing.

One file for each kernel, named by the hash of everything the code depends on. A file is written
aside and renamed into place, so readers see all of it or nothing; it begins with a checksum, so a
damaged one is as good as absent. That is why nothing is forced to disk: losing an entry costs one
compilation. A directory that cannot be written simply is no cache.

The files hold machine code that will be run: entries that belong to another user are not read.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import os
import secrets
from importlib import metadata
from pathlib import Path

from noria.core.flags import flags
from noria.kernels.numba.loader import ObjectCode, cpu

_MAGIC = b"noria object 1\n"
# The modules whose text decides what code a source becomes.
_GENERATORS = (
    "conv_sizes",
    "conv_tiles",
    "depthwise_sizes",
    "depthwise_tiles",
    "expr",
    "intrinsics",
    "lanes",
    "loader",
    "loops",
    "lower",
    "math",
    "math_float32",
    "pooled_sizes",
    "pooled_tiles",
    "spread_sizes",
    "spread_tiles",
    "taken_sizes",
    "taken_tiles",
    "tile_sizes",
    "tiles",
    "winograd_matrix",
    "winograd_tiles",
)


def directory() -> Path:
    """The folder `kernels` in the folder of the flag `cache` (NORIA_CACHE)."""
    return Path(flags.cache) / "kernels"


def key(source: str, entry: str) -> str:
    """A name for the code of a kernel: the same source on the same software and CPU."""
    text = "\0".join((entry, source, _surroundings()))
    return hashlib.sha256(text.encode()).hexdigest()


@functools.cache
def _surroundings() -> str:
    here = Path(__file__).parent
    generators = [(here / f"{name}.py").read_text(encoding="utf-8") for name in _GENERATORS]
    versions = [metadata.version(package) for package in ("numba", "llvmlite")]
    return "\0".join((*generators, *versions, *cpu()))


def read(name: str) -> ObjectCode | None:
    """The entry of that name if it is there, whole, and ours."""
    try:
        with open(directory() / name, "rb") as file:
            if os.fstat(file.fileno()).st_uid not in (os.getuid(), 0):
                return None
            return decode(file.read())
    except (OSError, ValueError, KeyError, TypeError):
        return None


def write(name: str, entry: ObjectCode) -> None:
    """Adds an entry, if the disk lets us."""
    place = directory()
    temporary = place / f".{name}.{secrets.token_hex(6)}.tmp"
    with contextlib.suppress(OSError):
        place.mkdir(mode=0o700, parents=True, exist_ok=True)
        try:
            temporary.write_bytes(encode(entry))
            os.replace(temporary, place / name)
        except OSError:
            temporary.unlink(missing_ok=True)


def encode(entry: ObjectCode) -> bytes:
    """Object code as a file has it, or a pipe."""
    head = json.dumps({"symbol": entry.symbol, "externals": entry.externals}).encode()
    body = len(head).to_bytes(4, "little") + head + entry.code
    return _MAGIC + hashlib.sha256(body).digest() + body


def decode(data: bytes) -> ObjectCode:
    """What `encode` was given. Raises ValueError, KeyError or TypeError when that is not all."""
    start = len(_MAGIC) + 32
    body = data[start:]
    if not data.startswith(_MAGIC) or hashlib.sha256(body).digest() != data[start - 32 : start]:
        raise ValueError("not a whole entry")
    size = int.from_bytes(body[:4], "little")
    head = json.loads(body[4 : 4 + size])
    return ObjectCode(head["symbol"], tuple(head["externals"]), body[4 + size :])
