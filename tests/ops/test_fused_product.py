import numpy as np
import pytest

import noria.ops.activation
import noria.ops.fused_product
import noria.ops.linalg
import noria.ops.reduce  # noqa: F401  (importing a family registers its ops)
from noria.core.errors import NoriaError, ProgramError
from noria.grad import append_backward
from noria.ir.interpret import run_program
from noria.ir.opdef import lookup
from noria.ir.text import parse_program
from noria.ir.verify import verify

BODY = """
      p: float64[3, 4] = matmul(a, b)
      l: float64[3, 4] = mul(p, c)
      return p, l
"""


def parsed(body=BODY, tail="output p = p output l = l", outs="p, l: float64[3, 4], float64[3, 4]"):
    inputs = "\n".join(f"input {one}" for one in ("x: float64[3, 2]", "y: float64[2, 4]"))
    return parse_program(f"""program p {{
      {inputs}
      input z: float64[3, 4]
      {outs} = fused_product(x, y, z) {{
        body(a: float64[3, 2], b: float64[2, 4], c: float64[3, 4]) {{ {body} }}
      }}
      {tail}
    }}""")


def feeds():
    rng = np.random.default_rng(0)
    return {"x": rng.random((3, 2)), "y": rng.random((2, 4)), "z": rng.random((3, 4))}


def test_it_computes_its_body():
    p = parsed()
    verify(p)
    given = feeds()
    out, _ = run_program(p, given, {})
    np.testing.assert_array_equal(out["p"], given["x"] @ given["y"])
    np.testing.assert_array_equal(out["l"], (given["x"] @ given["y"]) * given["z"])


def test_the_gradient_is_that_of_the_body():
    p = parsed(tail="s: float64[] = reduce_sum(l)\noutput loss = s")
    backward, grads = append_backward(p, "loss", ["x", "y", "z"])
    backward.outputs.update({f"g_{name}": value for name, value in grads.items()})
    given = feeds()
    out, _ = run_program(backward, given, {})
    x, y, z = given["x"], given["y"], given["z"]
    np.testing.assert_allclose(out["g_x"], z @ y.T, rtol=1e-14)
    np.testing.assert_allclose(out["g_y"], x.T @ z, rtol=1e-14)
    np.testing.assert_allclose(out["g_z"], x @ y, rtol=1e-14)


@pytest.mark.parametrize(
    ("body", "what"),
    [
        ("l: float64[3, 4] = exp(c) return l, l", "not a product of rows by a matrix and a loop"),
        ("p: float64[3, 4] = exp(c) l: float64[3, 4] = mul(p, c) return p, l",
         "not a product of rows by a matrix and a loop"),
        ("p: float64[3, 4] = matmul(a, b) l: float64[3, 4] = softmax(p) return p, l", "is no loop"),
        ("p: float64[3, 4] = matmul(a, b) l: float64[3, 4] = exp(c) return p, l",
         "does not read the product"),
        ("p: float64[3, 4] = matmul(a, b) l: float64[3, 4] = exp(p) return p, p",
         "does not return what its loop gives"),
    ],
)  # fmt: skip
def test_another_body_is_refused(body, what):
    with pytest.raises(ProgramError, match=what):
        verify(parsed(body))


def test_inputs_of_another_shape_than_the_body_takes_are_refused():
    (operator,) = parsed().operators
    with pytest.raises(NoriaError):
        lookup("fused_product").infer(operator.inputs[::-1], {}, operator.blocks)
