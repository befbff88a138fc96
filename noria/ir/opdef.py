"""What an op is: schema, inference, reference computation, gradient. One object an op.

    @op
    def softmax(x, *, axis=-1):
        '''exp(x - max(x)) normalised along `axis`.  (Bridle, 1990)'''
        return x                                # inference: same spec as x

    @softmax.compute
    def _(xp, x, axis): ...                     # NumPy or jax.numpy

    @softmax.grad
    def _(x, out, g, axis): ...                 # emits ops

The signature is the schema: positional parameters are inputs (default None: optional; `*xs`: any
number), keyword-only parameters are attributes. Gradient rules name what they need, by the names
of inputs, outputs and attributes, `g` (or `g_<output>` where there are several; None where an
output has no gradient) and nothing else: what a rule does not name is not kept alive for it. `gs`
is the tuple of all output gradients, `op` the Operator, `wanted` tells for each input whether
anything will use its gradient, and `vjp(block, inputs, output_grads, wanted)` emits the gradients
of a nested block. A rule returns one gradient (a Value, a SparseGrad or None) per input, or a dict
by input name; a single-input op may return its gradient alone.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import numpy as np

from noria.core.dtypes import as_dtype
from noria.core.errors import ArgumentError, MissingError, ProgramError, nearest
from noria.core.shapes import Check
from noria.ir.program import Spec

EFFECTS = ("pure", "random", "ordered")
RESERVED = ("g", "gs", "op", "vjp", "wanted")  # what a gradient rule may ask for besides names

registry: dict[str, OpDef] = {}


def lookup(name: str) -> OpDef:
    """The op of that name. Raises MissingError."""
    try:
        return registry[name]
    except KeyError:
        raise MissingError(f"unknown op '{name}'", hint=nearest(name, registry)) from None


class Vocabulary:
    """Every op as an attribute, whichever family file defines it: `o.mul(g, o.exp(x))`.

    The one vocabulary of everything that emits ops (gradients, decompositions, patterns,
    replacements, modules), and the reason op families need not import each other.
    """

    def __getattr__(self, name: str) -> Any:
        return lookup(name)


vocabulary = Vocabulary()

_checks: ContextVar[list[Check] | None] = ContextVar("noria_checks", default=None)


@contextmanager
def collect_checks(into: list[Check]) -> Any:
    """Within it, shape equalities that inference could not decide are appended to `into`."""
    token = _checks.set(into)
    try:
        yield into
    finally:
        _checks.reset(token)


def note_checks(checks: Sequence[Check]) -> None:
    """Called by inference: equalities to be verified when real sizes are bound."""
    collected = _checks.get()
    if collected is not None:
        collected.extend(checks)


@dataclass(frozen=True, slots=True)
class Input:
    name: str
    optional: bool = False
    variadic: bool = False


class OpDef:
    """An op. Calling it emits an Operator when given Values, computes when given arrays.

    name:       as written in Programs
    inputs:     schema of inputs, in order
    attrs:      attribute name -> default (`inspect.Parameter.empty`: required)
    outputs:    names of outputs; an op may return fewer (see its docstring)
    effect:     'pure', 'random' (has a key input), or 'ordered' (I/O, collectives)
    views:      output index -> input index: the output may share the input's memory, unchanged
    overwrites: (output index, input index) pairs: the output may take the input's memory
    promote:    inputs are cast to their common dtype before anything else sees them: True for
                all of them, or the indices of those concerned
    blocks:     names of nested blocks (control flow)
    """

    def __init__(
        self,
        fn: Callable[..., Any],
        *,
        name: str | None = None,
        outputs: Sequence[str] = ("out",),
        effect: str = "pure",
        views: Mapping[int, int] | None = None,
        overwrites: Sequence[tuple[int, int]] = (),
        promote: bool | Sequence[int] = False,
        blocks: Sequence[str] = (),
    ) -> None:
        if effect not in EFFECTS:
            raise ArgumentError(f"unknown effect {effect!r}", expected=", ".join(EFFECTS))
        self.name = name or fn.__name__
        self.infer_fn = fn
        self.outputs = tuple(outputs)
        self.effect = effect
        self.views = dict(views or {})
        self.overwrites = tuple(overwrites)
        self.promote = promote if isinstance(promote, bool) else tuple(promote)
        self.blocks = tuple(blocks)
        self.inputs, self.attrs = _schema(fn, self.blocks)
        self.names = tuple(i.name for i in self.inputs)
        self.variadic = bool(self.inputs) and self.inputs[-1].variadic
        self.compute_fn: Callable[..., Any] | None = None
        self.grad_fn: Callable[..., Any] | None = None
        self.grad_params: tuple[str, ...] = ()
        self.decompose_fn: Callable[..., Any] | None = None
        self.shortcut_fn: Callable[..., Any] | None = None
        self.for_test_fn: Callable[..., Any] | None = None
        self.work_fn: Callable[..., Any] | None = None
        self.work_params: tuple[str, ...] = ()
        self.__doc__ = inspect.getdoc(fn)
        self.__name__ = self.name
        self.__wrapped__ = fn
        self.__signature__ = inspect.signature(fn)

    def __repr__(self) -> str:
        return f"<op {self.name}{self.__signature__}>"

    def __call__(self, *args: Any, **attrs: Any) -> Any:
        return _dispatch(self, args, attrs)

    # ---- registration of the parts -------------------------------------------------------------

    def compute(self, fn: Callable[..., Any]) -> Callable[..., Any]:
        """Reference computation: `fn(xp, *inputs, **attrs)`, written for numpy and jax.numpy."""
        self.compute_fn = fn
        return fn

    def grad(self, fn: Callable[..., Any]) -> Callable[..., Any]:
        """Gradient rule: parameters by name; returns one gradient (or None) per input."""
        given = [*self.names, *self.attrs]
        reserved = {*self.outputs, *RESERVED, *(f"g_{o}" for o in self.outputs)}
        for name in given:
            if name in reserved:
                raise ProgramError(
                    f"op '{self.name}' has an input or attribute called '{name}'",
                    hint=f"its gradient rule takes '{name}' for something else: rename it",
                )
        self.grad_params = tuple(inspect.signature(fn).parameters)
        known = {*self.names, *self.attrs, *self.outputs, *self.blocks, *RESERVED}
        known |= {f"g_{o}" for o in self.outputs}
        for p in self.grad_params:
            if p not in known:
                raise ProgramError(
                    f"the gradient rule of '{self.name}' asks for '{p}'", hint=nearest(p, known)
                )
        self.grad_fn = fn
        return fn

    def decompose(self, fn: Callable[..., Any]) -> Callable[..., Any]:
        """The same op in simpler ops: called as the op itself is."""
        self.decompose_fn = fn
        return fn

    def shortcut(self, fn: Callable[..., Any]) -> Callable[..., Any]:
        """What is returned instead of emitting: `fn(*inputs, **attrs)`, None to emit after all."""
        self.shortcut_fn = fn
        return fn

    def for_test(self, fn: Callable[..., Any]) -> Callable[..., Any]:
        """What becomes of the op at test time: `fn(*inputs, **attrs)` emits the replacement."""
        self.for_test_fn = fn
        return fn

    def work(self, fn: Callable[..., Any]) -> Callable[..., Any]:
        """What the op costs: parameters by name, of inputs, outputs and attributes.

        Operands come with their real `shape`, `size` and `nbytes`. Returns arithmetic operations,
        or a pair of them and the bytes touched, where these are not all the operands' bytes.
        """
        self.work_params = tuple(inspect.signature(fn).parameters)
        known = {*self.names, *self.attrs, *self.outputs}
        for p in self.work_params:
            if p not in known:
                raise ProgramError(
                    f"the work of '{self.name}' asks for '{p}'", hint=nearest(p, known)
                )
        self.work_fn = fn
        return fn

    # ---- use -----------------------------------------------------------------------------------

    def bind_attrs(self, attrs: Mapping[str, Any]) -> dict[str, Any]:
        """All attributes, defaults filled in, as plain data: lists become tuples, NumPy scalars
        Python ones, dtypes their names. Raises ArgumentError for unknown or missing ones."""
        for k in attrs:
            if k not in self.attrs:
                raise ArgumentError(
                    f"{self.name} has no attribute '{k}'", hint=nearest(k, self.attrs)
                )
        out = {}
        for k, default in self.attrs.items():
            value = attrs.get(k, default)
            if value is inspect.Parameter.empty:
                raise ArgumentError(f"{self.name} needs the attribute '{k}'")
            out[k] = _plain(value)
        return out

    def infer(
        self,
        inputs: Sequence[Spec | None],
        attrs: Mapping[str, Any],
        blocks: Mapping[str, Any] | None = None,
    ) -> tuple[Spec, ...]:
        """Specs of the outputs. Raises ShapeError, DTypeError or ArgumentError."""
        got = self.infer_fn(*inputs, **attrs, **(blocks or {}))
        outs = tuple(got) if isinstance(got, (tuple, list)) else (got,)
        return tuple(s if type(s) is Spec else Spec(s.shape, s.dtype) for s in outs)

    def run(
        self,
        xp: Any,
        inputs: Sequence[Any],
        attrs: Mapping[str, Any],
        blocks: Mapping[str, Any] | None = None,
    ) -> tuple[Any, ...]:
        """The reference computation, on arrays of module `xp` (numpy or jax.numpy)."""
        if self.compute_fn is None:
            raise ProgramError(f"op '{self.name}' has no compute function")
        got = self.compute_fn(xp, *inputs, **attrs, **(blocks or {}))
        return tuple(got) if isinstance(got, (tuple, list)) else (got,)

    def input_names(self, count: int) -> list[str]:
        """A display name for each of `count` actual inputs."""
        fixed = [i.name for i in self.inputs if not i.variadic]
        if self.variadic:
            last = self.inputs[-1].name
            fixed += [f"{last}[{i}]" for i in range(count - len(fixed))]
        return fixed[:count]


def _plain(value: Any) -> Any:
    """An attribute as plain data: lists become tuples, NumPy numbers and dtypes Python's."""
    if isinstance(value, (list, tuple)):
        return tuple(map(_plain, value))
    if isinstance(value, np.generic):
        return value.item()
    return as_dtype(value) if isinstance(value, (type, np.dtype)) else value


