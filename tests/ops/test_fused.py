import numpy as np
import pytest

import noria.ops.compare
import noria.ops.conv
import noria.ops.linalg
import noria.ops.reduce
import noria.ops.shape
import noria.ops.update  # noqa: F401  (importing a family registers its ops)
from noria.core.errors import ArgumentError, NoriaError, ProgramError, ShapeError
from noria.core.shapes import Check
from noria.ir.interpret import run_program
from noria.ir.opdef import collect_checks, lookup, registry
from noria.ir.text import parse_program
from noria.ir.verify import verify
from noria.ops.fused import (
    ACTIVATIONS,
    ELEMENTWISE,
    FUSIBLE,
    UPDATES,
    fused_conv2d,
    fused_linear,
    iteration_space,
    overwrites_of,
    reduction_axes,
)
from noria.testing.case import Case, arr
from noria.testing.check import check_case, load_ops

FORMULAS = {
    None: lambda x: x,
    "relu": lambda x: np.where(x > 0, x, 0),
    "relu6": lambda x: np.minimum(np.maximum(x, 0), 6),
    "sigmoid": lambda x: 1 / (1 + np.exp(-x)),
    "silu": lambda x: x / (1 + np.exp(-x)),
    "tanh": np.tanh,
    "gelu_tanh": lambda x: x / (1 + np.exp(-np.sqrt(8 / np.pi) * (x + 0.044715 * x**3))),
}


def linear_by_hand(name):
    def expect(x, weight, bias=None):
        out = np.einsum("...i,oi->...o", x.astype(np.float64), weight.astype(np.float64))
        return FORMULAS[name](out if bias is None else out + bias)

    return expect


