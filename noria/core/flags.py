"""Every switch of noria, each an environment variable and a context manager.

    if flags.debug >= 2: ...
    with flags.set(debug=2, kernels="reference"): ...

`set` wins over the environment, which wins over the default. The environment is read at each
access, so a variable set by a test or notebook counts at once. A `set` holds for its thread or task
only: threads started inside it see the environment again.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, ClassVar, Generic, NamedTuple, NoReturn, TypeVar, overload

from noria.core.errors import ArgumentError, MissingError, nearest

T = TypeVar("T")

_overrides: ContextVar[dict[str, Any]] = ContextVar("noria_flags", default={})  # noqa: B039


@dataclass(frozen=True)
class Kind(Generic[T]):
    """What a flag accepts. `read` turns text or a Python value into T, or raises ValueError."""

    name: str
    expected: str
    read: Callable[[Any], T]


@dataclass(frozen=True)
class Flag(Generic[T]):
    """One switch: `flags.<name>` reads it.

    env:     the environment variable
    kind:    what values it takes
    default: its value when nobody says otherwise
    doc:     one sentence for the reference and the command line
    binding: what a kernel is for given sizes depends on it
    """

    env: str
    kind: Kind[T]
    default: T
    doc: str
    binding: bool = False

    def __set_name__(self, owner: type, name: str) -> None:
        object.__setattr__(self, "name", name)
        object.__setattr__(self, "_standing", None if self.kind is PATH else self._read_default())

    def _read_default(self) -> T:
        return self.kind.read(self.default)

    @overload
    def __get__(self, obj: None, owner: type) -> Flag[T]: ...
    @overload
    def __get__(self, obj: object, owner: type) -> T: ...
    def __get__(self, obj: object | None, owner: type) -> Flag[T] | T:
        return self if obj is None else self.current()[0]

    def __set__(self, obj: object, value: T) -> NoReturn:
        raise ArgumentError(
            f"the flag {self.name} cannot be assigned",
            hint=f"with flags.set({self.name}={value!r}): ..., or {self.env} in the environment",
        )

    name = ""  # the attribute's own, filled in by __set_name__
    _standing: ClassVar[Any] = None  # the default as it is read; of a path it depends on HOME

    def current(self) -> tuple[T, str]:
        """(value, who said so: "set", "environment" or "default")."""
        overrides = _overrides.get()
        if self.name in overrides:
            return overrides[self.name], "set"
        text = os.environ.get(self.env, "")
        if text and not text.isspace():
            return self.checked(text, f"environment variable {self.env}"), "environment"
        return (self._read_default() if self._standing is None else self._standing), "default"

    def checked(self, value: Any, where: str) -> T:
        """`value` as this flag's type; ArgumentError naming `where` if it makes no sense."""
        try:
            return self.kind.read(value)
        except ValueError:
            raise ArgumentError(
                f"bad value for the flag {self.name}",
                where=where,
                expected=self.kind.expected,
                got=repr(value),
            ) from None


class Row(NamedTuple):
    """One line of `flags.describe()`."""

    name: str
    env: str
    type: str
    default: str
    value: str
    origin: str
    doc: str


# ---- what a flag may be -------------------------------------------------------------------------

_WORDS = {"1": True, "true": True, "yes": True, "on": True}
_WORDS |= {"0": False, "false": False, "no": False, "off": False}


def _read_bool(value: Any) -> bool:
    word = str(int(value)) if isinstance(value, (bool, int)) else str(value).strip().lower()
    if word not in _WORDS:
        raise ValueError
    return _WORDS[word]


def _count(limit: int) -> Kind[int]:
    def read(value: Any) -> int:
        if isinstance(value, bool) or not isinstance(value, (int, str)):
            raise ValueError
        number = int(value)
        if not 0 <= number <= limit:
            raise ValueError
        return number

    return Kind("int", f"a whole number from 0 to {limit}", read)


def _choice(*choices: str) -> Kind[str]:
    def read(value: Any) -> str:
        word = str(value).strip().lower()
        if word not in choices:
            raise ValueError
        return word

    return Kind("choice", " or ".join(choices), read)


def _read_families(value: Any) -> str:
    """Comma list without blanks and repeats: ' OneDNN, numba ' -> 'onednn,numba'."""
    names = [name.strip().lower() for name in str(value).split(",")]
    if not all(name.isidentifier() for name in names) or ("all" in names and len(names) > 1):
        raise ValueError
    return ",".join(dict.fromkeys(names))


def _read_path(value: Any) -> str:
    if not isinstance(value, (str, os.PathLike)):
        raise ValueError
    text = os.fspath(value)
    if not isinstance(text, str) or "\0" in text:
        raise ValueError
    return os.path.expanduser(text)


def _read_compilers(value: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, (int, str)):
        raise ValueError
    word = str(value).strip().lower()
    return word if word == "auto" else str(_count(64).read(word))


def _read_finite(value: Any) -> str:
    word = str(int(value)) if isinstance(value, (bool, int)) else str(value).strip().lower()
    if word in ("nan", "all", "off"):
        return word
    return "all" if _read_bool(word) else "off"


BOOL = Kind("bool", "1 or 0 (also true/false, yes/no, on/off)", _read_bool)
PATH = Kind("path", "a path", _read_path)
FINITE = Kind("choice", "off (0), nan, or all (1)", _read_finite)
COMPILERS = Kind("count", "auto, or a whole number from 0 to 64", _read_compilers)
FAMILIES = Kind("families", "all, reference, or a list such as onednn,numba", _read_families)


