import numpy as np
import pytest

from noria.passes.simplify import order_of, simplify
from tests.passes.programs import apply, assert_same_numbers, program, reasons, types

ODD = np.array([0.0, -0.0, np.nan, np.inf, -np.inf, 1e-45, -3.0, 65504.0], np.float32)


def simplified(lines, feeds=None, exact=True):
    before = program(lines)
    after, report = apply(simplify, before)
    assert_same_numbers(before, after, feeds=feeds, exact=exact)
    return after, report


def arithmetic(op, number, dtype="float32", shape="[8]", swapped=False, feed=ODD):
    """The types left of `op(x, number)`, checked on odd floats."""
    operands = "c, x" if swapped else "x, c"
    lines = f"""
      input x: {dtype}[8]
      c: {dtype}{shape} = fill(shape={shape}, value={number}, dtype="{dtype}")
      r: {dtype}[8] = {op}({operands})
      exit: {dtype}[8] = abs(r)
      output y = r
      output z = exit
    """
    return types(simplified(lines, {"x": feed} if dtype == "float32" else None)[0])


@pytest.mark.parametrize(
    ("op", "number"),
    [("mul", "1.0"), ("div", "1.0"), ("sub", "0.0"), ("add", "-0.0"), ("pow", "1.0")],
)
def test_arithmetic_that_does_nothing_goes(op, number):
    assert arithmetic(op, number) == ["abs"]
    assert arithmetic(op, number, shape="[]") == ["abs"]


def test_operands_of_commutative_ops_may_be_swapped_and_others_not():
    assert arithmetic("mul", "1.0", swapped=True) == ["abs"]
    assert arithmetic("add", "-0.0", swapped=True) == ["abs"]
    assert arithmetic("div", "1.0", swapped=True) == ["fill", "div", "abs"]
    assert arithmetic("sub", "0.0", swapped=True) == ["fill", "sub", "abs"]


def test_adding_zero_to_floats_is_declined_because_of_minus_zero():
    after, report = simplified("""
      input x: float32[N]
      c: float32[] = fill(shape=(), value=0.0)
      add: float32[N] = add(x, c)
      output y = add
    """)
    assert types(after) == ["fill", "add"]
    assert reasons(report) == ["x + 0.0 is 0.0 where it is -0.0"]


@pytest.mark.parametrize(("op", "number"), [("add", 0), ("sub", 0), ("mul", 1), ("pow", 1)])
def test_integers_have_only_one_zero(op, number):
    assert arithmetic(op, number, "int64") == ["abs"]


def test_what_broadcasts_or_changes_the_dtype_is_not_nothing():
    _, report = simplified("""
      input x: float32[N, 1]
      input i: int64[N]
      c: float32[N, 3] = fill(shape=[N, 3], value=1.0)
      d: int64[] = fill(shape=(), value=1, dtype="int64")
      mul: float32[N, 3] = mul(x, c)
      div: float32[N] = div(i, d)
      output y = mul
      output z = div
    """)
    assert reasons(report) == ["x is broadcast", "i is int64, the result float32"]


@pytest.mark.parametrize("number", ["2.0", "-4.0", "0.125", "-0.5"])
def test_dividing_by_a_power_of_two_is_multiplying(number):
    assert arithmetic("div", number) == ["fill", "mul", "abs"]


@pytest.mark.parametrize("number", ["3.0", "0.1", "0.0", "inf", "nan", "1e38"])
def test_a_reciprocal_that_is_not_exact_is_not_taken(number):
    assert arithmetic("div", number) == ["fill", "div", "abs"]


def test_signs_are_carried_along():
    after, _ = simplified(
        """
      input x: float32[8]
      input z: float32[8]
      neg: float32[8] = neg(x)
      neg_1: float32[8] = neg(neg)
      add: float32[8] = add(neg, z)
      sub: float32[8] = sub(z, neg)
      output a = neg_1
      output b = add
      output c = sub
      output d = neg
    """,
        {"x": ODD},
    )
    assert types(after) == ["neg", "sub", "add"]
    assert after.outputs["a"] is after.inputs["x"]


def test_a_square_and_a_relu_get_their_names():
    assert arithmetic("pow", "2.0") == ["square", "abs"]
    one_zero = np.where(ODD == 0, np.float32(0), ODD)  # which of -0.0 and 0.0 is larger is open
    assert arithmetic("maximum", "0.0", swapped=True, feed=one_zero) == ["relu", "abs"]
    assert arithmetic("pow", "0.5") == ["fill", "pow", "abs"]


def test_not_not_is_nothing():
    after, _ = simplified("""
      input x: bool[N]
      a: bool[N] = logical_not(x)
      b: bool[N] = logical_not(a)
      output y = b
    """)
    assert types(after) == []