def conv_by_hand(name, pad=0, stride=1, groups=1):
    def expect(x, weight, bias=None, residual=None):
        n, _, height, width = x.shape
        o, i, kh, kw = weight.shape
        windows = [(s + 2 * pad - k) // stride + 1 for s, k in ((height, kh), (width, kw))]
        x = np.pad(x.astype(np.float64), ((0, 0), (0, 0), (pad, pad), (pad, pad)))
        out = np.zeros((n, o, *windows))
        for c in range(o):
            first = c // (o // groups) * i
            for a in range(out.shape[2]):
                for b in range(out.shape[3]):
                    at = x[:, first : first + i, a * stride : a * stride + kh, b * stride :][
                        ..., :kw
                    ]
                    out[:, c, a, b] = (at * weight[c]).sum(axis=(1, 2, 3))
        out = out if bias is None else out + bias.reshape(-1, 1, 1)
        return FORMULAS[name](out if residual is None else out + residual)

    return expect


CASES = [
    Case("fused_linear", [arr(3, 4), arr(5, 4), arr(5)], expect=linear_by_hand(None)),
    *(
        Case(
            "fused_linear",
            [arr(3, 4), arr(5, 4), arr(5)],
            {"activation": name},
            expect=linear_by_hand(name) if name in FORMULAS else None,
            symbolic={0: {0: "N"}},
        )
        for name in ACTIVATIONS
    ),
    Case(
        "fused_linear",
        [arr(2, 3, 4), arr(5, 4), None],
        {"activation": "tanh"},
        expect=linear_by_hand("tanh"),
    ),
    Case(
        "fused_linear",
        [arr(4), arr(5, 4), arr(5)],
        {"activation": "relu"},
        expect=linear_by_hand("relu"),
    ),
    Case("fused_linear", [arr(0, 4), arr(5, 4), arr(5)], {"activation": "relu"}),
    Case(
        "fused_linear",
        [arr(3, 4, dtype="bfloat16"), arr(5, 4, dtype="bfloat16"), None],
        {"activation": "gelu"},
    ),
    Case(
        "fused_conv2d",
        [arr(2, 2, 5, 5), arr(3, 2, 3, 3)],
        expect=conv_by_hand(None),
        symbolic={0: {0: "N"}},
    ),
    Case(
        "fused_conv2d",
        [arr(2, 2, 5, 5), arr(3, 2, 3, 3), arr(3), arr(2, 3, 5, 5)],
        {"padding": 1, "activation": "relu"},
        expect=conv_by_hand("relu", pad=1),
        symbolic={0: {0: "N"}, 3: {0: "N"}},
    ),
    Case(
        "fused_conv2d",
        [arr(1, 4, 6, 5), arr(2, 2, 3, 2), None, arr(1, 2, 2, 2)],
        {"stride": 2, "groups": 2, "activation": "silu"},
        expect=conv_by_hand("silu", stride=2, groups=2),
    ),
    Case("fused_conv2d", [arr(0, 2, 5, 5), arr(3, 2, 3, 3), arr(3)], {"activation": "tanh"}),
]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_case(case):
    check_case(case)


def test_every_op_of_the_family_has_a_case():
    # `fused` is called with a block, which no case can hold; the tests below are about it.
    assert {"fused_linear", "fused_conv2d"} == {c.op for c in CASES}


def test_an_unknown_activation_is_refused():
    with pytest.raises(ArgumentError, match="did you mean 'relu'"):
        fused_linear(np.ones((2, 3)), np.ones((4, 3)), activation="reluu")


def test_a_residual_must_have_the_shape_of_the_output():
    x, w = np.ones((1, 2, 5, 5)), np.ones((3, 2, 3, 3))
    with pytest.raises(ShapeError):
        fused_conv2d(x, w, None, np.ones((1, 3, 5, 5)))
    with pytest.raises(NoriaError, match="rank"):
        fused_conv2d(x, w, None, np.ones((3, 3, 3)))


def test_the_sets_name_ops_that_exist():
    load_ops()
    assert registry.keys() >= FUSIBLE
    assert all(len(lookup(t).outputs) == 1 for t in ELEMENTWISE)
    assert all(lookup(t).effect == "pure" for t in FUSIBLE)
    assert all(lookup(t).overwrites[0] == (0, 0) for t in UPDATES)


# ---- fused -------------------------------------------------------------------------------------

BODY = """
      m: float32[N, 4] = mul(a, b)
      zero: float32[] = fill(shape=(), value=0.0)
      p: bool[N, 4] = greater(m, zero)
      i: int32[N, 4] = cast(m, dtype="int32")
      s: float32[4] = reduce_sum(m, axis=0)
      return m, p, i, s
"""


def parsed(
    body=BODY, outs="m, p, i, s", specs="float32[N, 4], bool[N, 4], int32[N, 4], float32[4]"
):
    return parse_program(f"""program p {{
      input x: float32[N, 4]
      input y: float32[4]
      {outs}: {specs} = fused(x, y) {{
        body(a: float32[N, 4], b: float32[4]) {{ {body} }}
      }}
      {"".join(f"output {n.strip()} = {n.strip()} " for n in outs.split(","))}
    }}""")


def test_fused_computes_its_body():
    p = parsed()
    verify(p)
    x, y = np.array([[1, -2, 3, 4], [5, 6, -7, 8]], np.float32), np.arange(4, dtype=np.float32)
    out, _ = run_program(p, {"x": x, "y": y}, {})
    np.testing.assert_array_equal(out["m"], x * y)
    np.testing.assert_array_equal(out["p"], x * y > 0)
    np.testing.assert_array_equal(out["i"], (x * y).astype(np.int32))
    np.testing.assert_array_equal(out["s"], (x * y).sum(axis=0))


def test_the_space_of_a_body_is_the_full_shape():
    (operator,) = parsed().operators
    assert iteration_space(operator.blocks["body"]) == operator.inputs[0].shape
    reduced = parsed("s: float32[4] = reduce_sum(a, axis=0)\n return s", "s", "float32[4]")
    assert iteration_space(reduced.operators[0].blocks["body"]) == operator.inputs[0].shape


def test_outputs_of_full_shape_may_take_inputs_of_full_shape_and_element_size():
    (operator,) = parsed().operators
    assert overwrites_of(operator) == [(0, 0), (2, 0)]


def test_other_operators_overwrite_what_their_op_says():
    p = parse_program("""program p {
      input c: bool[N]
      input x: float32[N]
      w: float32[N] = where(c, x, x)
      s: float32[N] = softmax(x)
      m: float32[N, N] = matmul(x, x)
      output y = w
    }""")
    assert [overwrites_of(o) for o in p.operators] == [[(0, 1), (0, 2)], [(0, 0)], []]


@pytest.mark.parametrize(
    ("body", "what"),
    [
        ("t: float32[N, 4] = softmax(a)\n return t", "'softmax' is not element by element"),
        ("t: float32[4] = exp(b)\n u: float32[N, 4] = add(a, t)\n return t", "another shape"),
        (
            "s: float32[N, 1] = reduce_sum(a, axis=1, keepdims=true)\n"
            "t: float32[N, 4] = sub(a, s)\n return t",
            "result of a reduction is used",
        ),
        (
            "s: float32[N] = reduce_sum(a, axis=1)\n t: float32[4] = reduce_sum(a, axis=0)\n"
            "return t",
            "different axes",
        ),
        ("t: float32[N, 4] = exp(a)\n return a", "returns an input"),
    ],
)
def test_a_body_that_is_no_loop_is_refused(body, what):
    spec = "float32[4]" if "return t" in body and "different" in what else "float32[N, 4]"
    spec = "float32[4]" if what == "another shape" else spec
    with pytest.raises(ProgramError, match=what):
        verify(parsed(body, "out", spec))


def test_sizes_that_the_body_needs_to_be_equal_are_checked_when_bound():
    p = parse_program("""program p {
      input x: float32[N]
      input y: float32[M]
      m: float32[N] = fused(x, y) {
        body(a: float32[N], b: float32[M]) {
          m: float32[N] = mul(a, b)
          return m
        }
      }
      output y = m
    }""")
    found: list[Check] = []
    (operator,) = p.operators
    with collect_checks(found):
        lookup("fused").infer(operator.inputs, operator.attrs, operator.blocks)
    assert [(str(c.left), str(c.right)) for c in found] == [("N", "M")]


def test_inputs_of_another_shape_than_the_body_takes_are_refused():
    p = parsed()
    (operator,) = p.operators
    with pytest.raises(NoriaError):
        lookup("fused").infer(operator.inputs[:1], {}, operator.blocks)
    with pytest.raises(ShapeError):
        lookup("fused").infer(operator.inputs[::-1], {}, operator.blocks)


@pytest.mark.parametrize(
    ("axis", "ends"),
    [
        ("null", (0, 1, 2)),
        ("2", (2,)),
        ("(1, 2)", (1, 2)),
        ("0", (0,)),
        ("(0, 1)", (0, 1)),
        ("(0, 2)", (0, 2)),
        ("-1", (2,)),
        ("1", (1,)),
        ("()", None),
    ],
)
def test_reductions_that_can_end_a_loop(axis, ends):
    p = parse_program(f"""program p {{
      input x: float32[2, 3, 4]
      r: float32[] = reduce_sum(x, axis={axis})
      e: float32[2, 3, 4] = exp(x)
      output r = r
    }}""")
    assert [reduction_axes(o) for o in p.operators] == [ends, None]
