"""The judge of onnx's suites says what passes, and why the rest does not."""

from types import SimpleNamespace

import numpy as np
import pytest

from noria.testing import onnx_suite
from noria.testing.onnx_suite import Sample, judge, run, samples, table

onnx = pytest.importorskip("onnx")


def test_cases_are_counted_by_suite_and_shown() -> None:
    results = run("^test_add$|^test_matmul_2d$|^test_add_uint8$", jobs=1)
    assert {n: (r.passed, r.total) for n, r in results.items()} == {
        onnx_suite.FLOATS: (2, 2),
        onnx_suite.INTEGERS: (1, 1),
    }
    assert "2 of     2  100.00 %" in table(results)


def test_a_wrong_result_is_a_failure_with_its_reason() -> None:
    (sample,) = samples("^test_add$")
    inputs, outputs = sample.case.data_sets[0]
    for wrong, reason in [
        (outputs[0] + 1, "differs: 60 of 60"),
        (outputs[0][:1], "shape"),
        (outputs[0].astype("f8"), "float32 instead of float64"),
        ([outputs[0]], "no sequence"),
    ]:
        case = SimpleNamespace(
            model=sample.case.model,
            data_sets=[(inputs, [wrong])],
            model_dir=None,
            rtol=1e-3,
            atol=1e-7,
        )
        assert reason in (judge(Sample(sample.suite, "wrong", case)) or "passed")


def test_an_operator_nobody_converts_is_a_failure() -> None:
    (sample,) = samples("^test_add$")
    model = onnx.ModelProto.FromString(sample.case.model.SerializeToString())
    model.graph.node[0].op_type = "Addd"
    case = SimpleNamespace(model=model, data_sets=[([], [np.ones(1)])], model_dir=None)
    assert "not supported" in (judge(Sample(sample.suite, "wrong", case)) or "passed")