def _schema(
    fn: Callable[..., Any], blocks: tuple[str, ...]
) -> tuple[tuple[Input, ...], dict[str, Any]]:
    inputs, attrs = [], {}
    for p in inspect.signature(fn).parameters.values():
        if p.kind is p.VAR_POSITIONAL:
            inputs.append(Input(p.name, variadic=True))
        elif p.kind is p.KEYWORD_ONLY:
            if p.name not in blocks:
                attrs[p.name] = p.default
        elif p.kind is p.VAR_KEYWORD:
            raise ProgramError(f"op '{fn.__name__}': attributes must be named, not **{p.name}")
        else:
            inputs.append(Input(p.name, optional=p.default is None))
    return tuple(inputs), attrs


def op(fn: Callable[..., Any] | None = None, **options: Any) -> Any:
    """Declare an op; see the module's docstring and `OpDef` for the options."""
    if fn is None:
        return lambda f: op(f, **options)
    definition = OpDef(fn, **options)
    if definition.name in registry:
        raise ProgramError(f"op '{definition.name}' is already defined")
    registry[definition.name] = definition
    return definition


def _unset(definition: OpDef, args: tuple[Any, ...], attrs: dict[str, Any]) -> Any:
    raise ProgramError("ops are called through ir/call.py, which was not imported")


_dispatch: Callable[[OpDef, tuple[Any, ...], dict[str, Any]], Any] = _unset


def set_dispatch(fn: Callable[[OpDef, tuple[Any, ...], dict[str, Any]], Any]) -> None:
    """Installed once by `ir/call.py`: what calling an op does."""
    global _dispatch
    _dispatch = fn
