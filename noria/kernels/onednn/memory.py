"""Memory descriptors: the dims, dtype and layout of one tensor, as oneDNN understands them."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from math import prod
from operator import index

from noria.core.dtypes import itemsize
from noria.core.errors import EngineError
from noria.kernels.onednn.enums import (
    DTYPE_NAMES,
    DTYPES,
    FORMAT_ANY,
    FORMAT_BLOCKED,
    MAX_RANK,
    QUERY_DIMS,
    QUERY_DTYPE,
    QUERY_FORMAT_KIND,
    QUERY_INNER_BLKS,
    QUERY_INNER_IDXS,
    QUERY_INNER_NBLKS,
    QUERY_NDIMS,
    QUERY_STRIDES,
    TAG_ANY,
)
from noria.kernels.onednn.lib import Handle, Library, check, library

Dims = tuple[int, ...]
_DimsArray = ctypes.c_int64 * MAX_RANK


def c_dims(values: Sequence[int]) -> ctypes.Array[ctypes.c_int64]:
    """A dnnl_dims_t: always 12 long, so C never reads past what Python gave."""
    return _DimsArray(*values)


class MemDesc:
    """Dims, dtype and layout of a tensor.

    dims:    1 to 12 sizes, none of them 0
    dtype:   a noria dtype name oneDNN knows (float32, bfloat16, float16, int32, int8, uint8 ...)
    strides: elements between neighbours along each dim; row-major if not given. A dim longer than 1
             has a positive stride and elements do not overlap: broadcasting is a dim of size 1.

    Equal descriptors describe the same bytes: strides of dims of size 1 do not matter. The C object
    is made when first needed, so a descriptor that only serves as a key costs no native call.

    Raises EngineError for what oneDNN cannot hold, empty tensors included: those are for the caller
    to skip, since there is nothing to compute.
    """

    __slots__ = ("_blocks", "_handle", "_hash", "dims", "dtype", "is_any", "strides")

    def __init__(self, dims: Sequence[int], dtype: str, strides: Sequence[int] | None = None):
        self.dims: Dims = tuple(map(index, dims))
        self.dtype = dtype
        self.is_any = False
        self._blocks: str | None = None
        self._handle: Handle | None = None
        size = prod(self.dims) if 0 < len(self.dims) <= MAX_RANK and min(self.dims) > 0 else 0
        if not 0 < size < 2**60 or dtype not in DTYPES:
            raise self._refusal()
        self.strides: Dims | None = (
            row_major(self.dims) if strides is None else self._check_strides(strides)
        )
        self._hash = hash((self.dims, dtype, False))

    @classmethod
    def any(cls, dims: Sequence[int], dtype: str) -> MemDesc:
        """A descriptor whose layout the primitive is asked to choose (see `Primitive.descs`)."""
        desc = cls(dims, dtype)
        desc.is_any, desc.strides = True, None
        desc._hash = hash((desc.dims, dtype, True))
        return desc

    @classmethod
    def channels_last(cls, dims: Sequence[int], dtype: str) -> MemDesc:
        """dims are [N, C, spatial...]; in memory the order is [N, spatial..., C]."""
        if len(dims) < 2:
            raise EngineError("channels-last needs dims [N, C, ...]", got=str(list(dims)))
        n, c, *space = dims
        inner = row_major((n, *space, c))
        desc = cls(dims, dtype)
        # Not `canonical`: with one channel that is row-major, which convolutions then take for
        # another layout than the channels-last of their other side (and run their reference).
        desc.strides = (inner[0], 1, *inner[1:-1])
        return desc

    @classmethod
    def adopt(cls, lib: Library, borrowed: int) -> MemDesc:
        """A descriptor for a C one owned by somebody else (a copy of it is made)."""
        out = ctypes.c_void_p()
        check(lib.c.dnnl_memory_desc_clone(ctypes.byref(out), borrowed), "to copy a descriptor")
        assert out.value
        desc = cls.__new__(cls)
        desc._handle = Handle(out.value, lib.c.dnnl_memory_desc_destroy)
        desc._read(lib)
        desc._hash = hash((desc.dims, desc.dtype, desc.is_any))
        return desc

    def _refusal(self) -> EngineError:
        got = f"{self.dtype}{list(self.dims)}"
        if self.dtype not in DTYPES:
            expected = "one of " + ", ".join(DTYPES)
            return EngineError("oneDNN does not know this dtype", expected=expected, got=got)
        if not 1 <= len(self.dims) <= MAX_RANK:
            return EngineError("oneDNN cannot hold this rank", expected=f"1 to {MAX_RANK}", got=got)
        return EngineError("oneDNN cannot hold these dims", expected="each 1 or more", got=got)

    def _check_strides(self, strides: Sequence[int]) -> Dims:
        values = tuple(map(index, strides))
        if len(values) != len(self.dims):
            raise EngineError(
                "a stride per dim is needed", expected=f"{len(self.dims)} strides", got=str(values)
            )
        if any(d > 1 and not 0 < s < 2**60 // d for d, s in zip(self.dims, values, strict=True)):
            raise EngineError(
                "oneDNN takes positive strides only",
                got=f"strides {values} of dims {self.dims}",
                hint="broadcast through a dim of size 1, copy a reversed view",
            )
        return canonical(self.dims, values)

    def _read(self, lib: Library) -> None:
        """Fill the Python side from the C side."""
        rank = self._query_int(lib, QUERY_NDIMS)
        kind = self._query_int(lib, QUERY_FORMAT_KIND)
        self.dims = self._query_dims(lib, QUERY_DIMS, rank)
        self.dtype = DTYPE_NAMES[self._query_int(lib, QUERY_DTYPE)]
        self.is_any, self.strides, self._blocks = kind == FORMAT_ANY, None, None
        if kind != FORMAT_BLOCKED:
            self._blocks = None if self.is_any else "opaque"
            return
        strides = self._query_dims(lib, QUERY_STRIDES, rank)
        self._blocks = self._read_blocks(lib, strides)
        self.strides = strides if self._blocks is None else None

    def _read_blocks(self, lib: Library, strides: Dims) -> str | None:
        """The layout, outer dims to inner blocks, as text like 'ABcd16b16a'; None where plain.

        Weights with compensation terms behind them may have plain strides: their size tells.
        """
        blocks = self._query_int(lib, QUERY_INNER_NBLKS)
        sizes = self._query_dims(lib, QUERY_INNER_BLKS, blocks)
        dims = self._query_dims(lib, QUERY_INNER_IDXS, blocks)
        if not blocks:
            plain = max(d * s for d, s in zip(self.dims, strides, strict=True))
            size = lib.c.dnnl_memory_desc_get_size(self.handle)
            return None if size <= plain * itemsize(self.dtype) else "compensated"
        order = sorted(range(len(strides)), key=lambda i: -strides[i])
        outer = "".join(chr(ord("A" if i in dims else "a") + i) for i in order)
        return outer + "".join(f"{n}{chr(ord('a') + i)}" for n, i in zip(sizes, dims, strict=True))

    def _query_int(self, lib: Library, what: int) -> int:
        out = ctypes.c_int()
        check(lib.c.dnnl_memory_desc_query(self.handle, what, ctypes.byref(out)), f"query {what}")
        return out.value

    def _query_dims(self, lib: Library, what: int, n: int) -> Dims:
        out = ctypes.POINTER(ctypes.c_int64)()
        check(lib.c.dnnl_memory_desc_query(self.handle, what, ctypes.byref(out)), f"query {what}")
        return tuple(out[i] for i in range(n))

    @property
    def handle(self) -> int:
        """Address of the C descriptor, made at the first call and destroyed with this object."""
        if self._handle is None:
            self._handle = self._create(library())
        return self._handle.value

    _as_parameter_ = handle  # so that ctypes takes a MemDesc where C wants a descriptor

    def _create(self, lib: Library) -> Handle:
        out, code, dims = ctypes.c_void_p(), DTYPES[self.dtype], c_dims(self.dims)
        at, rank = ctypes.byref(out), len(self.dims)
        if self.strides is None:
            status = lib.c.dnnl_memory_desc_create_with_tag(at, rank, dims, code, TAG_ANY)
        else:
            strides = c_dims(self.strides)
            status = lib.c.dnnl_memory_desc_create_with_strides(at, rank, dims, code, strides)
        if status:
            check(status, "a memory descriptor", got=repr(self))
        assert out.value
        return Handle(out.value, lib.c.dnnl_memory_desc_destroy)

    @property
    def blocks(self) -> str | None:
        """The layout, outer dims to inner blocks, as text like 'ABcd16b16a'; None where plain."""
        return self._blocks

    @property
    def is_dense(self) -> bool:
        """True where no byte between the first and the last element is another's."""
        return self.strides is None or self._span == prod(self.dims)

    @property
    def is_channels_last(self) -> bool:
        """True for dense [N, C, spatial...] stored as [N, spatial..., C]."""
        return len(self.dims) > 2 and self.lies_like(MemDesc.channels_last(self.dims, self.dtype))

    @property
    def _span(self) -> int:
        """Elements from the first to the last, of a plain layout."""
        assert self.strides is not None
        return 1 + sum((d - 1) * s for d, s in zip(self.dims, self.strides, strict=True))

    def lies_like(self, other: MemDesc) -> bool:
        """Whether each element lies at the same place as in `other`, whatever the dtypes."""
        if self.dims != other.dims or self.is_any or other.is_any:
            return False
        if self.strides is None or other.strides is None:
            return self._blocks == other._blocks
        pairs = zip(self.dims, self.strides, other.strides, strict=True)
        return all(d == 1 or s == t for d, s, t in pairs)

    @property
    def nbytes(self) -> int:
        """Bytes from the first to the last element, blocks and padding included.

        Raises EngineError while the layout is still to be chosen.
        """
        if self.is_any:
            raise EngineError("the layout of this descriptor is not chosen yet", got=repr(self))
        if self.strides is None:
            return int(library().c.dnnl_memory_desc_get_size(self.handle))
        return self._span * itemsize(self.dtype)

    def __hash__(self) -> int:
        return self._hash

    def __eq__(self, other: object) -> bool:
        if self is other:
            return True
        if not isinstance(other, MemDesc):
            return NotImplemented
        if self._hash != other._hash or self.dims != other.dims or self.dtype != other.dtype:
            return False
        if self.is_any or other.is_any:
            return self.is_any and other.is_any
        if self.strides is not None and self.strides == other.strides:
            return True
        return bool(library().c.dnnl_memory_desc_equal(self.handle, other.handle))

    def __repr__(self) -> str:
        text = f"{self.dtype}[{', '.join(map(str, self.dims))}]"
        if self.is_any:
            return f"{text}:any"
        if self.strides is None:
            return f"{text}:{self._blocks}"
        return text if self.strides == row_major(self.dims) else f"{text}:{self.strides}"


def canonical(dims: Dims, strides: Dims) -> Dims:
    """The same layout, with strides of dims of size 1 as a dense tensor would have them.

    They address nothing, but oneDNN compares them, and takes them for leading dimensions.
    """
    if 1 not in dims:
        return strides
    known, step = list(strides), 1
    for i in reversed(range(len(dims))):
        if dims[i] == 1:
            known[i] = step
        else:
            step = dims[i] * strides[i]
    return tuple(known)


def row_major(dims: Dims) -> Dims:
    """Strides, in elements, of a dense tensor whose last dim is innermost."""
    strides, step = [1] * len(dims), 1
    for i in range(len(dims) - 1, 0, -1):
        step *= dims[i]
        strides[i - 1] = step
    return tuple(strides)
