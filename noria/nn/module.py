"""Modules: Python objects that own parameters. No metaclass, no hooks.

A module's attributes that are Parameters or Modules get their names from the attribute, as in
PyTorch: `model.conv1.weight` is the state "conv1.weight" of every Program the model is traced into.
Called while a Program is being built, a module emits operators. Called on NumPy arrays it computes
at once, with its own copies of the parameters (test-time behaviour), which is for debugging.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from noria.core import dtypes
from noria.core.errors import ArgumentError, MissingError, ShapeError, nearest
from noria.core.trace import scope
from noria.ir.emit import building, current
from noria.ir.opdef import lookup
from noria.ir.program import Value
from noria.nn.init import Init
from noria.ops import methods


class Parameter:
    """A state a module owns: shape, dtype, initialiser; its name comes from where it is attached.

    trainable: False for running statistics and the like.
    """

    def __init__(
        self, shape: Any, init: Init, *, dtype: Any = "float32", trainable: bool = True
    ) -> None:
        self.shape = tuple(shape) if not isinstance(shape, int) else (shape,)
        self.dtype = dtypes.as_dtype(dtype)
        self.init, self.trainable = init, trainable
        self.owner: Module | None = None
        self.label = ""
        self.array: np.ndarray | None = None  # numbers of the eager mode

    @property
    def name(self) -> str:
        """Dotted path from the outermost module."""
        path = self.owner.path if self.owner is not None else ""
        return f"{path}.{self.label}" if path else self.label

    def __repr__(self) -> str:
        return f"Parameter({self.name or '?'}: {self.dtype}{list(self.shape)})"

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
        """The eager mode's array, initialised on first use."""
        if self.array is None:
            kind, attrs = self.init
            definition = lookup(kind)
            if kind == "constant":
                self.array = np.array(attrs["value"], dtypes.to_numpy(self.dtype))
            else:
                key = [np.zeros(2, np.int64)] if definition.effect == "random" else []
                self.array = definition(*key, **attrs, shape=self.shape, dtype=self.dtype)
        return self.array


def _forward(name: str) -> Any:
    def method(self: Parameter, *args: Any, **kwargs: Any) -> Any:
        return getattr(self.__noria_value__(), name)(*args, **kwargs)

    method.__name__ = name
    return method


for _name in methods.NAMES:  # arithmetic on a Parameter is arithmetic on its Value
    setattr(Parameter, _name, _forward(_name))


class Module:
    """Base of models and layers: Parameters and Modules in `__init__`, the rest in `__call__`."""

    _owner: Module | None = None
    _label: str = ""

    def __setattr__(self, name: str, value: Any) -> None:
        if isinstance(value, Parameter):
            value.owner, value.label = self, name
        elif isinstance(value, Module) and not name.startswith("_"):
            value.__dict__["_owner"], value.__dict__["_label"] = self, name
        object.__setattr__(self, name, value)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        raise NotImplementedError(f"{type(self).__name__} has no __call__")

    @property
    def path(self) -> str:
        """Dotted path from the outermost module, '' for itself."""
        if self._owner is None:
            return self._label
        above = self._owner.path
        return f"{above}.{self._label}" if above else self._label

    def named(self, name: str) -> Module:
        """Prefix of all parameter names, for Programs that hold several models."""
        self.__dict__["_label"] = name
        return self

    def children(self) -> Iterator[tuple[str, Module]]:
        for k, v in self.__dict__.items():
            if isinstance(v, Module) and not k.startswith("_"):
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

    def load(self, values: Mapping[str, Any]) -> Module:
        """Give the eager mode numbers, e.g. those of a trained scope. Others names are errors."""
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
        return (
            f"{type(self).__name__}()"
            if not lines
            else "\n".join([f"{type(self).__name__}(", *lines, ")"])
        )


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
        for i, layer in enumerate(self._layers):
            with scope(str(i)):
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
    builder = building()
    builder.update(parameter.name, value)
