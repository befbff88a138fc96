"""Convolutions one behind the other as one operator."""

import numpy as np
import pytest

import noria.ops.fused_convs
import noria.ops.reduce  # noqa: F401  (importing a family registers its ops)
from noria.core.errors import ProgramError
from noria.grad import append_backward
from noria.ir.interpret import run_program
from noria.ir.text import parse_program
from noria.ir.verify import verify

UP = 'u: float64[2, 6, 5, 5] = fused_conv2d(a, b, activation="relu")'
EACH = "e: float64[2, 6, 3, 3] = conv2d(u, c, stride=2, padding=1, groups=6)"
DOWN = "d: float64[2, 4, 3, 3] = conv2d(e, f)"
BODY = f"{UP}\n{EACH}\n{DOWN}\nreturn d"


def parsed(body=BODY, tail="output d = d", result="d: float64[2, 4, 3, 3]"):
    return parse_program(f"""program p {{
      input x: float64[2, 4, 5, 5]
      input u: float64[6, 4, 1, 1]
      input c: float64[6, 1, 3, 3]
      input f: float64[4, 6, 1, 1]
      {result} = fused_convs(x, u, c, f) {{
        body(a: float64[2, 4, 5, 5], b: float64[6, 4, 1, 1], c: float64[6, 1, 3, 3],
             f: float64[4, 6, 1, 1]) {{ {body} }}
      }}
      {tail}
    }}""")


def feeds():
    rng = np.random.default_rng(0)
    shapes = {"x": (2, 4, 5, 5), "u": (6, 4, 1, 1), "c": (6, 1, 3, 3), "f": (4, 6, 1, 1)}
    return {name: rng.standard_normal(shape) for name, shape in shapes.items()}


def alone():
    lines = BODY.replace("a,", "x,").replace("(x, b", "(x, w").replace("return d", "")
    return parse_program(f"""program p {{
      input x: float64[2, 4, 5, 5]
      input w: float64[6, 4, 1, 1]
      input c: float64[6, 1, 3, 3]
      input f: float64[4, 6, 1, 1]
      {lines}
      output d = d
    }}""")


def test_it_computes_its_body():
    program, given = parsed(), feeds()
    verify(program)
    got, _ = run_program(program, given, {})
    want, _ = run_program(alone(), {**given, "w": given["u"]} | {}, {})
    np.testing.assert_array_equal(got["d"], want["d"])


def test_the_gradient_is_that_of_the_body():
    program, given = parsed(tail="s: float64[] = reduce_sum(d)\noutput loss = s"), feeds()
    backward, grads = append_backward(program, "loss", ["f"])
    backward.outputs.update({f"g_{name}": value for name, value in grads.items()})
    out, _ = run_program(backward, given, {})
    step = np.zeros_like(given["f"])
    step[1, 2] = 1e-3
    more, _ = run_program(program, {**given, "f": given["f"] + step}, {})
    less, _ = run_program(program, {**given, "f": given["f"] - step}, {})
    slope = (more["loss"] - less["loss"]) / 2e-3
    np.testing.assert_allclose(out["g_f"][1, 2, 0, 0], slope, rtol=1e-6)


@pytest.mark.parametrize(
    ("body", "result", "reason"),
    [
        (f"{UP}\n{EACH}\n{DOWN}\nreturn e", "e: float64[2, 6, 3, 3]", "last one gives"),
        (
            f"{UP}\n{EACH}\nd: float64[2, 6, 3, 3] = relu(e)\nreturn d",
            "d: float64[2, 6, 3, 3]",
            "not all are convolutions",
        ),
        (
            f"{UP}\nd: float64[2, 6, 5, 5] = conv2d(a, b)\nreturn d",
            "d: float64[2, 6, 5, 5]",
            "the one before it",
        ),
        (
            "u: float64[2, 6, 5, 5] = conv2d(a, b)\n"
            "d: float64[2, 6, 5, 5] = fused_conv2d(u, c, _, u, padding=1, groups=6)\nreturn d",
            "d: float64[2, 6, 5, 5]",
            "the one before it",
        ),
    ],
)
def test_other_bodies_are_refused(body, result, reason):
    with pytest.raises(ProgramError, match=reason):
        name = result.partition(":")[0]
        verify(parsed(body, f"output {name} = {name}", result))