@pytest.mark.parametrize(
    ("first", "second", "third", "left"),
    [
        ("float32", "float32", "float32", []),
        ("float32", "float64", "float32", []),
        ("bfloat16", "float32", "bfloat16", []),
        ("bfloat16", "float32", "float64", ["cast"]),
        ("int32", "int64", "int32", []),
        ("bool", "float32", "bool", []),
        ("float32", "bfloat16", "float32", ["cast", "cast"]),
        ("float32", "int64", "float32", ["cast", "cast"]),
        ("int64", "float64", "int64", ["cast", "cast"]),
        ("float16", "bfloat16", "float16", ["cast", "cast"]),
    ],
)
def test_casts_there_and_back_go_if_nothing_is_lost(first, second, third, left):
    after, _ = simplified(f"""
      input x: {first}[N]
      a: {second}[N] = cast(x, dtype="{second}")
      b: {third}[N] = cast(a, dtype="{third}")
      output y = b
    """)
    assert types(after) == left


def test_a_cast_that_loses_something_is_declined_with_the_reason():
    _, report = simplified("""
      input x: float32[N]
      a: bfloat16[N] = cast(x, dtype="bfloat16")
      b: float32[N] = cast(a, dtype="float32")
      output y = b
    """)
    assert reasons(report) == ["bfloat16 does not hold every float32"]


@pytest.mark.parametrize(
    ("first", "second", "left"),
    [
        ("[N, 6] = reshape(x, shape=[N, -1])", "[N, 2, 3] = reshape(a, shape=[N, 2, 3])", []),
        ("[N, 6] = flatten(x, start=1)", "[6*N] = flatten(a)", ["reshape"]),
        ("[N, 1, 2, 3] = unsqueeze(x, axis=1)", "[N, 2, 3] = squeeze(a, axis=1)", []),
        ("[N, 1, 2, 3] = unsqueeze(x, axis=1)", "[N, 6] = reshape(a, shape=[N, 6])", ["reshape"]),
        ("[N, 2, 3] = reshape(x, shape=[N, 2, 3])", "[N, 6] = flatten(a, start=1)", ["flatten"]),
        ("[3, 2, N] = transpose(x)", "[N, 2, 3] = transpose(a, perm=(2, 1, 0))", []),
        (
            "[2, 3, N] = transpose(x, perm=(1, 2, 0))",
            "[3, N, 2] = transpose(a, perm=(1, -1, 0))",
            ["transpose"],
        ),
        ("[N, 2, 3] = transpose(x, perm=(0, 1, 2))", "[N, 6] = flatten(a, start=1)", ["flatten"]),
        (
            "[4, N, 2, 3] = broadcast_to(x, shape=[4, N, 2, 3])",
            "[5, 4, N, 2, 3] = broadcast_to(a, shape=[5, 4, N, 2, 3])",
            ["broadcast_to"],
        ),
        ("[N, 2, 3] = broadcast_to(x, shape=[N, 2, 3])", "[N, 2, 3] = identity(a)", []),
        ("[N, 2, 3] = stop_gradient(x)", "[N, 2, 3] = exp(a)", ["exp"]),
    ],
)
def test_two_changes_of_shape_become_one_or_none(first, second, left):
    after, _ = simplified(f"""
      input x: float32[N, 2, 3]
      a: float32{first}
      b: float32{second}
      output y = b
    """)
    assert types(after) == left


def test_a_shape_in_between_that_others_use_stays():
    after, _ = simplified("""
      input x: float32[N, 6]
      a: float32[N, 2, 3] = reshape(x, shape=[N, 2, 3])
      b: float32[N, 6] = reshape(a, shape=[N, 6])
      c: float32[N, 2, 3] = exp(a)
      output y = b
      output z = c
    """)
    assert types(after) == ["reshape", "exp"]


@pytest.mark.parametrize(
    ("shape", "left"),
    [
        ("(4,)", ["reduce_sum"]),
        ("(1,)", ["reduce_sum", "reshape"]),
        ("(3, 1)", ["reduce_sum", "reshape"]),
        ("(1, 3, 4)", ["reduce_sum", "reshape"]),
        ("()", ["reduce_sum"]),
    ],
)
def test_sum_to_becomes_reduce_sum(shape, left):
    out = "[" + shape.strip("(),") + "]"
    after, _ = simplified(f"""
      input x: float32[N, 3, 4]
      sum_to: float32{out} = sum_to(x, shape={shape})
      output y = sum_to
    """)
    assert types(after) == left


def test_sum_to_of_integers_and_of_nothing():
    after, report = simplified("""
      input x: int64[N, 3]
      input z: float32[N, 3]
      a: int64[3] = sum_to(x, shape=(3,))
      b: float32[N, 3] = sum_to(z, shape=[N, 3])
      output y = a
      output z = b
    """)
    assert types(after) == ["sum_to"] and reasons(report) == ["reduce_sum of integers is int64"]


def test_the_order_of_a_transpose_is_written_out():
    assert order_of(None, 3) == (2, 1, 0)
    assert order_of((0, -1, 1), 3) == (0, 2, 1)