class Flags:
    """All switches. There is one instance, `flags`."""

    __slots__ = ()  # a misspelt assignment is an error, not a new attribute

    debug = Flag(
        "NORIA_DEBUG",
        _count(6),
        0,
        "1 plan and memory summary; 2 each step with time, bytes, GB/s; 3 passes that changed the "
        "Program; 4 its text after each; 5 rules that nearly matched; 6 kernels refused.",
    )
    validate = Flag(
        "NORIA_VALIDATE",
        BOOL,
        False,
        "Run every fast kernel beside the reference and stop at the first difference.",
    )
    kernels = Flag(
        "NORIA_KERNELS",
        FAMILIES,
        "all",
        "Kernel families that may be chosen; the reference always is the last resort.",
        binding=True,
    )
    threads = Flag(
        "NORIA_THREADS",
        _count(4096),
        0,
        "Threads of the pool; 0: one per CPU this process has.",
    )
    cpu = Flag(
        "NORIA_CPU",
        _choice("native", "avx512_bf16", "avx512", "avx2"),
        "native",
        "The most instructions that compiled kernels and oneDNN use on x86-64: those of this CPU "
        "(native), or of them only what older ones have too. Read once, at the first use.",
    )
    cache = Flag("NORIA_CACHE", PATH, "~/.cache/noria", "Folder for generated kernels.")
    compilers = Flag(
        "NORIA_COMPILERS",
        COMPILERS,
        "auto",
        "Processes that compile kernels the cache lacks, where many are missing; auto: one per "
        "CPU and half a second of work; 0: none, this one compiles.",
    )
    onednn = Flag(
        "NORIA_ONEDNN",
        PATH,
        "",
        "The libdnnl shared library to load; empty: the installed one.",
    )
    fpmath = Flag(
        "NORIA_FPMATH",
        _choice("strict", "bf16", "tf32", "any"),
        "strict",
        "What float32 inputs of oneDNN's products may be rounded to inside: strict (nothing), "
        "tf32, bf16, or any; a CPU without such units keeps float32.",
        binding=True,
    )
    wavefront = Flag(
        "NORIA_WAVEFRONT",
        BOOL,
        False,
        "Stacked recurrent layers side by side, each on a thread: for machines shared with others.",
        binding=True,
    )
    branches = Flag(
        "NORIA_BRANCHES",
        BOOL,
        True,
        "Small operators that do not need each other side by side, each on a thread.",
        binding=True,
    )
    winograd = Flag(
        "NORIA_WINOGRAD",
        BOOL,
        True,
        "3x3 convolutions of float32 with a quarter of the multiplications, at an error of 1e-6 of "
        "the result's standard deviation, five times that of direct sums; 0: directly.",
        binding=True,
    )
    strassen = Flag(
        "NORIA_STRASSEN",
        _choice("auto", "0", "1"),
        "auto",
        "Products of float32 with a weight that never changes by one step of Strassen's algorithm, "
        "7/8 of the multiplications: where that is faster (auto), nowhere (0), wherever the sizes "
        "allow it (1). Such a weight takes 7/4 of its memory.",
        binding=True,
    )
    precision = Flag(
        "NORIA_PRECISION",
        _choice("float32", "bf16"),
        "float32",
        "What Programs of float32 are computed in: float32, or bf16 where ops/precision.py allows "
        "it, with float32 state.",
    )
    check_memory = Flag(
        "NORIA_CHECK_MEMORY", BOOL, False, "Prove at every bind that no two live buffers overlap."
    )

    check_finite = Flag(
        "NORIA_CHECK_FINITE",
        FINITE,
        "off",
        "Stop at the first operator that gives NaN (nan), or NaN or infinity (all or 1), and leave "
        "the state as it was.",
        binding=True,
    )

    def allows(self, family: str) -> bool:
        """May kernels of this family (`onednn`, `numba`, ...) be chosen? `reference` always."""
        return family == "reference" or self.kernels == "all" or family in self.kernels.split(",")

    @contextmanager
    def set(self, **values: Any) -> Iterator[None]:
        """Flags for the duration of a `with`, in this thread or task; they nest.

        Raises MissingError for an unknown flag, ArgumentError for a bad value.
        """
        new = dict(_overrides.get())
        for name, value in values.items():
            new[name] = _find(name).checked(value, f"flags.set({name}=...)")
        token = _overrides.set(new)
        try:
            yield
        finally:
            _overrides.reset(token)

    def snapshot(self) -> dict[str, Any]:
        """The value of each flag now."""
        return {name: flag.current()[0] for name, flag in _declared().items()}

    def for_binding(self) -> tuple[Any, ...]:
        """The values of those that what kernels are for given sizes depends on."""
        return tuple([flag.current()[0] for flag in _binding()])

    def describe(self) -> list[Row]:
        """A row for each flag in the order of declaration, values as text."""
        rows = []
        for flag in _declared().values():
            value, origin = flag.current()
            texts = (_shown(flag.default), _shown(value))
            rows.append(Row(flag.name, flag.env, flag.kind.name, *texts, origin, flag.doc))
        return rows

    def __getattr__(self, name: str) -> NoReturn:
        """Only reached for names that are not declared."""
        if name.startswith("__"):
            raise AttributeError(name)
        raise AttributeError(f"no flag {name!r}: {nearest(name, _declared())}")


def _declared() -> dict[str, Flag[Any]]:
    return {name: flag for name, flag in vars(Flags).items() if isinstance(flag, Flag)}


@functools.cache
def _binding() -> list[Flag[Any]]:
    return [flag for flag in _declared().values() if flag.binding]


def _find(name: str) -> Flag[Any]:
    known = _declared()
    if name not in known:
        raise MissingError(f"there is no flag {name!r}", hint=nearest(name, known))
    return known[name]


def _shown(value: Any) -> str:
    return str(int(value)) if isinstance(value, bool) else str(value)


flags = Flags()
