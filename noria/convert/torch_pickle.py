"""The pickles inside PyTorch's files, read without running anything they ask for.

`pickletools` of the standard library takes a pickle apart; the stack machine here knows only what
state dicts are made of: numbers, texts, lists, tuples, dicts, and tensors. Whatever else a pickle
names is refused with its name. Nothing is imported, no object is built that has code of its own.
"""

from __future__ import annotations

import pickletools
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, BinaryIO

from noria.core.errors import FormatError

MAX_STEPS = 4_000_000  # opcodes of one pickle: 100,000 tensors take half of them
STORAGES = {
    "FloatStorage": "float32", "DoubleStorage": "float64", "HalfStorage": "float16",
    "BFloat16Storage": "bfloat16", "ByteStorage": "uint8", "CharStorage": "int8",
    "ShortStorage": "int16", "IntStorage": "int32", "LongStorage": "int64", "BoolStorage": "bool",
    "UntypedStorage": "uint8",
}  # fmt: skip
DTYPES = {
    "float32": "float32", "float": "float32", "float64": "float64", "double": "float64",
    "float16": "float16", "half": "float16", "bfloat16": "bfloat16", "uint8": "uint8",
    "uint16": "uint16", "uint32": "uint32", "uint64": "uint64", "int8": "int8", "int16": "int16",
    "short": "int16", "int32": "int32", "int": "int32", "int64": "int64", "long": "int64",
    "bool": "bool",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Storage:
    """A run of numbers of the file. count: of elements of `dtype`; start: within `key`."""

    key: str
    dtype: str
    count: int
    start: int = 0


@dataclass(frozen=True, slots=True)
class Tensor:
    """Elements of a storage: `offset` and `stride` count elements of `dtype`."""

    storage: Storage
    dtype: str
    offset: int
    size: tuple[int, ...]
    stride: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Named:
    """Something of a module that a pickle names: `value` of `kind`."""

    kind: str  # "storage", "dtype", "call"
    value: Any


class _Mark:
    pass


def load(file: BinaryIO, where: str, storages: Callable[[Any], Storage]) -> Any:
    """What one pickle holds; the file is left behind it.

    storages: what a persistent id stands for
    Raises FormatError for a damaged pickle, and one that names anything but tensors' parts.
    """
    machine = _Machine(where, storages)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of escapes in a damaged text
        _run(machine, file, where)
    return machine.result


def _run(machine: _Machine, file: BinaryIO, where: str) -> None:
    try:
        for steps, (opcode, argument, _) in enumerate(pickletools.genops(file)):
            if steps > MAX_STEPS:
                raise FormatError("the pickle is too long", where=where)
            step = getattr(machine, f"op_{opcode.name.lower()}", None)
            if step is None:
                raise FormatError(
                    f"a pickle of tensors has no {opcode.name}", where=where, hint=_HINT
                )
            step(argument)
    except FormatError:
        raise
    except (ValueError, IndexError, KeyError, TypeError, AttributeError, OverflowError) as error:
        raise FormatError("the pickle is damaged", where=where, got=str(error)[:200]) from None


_HINT = "save the weights alone: torch.save(model.state_dict(), path)"


def _call(name: str) -> Named:
    return Named("call", name)


KNOWN: dict[tuple[str, str], Named] = {
    ("collections", "OrderedDict"): _call("OrderedDict"),
    ("torch", "Size"): _call("Size"),
    ("torch._utils", "_rebuild_tensor"): _call("tensor"),
    ("torch._utils", "_rebuild_tensor_v2"): _call("tensor"),
    ("torch._utils", "_rebuild_tensor_v3"): _call("tensor_v3"),
    ("torch._utils", "_rebuild_parameter"): _call("parameter"),
    ("torch._utils", "_rebuild_parameter_with_state"): _call("parameter"),
    **{("torch", n): Named("storage", d) for n, d in STORAGES.items()},
    **{("torch.storage", n): Named("storage", d) for n, d in STORAGES.items()},
    **{("torch", n): Named("dtype", d) for n, d in DTYPES.items()},
}


class _Machine:
    """The stack of one pickle. `op_X` does what opcode X asks for."""

    def __init__(self, where: str, storages: Callable[[Any], Storage]) -> None:
        self.where, self.storages = where, storages
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}
        self.result: Any = None
        self.copied = 0

    def pop(self, *kinds: type) -> Any:
        value = self.stack.pop()
        if kinds and not isinstance(value, kinds):
            raise ValueError(f"a {type(value).__name__} where a {kinds[0].__name__} belongs")
        return value

    def top(self, *kinds: type) -> Any:
        if not isinstance(self.stack[-1], kinds):
            kind = type(self.stack[-1]).__name__
            raise ValueError(f"a {kind} where a {kinds[0].__name__} belongs")
        return self.stack[-1]

    def above_mark(self) -> list[Any]:
        """Takes what lies above the last mark, and the mark."""
        for i in range(len(self.stack) - 1, -1, -1):
            if type(self.stack[i]) is _Mark:
                found = self.stack[i + 1 :]
                del self.stack[i:]
                return found
        raise ValueError("no mark")

    # ---- frames and plain values ---------------------------------------------------------------

    def op_proto(self, version: int) -> None:
        if version > 5:
            raise ValueError(f"protocol {version}")

    def op_frame(self, _: Any) -> None:
        pass

    def op_stop(self, _: Any) -> None:
        self.result = self.pop()

    def op_mark(self, _: Any) -> None:
        self.stack.append(_Mark())

    def op_pop(self, _: Any) -> None:
        self.pop()

    def op_pop_mark(self, _: Any) -> None:
        self.above_mark()

    def op_none(self, _: Any) -> None:
        self.stack.append(None)

    def op_newtrue(self, _: Any) -> None:
        self.stack.append(True)

    def op_newfalse(self, _: Any) -> None:
        self.stack.append(False)

    def push(self, value: Any) -> None:
        self.stack.append(value)

    op_int = op_binint = op_binint1 = op_binint2 = op_long = op_long1 = op_long4 = push
    op_float = op_binfloat = op_string = op_binstring = op_short_binstring = push
    op_unicode = op_binunicode = op_short_binunicode = op_binunicode8 = push
    op_binbytes = op_short_binbytes = op_binbytes8 = push

    # ---- containers ----------------------------------------------------------------------------

    def op_empty_dict(self, _: Any) -> None:
        self.stack.append({})

    def op_empty_list(self, _: Any) -> None:
        self.stack.append([])

    def op_empty_tuple(self, _: Any) -> None:
        self.stack.append(())

    def op_tuple(self, _: Any) -> None:
        self.stack.append(tuple(self.above_mark()))

    def op_tuple1(self, _: Any) -> None:
        self.stack.append((self.pop(),))

    def op_tuple2(self, _: Any) -> None:
        b, a = self.pop(), self.pop()
        self.stack.append((a, b))

    def op_tuple3(self, _: Any) -> None:
        c, b, a = self.pop(), self.pop(), self.pop()
        self.stack.append((a, b, c))

    def op_list(self, _: Any) -> None:
        self.stack.append(self.above_mark())

    def op_dict(self, _: Any) -> None:
        items = self.above_mark()
        self.stack.append({})
        self._set(items)

    def op_append(self, _: Any) -> None:
        value = self.pop()
        self.top(list).append(value)

    def op_appends(self, _: Any) -> None:
        items = self.above_mark()
        self.top(list).extend(items)

    def op_setitem(self, _: Any) -> None:
        value, key = self.pop(), self.pop()
        self._set([key, value])

    def op_setitems(self, _: Any) -> None:
        self._set(self.above_mark())

    def _set(self, items: list[Any]) -> None:
        target = self.top(dict)
        for key, value in zip(items[::2], items[1::2], strict=True):
            if not isinstance(key, (str, int)):
                raise ValueError(f"a {type(key).__name__} as a key")
            target[key] = value

    # ---- the memo ------------------------------------------------------------------------------

    def op_put(self, index: int) -> None:
        self.memo[index] = self.stack[-1]

    op_binput = op_long_binput = op_put

    def op_memoize(self, _: Any) -> None:
        self.memo[len(self.memo)] = self.stack[-1]

    def op_get(self, index: int) -> None:
        self.stack.append(self.memo[index])

    op_binget = op_long_binget = op_get

    # ---- names and calls -----------------------------------------------------------------------

    def op_global(self, name: str) -> None:
        module, _, attribute = name.partition(" ")
        self._name(module, attribute)

    def op_stack_global(self, _: Any) -> None:
        attribute, module = self.pop(str), self.pop(str)
        self._name(module, attribute)

    def _name(self, module: str, attribute: str) -> None:
        found = KNOWN.get((module, attribute))
        if found is None:
            raise FormatError(
                f"the file asks for '{module}.{attribute}'"[:200],
                where=self.where,
                expected="tensors, numbers, texts, lists and dicts only",
                hint=_HINT,
            )
        self.stack.append(found)

    def op_binpersid(self, _: Any) -> None:
        self.stack.append(self.storages(self.pop()))

    def op_reduce(self, _: Any) -> None:
        arguments, what = self.pop(tuple), self.pop(Named)
        if what.kind != "call":
            raise ValueError(f"a {what.kind} is called")
        self.stack.append(getattr(self, f"make_{what.value.lower()}")(*arguments))

    def op_build(self, _: Any) -> None:
        """Attributes of a dict, such as the versions of modules: no weights."""
        self.pop()
        self.top(dict)

    def make_ordereddict(self, items: Any = ()) -> dict[Any, Any]:
        self.copied += len(items)
        if self.copied > MAX_STEPS:
            raise ValueError("the same items are copied again and again")
        self.stack.append({})
        self._set([v for pair in items for v in _pair(pair)])
        made: dict[Any, Any] = self.pop()
        return made

    def make_size(self, sizes: Any = ()) -> tuple[int, ...]:
        return _integers(sizes)

    def make_tensor(self, storage: Any, offset: Any, size: Any, stride: Any, *_: Any) -> Tensor:
        return self._tensor(storage, None, offset, size, stride)

    def make_tensor_v3(
        self, storage: Any, offset: Any, size: Any, stride: Any, grad: Any, hooks: Any, dtype: Any,
        *_: Any,
    ) -> Tensor:  # fmt: skip
        if not (isinstance(dtype, Named) and dtype.kind == "dtype"):
            raise ValueError("a tensor without a dtype")
        return self._tensor(storage, dtype.value, offset, size, stride)

    def _tensor(self, storage: Any, dtype: Any, offset: Any, size: Any, stride: Any) -> Tensor:
        if not isinstance(storage, Storage):
            raise ValueError(f"a tensor of a {type(storage).__name__}")
        (start,) = _integers((offset,))
        return Tensor(storage, dtype or storage.dtype, start, _integers(size), _integers(stride))

    def make_parameter(self, data: Any, *_: Any) -> Tensor:
        if not isinstance(data, Tensor):
            raise ValueError(f"a parameter of a {type(data).__name__}")
        return data


def _pair(value: Any) -> tuple[Any, Any]:
    if not (isinstance(value, (list, tuple)) and len(value) == 2):
        raise ValueError("an item of a dict is a pair")
    return value[0], value[1]


def _integers(values: Any) -> tuple[int, ...]:
    """Sizes and places: none is negative."""
    if not isinstance(values, (list, tuple)) or len(values) > 64:
        raise ValueError("a shape is a tuple")
    if not all(type(v) is int and 0 <= v < 1 << 62 for v in values):
        raise ValueError("a size is an integer, 0 or more")
    return tuple(values)
