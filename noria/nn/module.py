"""Modules: Python objects that own parameters. No metaclass, no hooks.

A module's attributes that are Parameters or Modules get their names from the attribute, as in
PyTorch: `model.conv1.weight` is the state "conv1.weight" of every Program the model is traced into.
Called while a Program is being built, a module emits operators. Called on NumPy arrays it computes
at once, with its own copies of the parameters (test-time behaviour), which is for debugging.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping
from typing import Any, Self

import numpy as np

from noria.core import dtypes
from noria.core.errors import ArgumentError, MissingError, ShapeError, nearest
from noria.ir.emit import building, current
from noria.ir.opdef import lookup
from noria.ir.opdef import vocabulary as o
from noria.ir.program import Value, as_shape
from noria.nn.init import Init
from noria.ops import methods


class Parameter:
    """A state a module owns: shape, dtype, initialiser; its name comes from where it is attached.

    trainable: False for running statistics and the like.
    Arithmetic and methods are those of Values: `p * 2`, `x @ p.T`, `p.reshape(3, -1)`.
    Raises ShapeError for a shape that is not one of numbers, or not that of `init.array`;
    ArgumentError for what is no initialiser.
    """

    def __init__(
        self, shape: Any, init: Init, *, dtype: Any = "float32", trainable: bool = True
    ) -> None:
        self.shape = _sizes(shape)
        self.dtype = dtypes.as_dtype(dtype)
        self.init, self.trainable = _checked_init(init, self.shape), trainable
        self.owner: Module | None = None
        self.label = ""
        self.array: np.ndarray | None = None  # numbers of the eager mode

    @property
    def name(self) -> str:
        """Dotted path from the outermost module."""
        path = self.owner.path if self.owner is not None else ""
        return f"{path}.{self.label}" if path else self.label

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def T(self) -> Any:
        return o.transpose(self)

    def __repr__(self) -> str:
        return f"Parameter({self.name or '?'}: {self.dtype}{list(self.shape)})"

    def __bool__(self) -> bool:
        raise ArgumentError(
            "a Parameter is neither true nor false", got=repr(self), hint="`is not None`"
        )

    def __array__(self, *args: Any, **kwargs: Any) -> np.ndarray:
        return self.__noria_value__().__array__(*args, **kwargs)

    def __noria_value__(self) -> Any:
        """The state's Value in the Program being built, or the array outside of any."""
        builder = current()
        if builder is None:
            return self.numbers()
        if not self.name:
            raise ArgumentError(
                "a Parameter must be an attribute of a Module before it is used", got=repr(self)
            )
        how = {"init": self.init, "trainable": self.trainable, "owner": self}
        return builder.state(self.name, self.shape, self.dtype, **how)  # type: ignore[arg-type]

    def numbers(self) -> np.ndarray:
        """The eager mode's array: as a Scope starts with seed 0, until `Module.load` gives others.

        Computed on first use; also while a Program is built.
        """
        if self.array is None:
            kind, attrs = self.init
            number = dtypes.to_numpy(self.dtype)
            if kind == "constant":
                self.array = np.array(attrs["value"], number)
            else:
                definition = lookup(kind)
                key = np.array([0, zlib.crc32(self.name.encode())], np.int64)
                full = definition.bind_attrs({**attrs, "shape": self.shape, "dtype": self.dtype})
                (out,) = definition.run(np, [key] if definition.effect == "random" else [], full)
                self.array = np.array(out, number)
        return self.array


def _sizes(shape: Any) -> tuple[int, ...]:
    sizes = as_shape(shape)
    if not all(isinstance(d, int) for d in sizes):
        raise ShapeError("the sizes of a Parameter are numbers", got=repr(shape))
    return sizes  # type: ignore[return-value]


def _checked_init(init: Any, shape: tuple[int, ...]) -> Init:
    if not (isinstance(init, tuple) and len(init) == 2 and isinstance(init[1], Mapping)):
        raise ArgumentError(
            "not an initialiser", got=repr(init), hint="one of noria.nn.init, as init.constant(0.5)"
        )
    if init[0] == "constant" and np.shape(init[1]["value"]) != shape:
        raise ShapeError(
            "the numbers of a Parameter have another shape",
            expected=str(shape),
            got=str(np.shape(init[1]["value"])),
        )
    return init


def _forward(name: str) -> Any:
    of_value = getattr(methods.ValueMethods, name)  # not the array's own, which may mean otherwise

    def method(self: Parameter, *args: Any, **kwargs: Any) -> Any:
        return of_value(self.__noria_value__(), *args, **kwargs)

    method.__name__ = name
    return method


for _name in methods.NAMES:  # arithmetic on a Parameter is arithmetic on its Value or array
    setattr(Parameter, _name, _forward(_name))