def test_a_column_by_a_row_is_an_elementwise_product():
    after, _ = simplified("""
      input x: float32[N, 1]
      input y: float32[1, 5]
      matmul: float32[N, 5] = matmul(x, y)
      relu: float32[N, 5] = relu(matmul)
      output y = relu
    """)
    assert types(after) == ["mul", "relu"]
    after, _ = simplified("""
      input x: float32[N, 1]
      input y: float32[5, 1]
      matmul: float32[N, 5] = matmul(x, y, transpose_y=true)
      output y = matmul
    """)
    assert types(after) == ["matmul"]


@pytest.mark.parametrize(
    ("dtype", "columns", "wanted"),
    [
        ("float32", 5, ["mul", "reduce_sum", "unsqueeze"]),
        ("float32", 1, ["matmul"]),
        ("bfloat16", 5, ["matmul"]),
    ],
)
def test_a_transposed_column_by_a_matrix_is_a_sum_of_its_rows(dtype, columns, wanted):
    after, _ = simplified(f"""
      input x: {dtype}[N, 1]
      input y: {dtype}[N, {columns}]
      matmul: {dtype}[1, {columns}] = matmul(x, y, transpose_x=true)
      output y = matmul
    """)
    assert types(after) == wanted


def pooled(n, size, space):
    after, _ = simplified(
        f"""
      input x: float32[N, 4, {", ".join(map(str, space))}]
      p: float32[N, 4, {", ".join(["1"] * n)}] = adaptive_avg_pool{n}d(x, size={size})
      g: float32[N, 4, {", ".join(map(str, space))}] = adaptive_avg_pool{n}d_grad(p, sizes={space})
      output y = g
    """,
        exact=False,
    )
    return types(after)


@pytest.mark.parametrize("n", [1, 2, 3])
def test_global_pooling_is_a_mean_and_its_gradient_a_broadcast(n):
    space = [5, 7, 3][:n]
    wanted = ["reduce_mean", "fill", "mul", "broadcast_to"]
    assert pooled(n, 1, space) == wanted
    assert pooled(n, [1] * n, space) == wanted


def test_pooling_that_is_not_global_stays():
    after, _ = simplified("""
      input x: float32[N, 4, 6, 6]
      p: float32[N, 4, 1, 2] = adaptive_avg_pool2d(x, size=[1, 2])
      g: float32[N, 4, 6, 6] = adaptive_avg_pool2d_grad(p, sizes=[6, 6])
      output y = g
    """)
    assert types(after) == ["adaptive_avg_pool2d", "adaptive_avg_pool2d_grad"]


def test_pooling_of_images_whose_size_is_not_known_stays():
    after, _ = simplified("""
      input x: float32[2, 4, N]
      p: float32[2, 4, 1] = adaptive_avg_pool1d(x, size=1)
      output y = p
    """)
    assert types(after) == ["adaptive_avg_pool1d"]


def test_of_a_split_only_the_parts_that_are_used_are_made():
    after, _ = simplified("""
      input x: float32[N, 10]
      a, b, c: float32[N, 3], float32[N, 2], float32[N, 5] = split(x, sizes=(3, 2, 5), axis=-1)
      output y = a
      output z = c
    """)
    assert types(after) == ["slice", "slice"]
    assert [op.attrs["starts"] for op in after.operators] == [(0,), (5,)]
    after, _ = simplified("""
      input x: float32[6]
      a, b: float32[3], float32[3] = split(x, num=2)
      output y = a
      output z = b
    """)
    assert types(after) == ["split"]


@pytest.mark.parametrize("turned", [False, True])
def test_of_a_product_only_the_columns_that_are_used_are_made(turned):
    shape = "[8, 5]" if turned else "[5, 8]"
    after, _ = simplified(f"""
      input x: float32[N, 3, 5]
      input w: float32{shape}
      p: float32[N, 3, 8] = matmul(x, w, transpose_y={str(turned).lower()})
      s: float32[N, 3, 3] = slice(p, axes=(-1,), starts=(1,), stops=(7,), steps=(2,))
      output y = s
    """)
    assert types(after) == ["slice", "matmul"]


@pytest.mark.parametrize(
    ("rows", "axis", "out"), [(2, 1, "[2, 3]"), (9, 0, "[3, 8]")], ids=["few rows", "rows"]
)
def test_other_parts_of_a_product_are_cut_from_it(rows, axis, out):
    after, _ = simplified(f"""
      input x: float32[{rows}, 5]
      input w: float32[5, 8]
      p: float32[{rows}, 8] = matmul(x, w)
      s: float32{out} = slice(p, axes=({axis},), starts=(0,), stops=(3,))
      output y = s
    """)
    assert types(after) == ["matmul", "slice"]


def test_a_product_whose_other_columns_are_used_stays():
    after, _ = simplified("""
      input x: float32[N, 5]
      input w: float32[5, 8]
      p: float32[N, 8] = matmul(x, w)
      s: float32[N, 3] = slice(p, axes=(1,), starts=(0,), stops=(3,))
      output y = s
      output z = p
    """)
    assert types(after) == ["matmul", "slice"]
