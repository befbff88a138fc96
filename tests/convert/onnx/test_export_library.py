"""Every case of every op that is written: onnxruntime computes the same."""

from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest

from noria.convert.onnx import export_library
from noria.convert.onnx.export_graph import emitter
from noria.convert.onnx.writer import to_model
from noria.core.errors import ProgramError
from noria.ir.opdef import lookup
from noria.testing.check import load_ops
from noria.testing.record import Subject
from noria.testing.table import collect_cases

load_ops()
assert export_library
CASES = defaultdict(list)
for _case in collect_cases(Path(__file__).parents[2] / "ops"):
    if emitter.find(_case.op, version=18) and not lookup(_case.op).blocks:
        CASES[_case.op].append(_case)

REFUSED = {"no keys", "no queries", "no columns"}  # ids of cases: onnxruntime reduces no nothing
# Ops of which ONNX (in version 18) has not every form.
PARTLY = {"conv_transpose2d", "fold", "grid_sample", "multiclass_nms", "resize", "unfold"}
NO_DTYPE = "NOT_IMPLEMENTED", "MLDataType", "No corresponding Numpy type", "Type Error: Type"


def _has_nan(arrays):
    return any(np.isnan(np.asarray(a, np.float64)).any() for a in arrays if a is not None)


def _asked(case):
    """Not what ONNX leaves open, and what is another op in its test form."""
    training = case.attrs.get("training", False)
    nothing = case.op in ("top_k_hits", "accuracy") and 0 in case.inputs[0].shape
    known = "bfloat16" not in str(case) and case.id not in REFUSED
    return not training and not nothing and known


@pytest.mark.parametrize("name", sorted(set(CASES) - {"dropout"}))
def test_onnxruntime_computes_the_same_as_the_op(name, in_onnxruntime):
    compared = 0
    for case in filter(_asked, CASES[name]):
        subject, arrays = Subject(case), case.arrays()
        want = subject.eager(arrays, case.sizes())
        if _has_nan(arrays) or _has_nan(want):
            continue
        recorded = subject.record(arrays)
        try:
            data = to_model(recorded.program, {}).SerializeToString()
        except ProgramError:
            assert name in PARTLY, f"{case} is not written"
            continue
        try:
            got = in_onnxruntime(data, recorded.feeds(arrays)).values()
        except Exception as error:
            if not any(text in str(error) for text in NO_DTYPE):
                raise
            continue
        for mine, theirs in zip(want, got, strict=True):
            tol = case.tol or (1e-2 if mine.dtype.itemsize < 4 else 2e-5)
            assert (theirs.dtype, theirs.shape) == (mine.dtype, mine.shape), str(case)
            np.testing.assert_allclose(theirs, mine, rtol=tol, atol=tol, err_msg=str(case))
        compared += 1
    assert compared