class Module:
    """Base of models and layers: Parameters and Modules in `__init__`, the rest in `__call__`.

    What is an attribute twice within one model is shared and has the name it got first.
    """

    _owner: Module | None = None
    _label: str = ""

    def __setattr__(self, name: str, value: Any) -> None:
        object.__setattr__(self, name, value)
        if isinstance(value, Parameter):
            if not self._shares(value.owner, value.label, value):
                value.owner, value.label = self, name
        elif isinstance(value, Module) and not self._shares(value._owner, value._label, value):
            value.__dict__["_owner"], value.__dict__["_label"] = self, name

    def _shares(self, owner: Module | None, label: str, value: Any) -> bool:
        """Is the value already an attribute elsewhere in the model this module is part of?"""
        held = owner is not None and owner.__dict__.get(label) is value
        return held and owner._root() is self._root()  # type: ignore[union-attr]

    def _root(self) -> Module:
        return self if self._owner is None else self._owner._root()

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        raise NotImplementedError(f"{type(self).__name__} has no __call__")

    @property
    def path(self) -> str:
        """Dotted path from the outermost module, '' for itself."""
        if self._owner is None:
            return self._label
        above = self._owner.path
        return f"{above}.{self._label}" if above else self._label

    def named(self, name: str) -> Self:
        """Prefix of all parameter names, for Programs that hold several models."""
        if self._owner is not None:
            raise ArgumentError(
                f"this module is '{self.path}' of another, and is named by that", got=repr(name)
            )
        self.__dict__["_label"] = name
        return self

    def children(self) -> Iterator[tuple[str, Module]]:
        for k, v in self.__dict__.items():
            if isinstance(v, Module) and k != "_owner":
                yield k, v

    def parameters(self) -> dict[str, Parameter]:
        """Name -> Parameter, of this module and all below it."""
        out = {v.name: v for v in self.__dict__.values() if isinstance(v, Parameter)}
        for _, child in self.children():
            out.update(child.parameters())
        return out

    def state(self) -> dict[str, np.ndarray]:
        """The eager mode's numbers by name."""
        return {n: p.numbers().copy() for n, p in self.parameters().items()}

    def load(self, values: Mapping[str, Any]) -> Self:
        """Give the eager mode numbers by name; parameters not named keep theirs.

        Raises MissingError for a name that is no parameter, ShapeError; nothing is loaded then.
        """
        mine = self.parameters()
        for n, a in values.items():
            if n not in mine:
                raise MissingError(f"the module has no parameter '{n}'", hint=nearest(n, mine))
            if np.shape(a) != mine[n].shape:
                raise ShapeError(
                    f"parameter '{n}' has another shape",
                    expected=str(mine[n].shape),
                    got=str(np.shape(a)),
                )
        for n, a in values.items():
            mine[n].array = np.array(a, dtypes.to_numpy(mine[n].dtype))
        return self

    def __repr__(self) -> str:
        inner = [f"  {k}: {v!r}".replace("\n", "\n  ") for k, v in self.children()]
        own = [
            f"  {v.label}: {v.dtype}{list(v.shape)}"
            for v in self.__dict__.values()
            if isinstance(v, Parameter)
        ]
        lines = own + inner
        name = type(self).__name__
        return "\n".join([f"{name}(", *lines, ")"]) if lines else f"{name}()"


class Sequential(Module):
    """Modules or functions, one after another: the output of each is the input of the next."""

    def __init__(self, *layers: Any) -> None:
        self._layers = list(layers)
        for i, layer in enumerate(layers):
            if not callable(layer):
                raise ArgumentError(f"layer {i} of Sequential cannot be called", got=repr(layer))
            if isinstance(layer, Module):
                setattr(self, str(i), layer)

    def __call__(self, x: Any) -> Any:
        for layer in self._layers:
            x = layer(x)
        return x

    def __len__(self) -> int:
        return len(self._layers)

    def __getitem__(self, i: int) -> Any:
        return self._layers[i]


class ModuleList(Module):
    """A list of modules that are named 0, 1, 2 ..."""

    def __init__(self, modules: Any = ()) -> None:
        self._layers: list[Module] = []
        for m in modules:
            self.append(m)

    def append(self, module: Module) -> None:
        if not isinstance(module, Module):
            raise ArgumentError("a ModuleList holds modules", got=repr(module))
        setattr(self, str(len(self._layers)), module)
        self._layers.append(module)

    def __iter__(self) -> Iterator[Module]:
        return iter(self._layers)

    def __len__(self) -> int:
        return len(self._layers)

    def __getitem__(self, i: int) -> Module:
        return self._layers[i]


def emitting() -> bool:
    """Is a Program being built (training form), or do arrays compute at once (test form)?"""
    return current() is not None


def update(parameter: Parameter, value: Value) -> None:
    """Commit a new value of non-trained state, such as a running mean, when the step ends."""
    building().update(parameter.name, value)


def pending(parameter: Parameter) -> Value | None:
    """The new value that the Program being built has for a parameter so far."""
    return building().root.program.updates.get(parameter.name)
