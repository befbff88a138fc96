"""Judges noria by the test suites inside the package onnx.

    python -m noria.testing.onnx_suite [--only PATTERN] [--json FILE] [-j 2]

Node tests (each a model of one operator, or its expansion into others), the small model files and
the light networks run through the converter and an Executor, as a user's model would. Results are
compared as onnx's own runner compares them: shape, dtype, and numbers within the case's tolerance.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import re
import sys
import time
import warnings
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from noria.convert.onnx.backend import Backend
from noria.core.errors import ExtraMissing, NoriaError
from noria.testing.suite import SuiteResult, write_results

FLOATS = "ONNX node tests, float"
INTEGERS = "ONNX node tests, integer and bool"
EXPANDED = "ONNX node tests, expanded"
SEQUENCES = "ONNX node tests, sequence and optional"
HALVES = "ONNX node tests, bfloat16"
ML = "ONNX node tests, ai.onnx.ml"
TRAINING = "ONNX node tests, training"
SMALL = "ONNX node tests, fp8, fp4, int4, int2"
STRINGS = "ONNX node tests, strings"
FILES = {
    "simple": "ONNX model files, simple",
    "pytorch-converted": "ONNX model files, from PyTorch",
    "pytorch-operator": "ONNX model files, operators of PyTorch",
}
LIGHT = "ONNX light networks"
SUITES: tuple[str, ...] = (
    FLOATS,
    INTEGERS,
    EXPANDED,
    SEQUENCES,
    HALVES,
    ML,
    TRAINING,
    SMALL,
    STRINGS,
)
SUITES += (*FILES.values(), LIGHT)

RANDOM = re.compile(r"test_(bernoulli|training_dropout(?!_zero))")
"""Their expected numbers are what NumPy's generator drew; noria's numbers are its own."""

_BFLOAT16, _STRING = 16, 8
_SMALL = {*range(17, 29)}
_FLOATS = {1, 10, 11}


@dataclass(frozen=True, slots=True)
class Sample:
    """One case: where it belongs, its model, and how to get its inputs and outputs."""

    suite: str
    name: str
    case: Any


def samples(only: str | None = None) -> list[Sample]:
    """All cases, or those whose name holds the pattern. Raises ExtraMissing without onnx."""
    try:
        from onnx.backend.test.loader import load_model_tests
    except ImportError:
        raise ExtraMissing("onnx", "dev", "judging by the suite of onnx") from None
    with warnings.catch_warnings():  # of the package's own generators
        warnings.simplefilter("ignore")
        found = [Sample(suite_of(c), c.name, c) for c in load_model_tests(kind="node")]
    for kind, suite in FILES.items():
        found += [Sample(suite, c.name, c) for c in load_model_tests(kind=kind)]
    light = [c for c in load_model_tests(kind="real") if "/light/" in (c.url or "")]
    found += [Sample(LIGHT, c.name, c) for c in light]
    found.sort(key=lambda s: (SUITES.index(s.suite), s.name))
    return [s for s in found if only is None or re.search(only, s.name)]


def suite_of(case: Any) -> str:
    """The suite of a node test, told by its name and by the types of its inputs and outputs."""
    graph = case.model.graph
    kinds = {kind for v in (*graph.input, *graph.output) for kind in _types(v.type)}
    kinds |= {a.t.data_type for n in graph.node for a in n.attribute if a.HasField("t")}
    if _STRING in kinds:
        return STRINGS
    if "sequence" in kinds or "optional" in kinds:
        return SEQUENCES
    if "_expanded" in case.name:
        return EXPANDED
    if kinds & _SMALL:
        return SMALL
    if _BFLOAT16 in kinds:
        return HALVES
    domains = {n.domain for n in graph.node}
    if "ai.onnx.ml" in domains:
        return ML
    if any("training" in d for d in domains):
        return TRAINING
    return FLOATS if kinds & _FLOATS else INTEGERS


def _types(kind: Any) -> Iterator[Any]:
    """Element types, and 'sequence' or 'optional' where there is one."""
    which = kind.WhichOneof("value")
    if which in ("sequence_type", "optional_type"):
        yield which.removesuffix("_type")
        yield from _types(getattr(kind, which).elem_type)
    elif which == "tensor_type":
        yield kind.tensor_type.elem_type


def judge(sample: Sample, threads: int = 1) -> str | None:
    """None if the case passes, else the reason in one line."""
    try:
        for model, inputs, expected in _runs(sample):
            got = Backend.prepare(model, threads=threads).run(inputs)
            _compare(expected, got, sample.case.rtol, sample.case.atol)
    except (AssertionError, NoriaError) as error:
        random = "random: the expected numbers are a draw of NumPy's generator; "
        return (random if RANDOM.match(sample.name) else "") + _line(error)
    except Exception as error:  # whatever it is, it is this case that failed
        return f"{type(error).__name__}: {_line(error)}"
    return None


def _line(error: BaseException) -> str:
    return re.sub(r"\s+", " ", str(error)).strip()[:300] or type(error).__name__


def _runs(sample: Sample) -> Iterator[tuple[Any, list[Any], list[Any]]]:
    """(model, inputs, expected outputs) of each data set of a case."""
    case = sample.case
    if sample.suite == LIGHT:
        yield _light(case)
    elif case.model_dir is None:
        for inputs, outputs in case.data_sets:
            yield case.model, [_array(a) for a in inputs], [_array(a) for a in outputs]
    else:
        yield from _files(Path(case.model_dir))


def _array(data: Any) -> Any:
    from onnx import TensorProto, numpy_helper

    return numpy_helper.to_array(data) if isinstance(data, TensorProto) else data


def _files(folder: Path) -> Iterator[tuple[Any, list[Any], list[Any]]]:
    import onnx

    path = folder / "model.onnx"
    graph = onnx.load(path).graph
    for data in sorted(folder.glob("test_data_set*")):
        inputs = _protos(data, "input", [v.type for v in graph.input])
        outputs = _protos(data, "output", [v.type for v in graph.output])
        yield path, inputs, outputs


def _protos(folder: Path, kind: str, types: Sequence[Any]) -> list[Any]:
    from onnx import OptionalProto, SequenceProto, TensorProto, numpy_helper

    found: list[Any] = []
    for i in range(len(list(folder.glob(f"{kind}_*.pb")))):
        data = (folder / f"{kind}_{i}.pb").read_bytes()
        which = types[i].WhichOneof("value")
        if which == "sequence_type":
            found.append(numpy_helper.to_list(SequenceProto.FromString(data)))
        elif which == "optional_type":
            found.append(numpy_helper.to_optional(OptionalProto.FromString(data)))
        else:
            found.append(numpy_helper.to_array(TensorProto.FromString(data)))
    return found


def _light(case: Any) -> tuple[Any, list[Any], list[Any]]:
    """A network whose weights are constants: its input counts from 0 to 1, its output is there."""
    import onnx
    import onnx.backend.test

    folder = Path(onnx.__file__).parent.parent
    path = folder / case.url
    model = onnx.load(path)
    weights = {t.name for t in model.graph.initializer}
    inputs = []
    for value in model.graph.input:
        if value.name not in weights:
            shape = [d.dim_value or 1 for d in value.type.tensor_type.shape.dim]
            count = int(np.prod(shape))
            inputs.append((np.arange(count).reshape(shape) / count).astype(np.float32))
    expected = path.with_name(f"{path.stem}_output_0.pb").read_bytes()
    return path, inputs, [onnx.numpy_helper.to_array(onnx.TensorProto.FromString(expected))]


# ---- comparing ---------------------------------------------------------------------------------


def _compare(expected: Sequence[Any], got: Sequence[Any], rtol: float, atol: float) -> None:
    """Raises AssertionError where results differ from what is expected."""
    assert len(got) == len(expected), f"{len(got)} outputs instead of {len(expected)}"
    for i, (want, have) in enumerate(zip(expected, got, strict=True)):
        if isinstance(want, (list, tuple)):
            assert isinstance(have, (list, tuple)), f"output {i} is no sequence"
            _compare(want, have, rtol, atol)
        elif want is None:
            assert have is None, f"output {i} is something instead of nothing"
        else:
            _compare_arrays(np.asarray(want), have, rtol, atol, f"output {i}")


def _compare_arrays(want: np.ndarray, have: Any, rtol: float, atol: float, what: str) -> None:
    assert isinstance(have, np.ndarray), f"{what} is no tensor but {type(have).__name__}"
    assert have.shape == want.shape, f"{what} has shape {have.shape} instead of {want.shape}"
    if want.dtype.kind in "OUS":
        assert np.array_equal(have, want), f"{what} has other strings"
        return
    assert have.dtype == want.dtype, f"{what} is {have.dtype} instead of {want.dtype}"
    if want.dtype.kind == "V" or want.dtype.name not in np.sctypeDict:  # NumPy knows no promotion
        rtol = max(rtol, 2**-6) if want.dtype.name == "bfloat16" else rtol
        have, want = have.astype(np.float32), want.astype(np.float32)
    if not np.allclose(have, want, rtol, atol, equal_nan=True):
        raise AssertionError(f"{what} differs: {_difference(have, want)}")


def _difference(have: np.ndarray, want: np.ndarray) -> str:
    apart = np.flatnonzero(~np.isclose(have, want, 1e-3, 1e-7, equal_nan=True))
    if not apart.size:
        apart = np.flatnonzero(have != want)
    first = [f"{have.reshape(-1)[i]} for {want.reshape(-1)[i]}" for i in apart[:3]]
    return f"{apart.size} of {want.size} elements, as " + ", ".join(first)


# ---- running -----------------------------------------------------------------------------------


def run(only: str | None = None, jobs: int = 2) -> dict[str, SuiteResult]:
    """Results by suite, of all cases or of those whose name holds the pattern.

    jobs: processes, each with one thread.
    """
    results: dict[str, SuiteResult] = {}
    if jobs <= 1:
        judged = _share(only, 0, 1)
    else:
        context = multiprocessing.get_context("spawn")  # the thread pool does not survive a fork
        with ProcessPoolExecutor(jobs, context) as pool:
            shares = [pool.submit(_share, only, k, jobs) for k in range(jobs)]
            judged = [line for share in shares for line in share.result()]
    for suite, name, reason in sorted(judged):
        results.setdefault(suite, SuiteResult()).add(name, reason or None)
    return {suite: results[suite] for suite in SUITES if suite in results}


def _share(only: str | None, first: int, step: int) -> list[tuple[str, str, str]]:
    """(suite, name, reason or '') of every `step`-th case."""
    return [(s.suite, s.name, judge(s) or "") for s in samples(only)[first::step]]


def table(results: dict[str, SuiteResult]) -> str:
    """One line a suite."""
    width = max((len(n) for n in results), default=0)
    return "\n".join(
        f"{name:<{width}}  {r.passed:>5} of {r.total:>5}  {100 * r.share:6.2f} %"
        for name, r in results.items()
    )


def main(argv: Sequence[str] | None = None) -> int:
    """The command; its exit status is 0 even where cases fail: it reports, limits are elsewhere."""
    parser = argparse.ArgumentParser(prog="python -m noria.testing.onnx_suite")
    parser.add_argument("--only", metavar="PATTERN", help="cases whose name holds it")
    parser.add_argument("--json", metavar="FILE", help="write the results there")
    parser.add_argument("-j", "--jobs", type=int, default=min(2, os.cpu_count() or 1))
    args = parser.parse_args(argv)
    start = time.monotonic()
    results = run(args.only, args.jobs)
    for suite, result in results.items():
        for failure in result.failed:
            print(f"{suite}: {failure['name']}: {failure['reason']}")
    print(table(results))
    print(f"{time.monotonic() - start:.0f} s")
    if args.json:
        write_results(args.json, results)
    return 0


if __name__ == "__main__":
    sys.exit(main())
