"""The operators of Caffe2 that noria converts, and what a handler sees of one.

    @caffe2_op("Scale")
    def scale(op, x):
        return ops.mul(x, op.attr("scale", 1.0))

A handler takes the operator and its input blobs and returns its outputs, in order: one value, or
a tuple where there are several; None for an output that is not a tensor of numbers.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from noria.convert.caffe2.tensors import array_of, dtype_of
from noria.convert.handlers import Handlers
from noria.core.errors import ArgumentError

if TYPE_CHECKING:
    from noria.convert.caffe2.frame import Frame

caffe2_op = Handlers("Caffe2")

REQUIRED: Any = object()


class Node:
    """One operator of a net, as its handler sees it.

    type, name: as in the net; inputs, outputs: names of blobs; frame: where it is converted
    """

    def __init__(self, message: Any, frame: Frame) -> None:
        self.type: str = message.type
        self.name: str = message.name
        self.inputs: list[str] = list(message.input)
        self.outputs: list[str] = list(message.output)
        self.frame = frame
        self.args = {a.name: a for a in message.arg}

    def where(self) -> str:
        """For error messages."""
        return f"{self.type} giving '{', '.join(self.outputs)}'"

    def specs(self) -> str:
        """For error messages: dtypes and shapes of the inputs."""
        return ", ".join(str(self.frame.blobs.get(name)) for name in self.inputs)

    def has(self, name: str) -> bool:
        """Whether the argument is there."""
        return name in self.args

    def attr(self, name: str, default: Any = REQUIRED) -> Any:
        """An argument: int, float, str, list of them, or an array.

        It takes the kind of a default that is a bool, an integer, a float or a string.
        Raises ArgumentError where it is missing and there is no default, or has another kind.
        """
        if name not in self.args:
            if default is REQUIRED:
                raise ArgumentError(f"the argument '{name}' is missing", where=self.where())
            return default
        value = _plain(self.args[name])
        if default is REQUIRED or default is None or isinstance(default, (list, tuple)):
            return [] if value is None and default is not REQUIRED else value
        return self._like(default, value, name)

    def _like(self, default: Any, value: Any, name: str) -> Any:
        kind = type(default)
        number = isinstance(value, (int, float))
        if (kind is str) != isinstance(value, str) or not (kind is str or number):
            raise ArgumentError(
                f"the argument '{name}' has another kind",
                where=self.where(),
                expected=kind.__name__,
                got=repr(value)[:60],
            )
        if kind in (bool, int) and value % 1 != 0:
            raise ArgumentError(
                f"the argument '{name}' is an integer", where=self.where(), got=str(value)
            )
        return kind(value)

    def ints(self, name: str, default: Sequence[int] = ()) -> list[int]:
        """A list of integers, also where the net has one integer."""
        value = self.attr(name, None)
        listed = list(default) if value is None else value if isinstance(value, list) else [value]
        if not all(isinstance(v, (int, float)) and v % 1 == 0 for v in listed):
            raise ArgumentError(
                f"the argument '{name}' holds integers", where=self.where(), got=str(listed)[:60]
            )
        return [int(v) for v in listed]

    def floats(self, name: str, default: Sequence[float] = ()) -> list[float]:
        """A list of floats, also where the net has one number."""
        value = self.attr(name, None)
        listed = list(default) if value is None else value if isinstance(value, list) else [value]
        if not all(isinstance(v, (int, float)) for v in listed):
            raise ArgumentError(
                f"the argument '{name}' holds floats", where=self.where(), got=str(listed)[:60]
            )
        return [float(v) for v in listed]

    def names(self, name: str) -> list[str]:
        """A list of strings."""
        value = self.attr(name, [])
        listed = value if isinstance(value, list) else [value]
        return [str(v) for v in listed]

    def dtype(self, name: str = "dtype", default: str = "float32") -> str:
        """A dtype, which Caffe2 writes as a number or as a word."""
        given = self.attr(name, None)
        return default if given is None else dtype_of(given, self.where())

    def net(self, name: str) -> Any:
        """A net among the arguments, None without it. Raises ArgumentError for something else."""
        argument = self.args.get(name)
        if argument is None:
            return None
        return self.frame.nested_net(argument, self.where())

    @property
    def last(self) -> bool:
        """Whether channels are the last axis (`order` NHWC)."""
        order = self.attr("order", "NCHW")
        if order not in ("NCHW", "NHWC"):
            raise ArgumentError("unknown order", expected="NCHW or NHWC", got=order)
        return bool(order == "NHWC")

    def const(self, value: Any, what: str) -> np.ndarray:
        """The numbers of a value that must be known now. Raises NeedsConstant."""
        return self.frame.const(value, f"{what} of {self.where()}")

    def known(self, value: Any) -> np.ndarray | None:
        """The numbers of a value if they are known now."""
        return self.frame.known(value)

    def symbol(self, base: str) -> str:
        """A new name for a size that only the data tell."""
        return self.frame.symbol(base)


def _plain(argument: Any) -> Any:
    """What an Argument holds; an empty list where nothing tells its kind."""
    for field in ("f", "i"):
        if argument.HasField(field):
            return getattr(argument, field)
    if argument.HasField("s"):
        return text(argument.s)
    if argument.HasField("t"):
        return array_of(argument.t)
    for field in ("floats", "ints"):
        if listed := list(getattr(argument, field)):
            return listed
    return [text(s) for s in argument.strings]


def text(data: bytes) -> str:
    """A string of a net, whatever its bytes are."""
    return data.decode("utf-8", "surrogateescape")
