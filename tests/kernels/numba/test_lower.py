"""The compiler: what becomes vectors, what is refused, and that Numba stays usable beside it."""

import re

import numpy as np
import pytest

from noria.core.errors import EngineError
from noria.kernels.numba import jit, lower

REDUCTION = """
def kernel(args):
    x, out, rows, n = (
        load_int64(args, 0), load_int64(args, 1), load_int64(args, 2), load_int64(args, 3)
    )
    for r in range(rows):
        total = {start}
        for j in range(n):
            x_j = load_float32(x, r * n + j)
            total = {step}
        store_float32(out, r, total)
    return 0
"""
REDUCTIONS = {
    "sum": ("float32(0)", "total + x_j", lambda x: x.sum(1)),
    "sum of squares": ("float32(0)", "total + x_j * x_j", lambda x: (x * x).sum(1)),
    "sum in float64": ("float64(0)", "total + float64(x_j)", lambda x: x.sum(1)),
    "product": ("float32(1)", "total * (x_j + float32(1))", lambda x: (x + 1).prod(1)),
    "maximum": ("float32(-1e30)", "maximum(total, x_j)", lambda x: x.max(1)),
    "sum of exponentials": ("float32(0)", "total + exp(x_j)", lambda x: np.exp(x).sum(1)),
}


@pytest.mark.parametrize("name", REDUCTIONS)
def test_reductions_become_vector_code(name, table):
    start, step, reference = REDUCTIONS[name]
    text = REDUCTION.format(start=start, step=step)
    assert re.search(r"load <\d+ x float>", str(lower.optimise(text, "kernel", "kernel")))
    x = np.random.default_rng(0).uniform(-1, 1, (3, 77)).astype(np.float32)
    out = np.zeros(3, np.float32)
    jit.compile_source(text, "kernel")(table(x, out, 3, 77).ctypes.data)
    np.testing.assert_allclose(out, reference(x.astype(np.float64)), rtol=2e-6, atol=1e-6)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("name", ["sum", "maximum", "sum of exponentials"])
def test_reductions_keep_nan_and_infinity(name, bad, table):
    start, step, reference = REDUCTIONS[name]
    kernel = jit.compile_source(REDUCTION.format(start=start, step=step), "kernel")
    x = np.zeros((67, 67), np.float32)
    np.fill_diagonal(x, bad)
    out = np.zeros(67, np.float32)
    kernel(table(x, out, 67, 67).ctypes.data)
    np.testing.assert_allclose(out, reference(x.astype(np.float64)), rtol=1e-6)


@pytest.mark.parametrize(
    "dtype", ["bool", "bfloat16", "float16", "float32", "float64", "int8", "int32", "int64"]
)
def test_elementwise_loops_of_every_width_become_vector_code(dtype, source):
    expression = "x & y" if dtype == "bool" else "x + y"
    text = source(expression, [dtype, dtype], dtype)
    ir = str(lower.optimise(text, "kernel", "kernel"))
    assert re.search(r"load <\d+ x \w+>", ir) and re.search(r"store <\d+ x \w+>", ir)


def test_the_machine_code_uses_vector_registers(source):
    text = source("x * y", ["float32", "float32"], "float32")
    assert re.search(r"v?mulps|fmul\s+v\d+\.4s", lower.assembly(text, "kernel"))


def test_division_by_zero_takes_no_branch(elementwise):
    x, zero = np.array([1, -1, 0], np.float32), np.zeros(3, np.float32)
    np.testing.assert_array_equal(elementwise("x / y", x, zero), [np.inf, -np.inf, np.nan])


def test_float_division_is_rounded_correctly(elementwise):
    x, y = np.random.default_rng(5).standard_normal((2, 10_000)).astype(np.float32)
    np.testing.assert_array_equal(elementwise("x / y", x, y), x / y)
    invariant = elementwise("x / float32(3)", x)
    np.testing.assert_array_equal(invariant, x / np.float32(3))


def test_python_integer_and_float_remainders_hold(elementwise):
    x = np.arange(-9, 10, dtype=np.int32)
    np.testing.assert_array_equal(elementwise("x // 4", x, dtype="int32"), x // 4)
    np.testing.assert_array_equal(elementwise("x % 4", x, dtype="int32"), x % 4)
    f = x.astype(np.float32) / 3
    expected = np.mod(f, np.float32(0.75))
    np.testing.assert_allclose(elementwise("x % float32(0.75)", f), expected, atol=1e-6)


def test_control_flow_and_tuples_compile():
    text = """
def kernel(args):
    a, b, c, d = 1, 2, 3, 4
    count = 0
    while True:
        count += a
        if count % 3 == 0 and count < 7:
            continue
        if count > 8 or not b:
            break
    for i in range(d, 0, -1):
        count += i
    return 0 if count == 19 and c else 1
"""
    assert jit.compile_source(text, "kernel")(0) == 0


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("def kernel(args):\n    return nothing(args)\n", "nothing"),
        ("def kernel(args)\n    return 0\n", "expected ':'"),
        ("def other(args):\n    return 0\n", "kernel"),
        ("def kernel(a, b):\n    return 0\n", "argument"),
        ("def kernel(args):\n    return exp(args)\n", "exp"),
        ("def kernel(args):\n    return [args]\n", "list"),
        ("def kernel(args):\n    return load_float32(args)\n", "load_float32"),
        ("import numpy as np\ndef kernel(args):\n    return np.zeros(args)\n", "numpy.zeros"),
    ],
)
def test_a_wrong_kernel_is_an_engine_error_with_its_source(text, message):
    with pytest.raises(EngineError) as caught:
        jit.compile_source(text, "kernel")
    assert "cannot compile kernel 'kernel'" in str(caught.value)
    assert message in caught.value.got
    assert text.splitlines()[-1] in caught.value.where


SEPARATE = """
    import numba

    def ours():
        from noria.kernels.numba import jit
        text = "def kernel(args):\\n    return 7\\n"
        assert jit.compile_source(text, "kernel")(0) == 7

    def theirs():
        import numpy as np
        total = numba.njit(lambda x: np.exp(x).sum() + min(1, 2))
        assert total(np.zeros(3)) == 4

    {order}
"""


@pytest.mark.parametrize("order", ["ours(); theirs(); ours()", "theirs(); ours(); theirs()"])
def test_numba_works_for_the_user_beside_ours(order, cold, fresh_python):
    fresh_python(SEPARATE.format(order=order))
