import numpy as np
import pytest

import noria.ops.elementwise
import noria.ops.sweep
import noria.ops.update  # noqa: F401  (importing a family registers its ops)
from noria.core.errors import NoriaError, ProgramError
from noria.grad import append_backward
from noria.ir.interpret import run_program
from noria.ir.opdef import lookup
from noria.ir.text import parse_program
from noria.ir.verify import verify
from noria.ops.sweep import is_loop, overwrites_of_sweep

BODY = """
      e: float64[3] = exp(a)
      m: float64[2, 2] = mul(b, b)
      return e, m
"""


def parsed(body=BODY, tail="output e = e output m = m", outs="e, m: float64[3], float64[2, 2]"):
    return parse_program(f"""program p {{
      input x: float64[3]
      input y: float64[2, 2]
      {outs} = sweep(x, y) {{
        body(a: float64[3], b: float64[2, 2]) {{ {body} }}
      }}
      {tail}
    }}""")


def test_a_sweep_computes_its_body():
    p = parsed()
    verify(p)
    x, y = np.array([0.0, 1.0, -2.0]), np.array([[1.0, 2.0], [3.0, 4.0]])
    out, _ = run_program(p, {"x": x, "y": y}, {})
    np.testing.assert_array_equal(out["e"], np.exp(x))
    np.testing.assert_array_equal(out["m"], y * y)


def test_the_gradient_is_that_of_the_body():
    p = parsed(
        tail="""
      s: float64[] = reduce_sum(e)
      t: float64[] = reduce_sum(m)
      loss: float64[] = add(s, t)
      output loss = loss
    """
    )
    backward, grads = append_backward(p, "loss", ["x", "y"])
    for name, value in grads.items():
        backward.outputs[f"g_{name}"] = value
    x, y = np.array([0.0, 1.0, -2.0]), np.array([[1.0, 2.0], [3.0, 4.0]])
    out, _ = run_program(backward, {"x": x, "y": y}, {})
    np.testing.assert_allclose(out["g_x"], np.exp(x), rtol=1e-14)
    np.testing.assert_allclose(out["g_y"], 2 * y, rtol=1e-14)


@pytest.mark.parametrize(
    ("body", "what"),
    [
        ("e: float64[3] = softmax(a) m: float64[2, 2] = exp(b) return e, m", "what is no loop"),
        ("t: float64[3] = exp(a) e: float64[3] = exp(t) m: float64[2, 2] = exp(b) return e, m",
         "depend on each other"),
        ("e: float64[3] = exp(a) return e, b", "returns an input"),
    ],
)  # fmt: skip
def test_another_body_is_refused(body, what):
    with pytest.raises(ProgramError, match=what):
        verify(parsed(body))


def test_inputs_of_another_shape_than_the_body_takes_are_refused():
    (operator,) = parsed().operators
    with pytest.raises(NoriaError):
        lookup("sweep").infer(operator.inputs[::-1], {}, operator.blocks)


def test_a_loop_that_reduces_is_no_part_of_a_sweep():
    p = parse_program("""program p {
      input x: float32[3]
      s: float32[] = fused(x) {
        body(a: float32[3]) {
          e: float32[3] = exp(a)
          s: float32[] = reduce_sum(e)
          return s
        }
      }
      e: float32[3] = exp(x)
      n: float32[] = reduce_sum(e)
      output s = s
      output n = n
    }""")
    assert [is_loop(operator) for operator in p.operators] == [False, True, False]


def test_an_input_that_two_read_is_not_overwritten():
    p = parse_program("""program p {
      input w: float32[3]
      input g: float32[3]
      input v: float32[3]
      input lr: float32[]
      a, b: float32[3], float32[3] = sweep(w, g, lr, v) {
        body(w: float32[3], g: float32[3], lr: float32[], v: float32[3]) {
          a: float32[3] = sgd_update(w, g, lr)
          b: float32[3] = sgd_update(v, g, lr)
          return a, b
        }
      }
      output a = a
      output b = b
    }""")
    verify(p)
    pairs = overwrites_of_sweep(p.operators[0])
    assert (0, 0) in pairs and (1, 3) in pairs
    assert not any(i == 1 for _, i in pairs)  # the gradient that both read
