from noria.passes.liveness import fixed_values, live, unchanged_state
from tests.passes.programs import program

TEXT = """
  input x: float32[N]
  state w: float32[2] = fill(value=1.0)
  state step: int64[] = fill(value=0)
  exp: float32[2] = exp(w)
  fill: float32[N] = fill(shape=[N], value=1.0)
  fill_2: float32[N, 2] = fill(shape=[N, 2], value=1.0)
  cast: float32[] = cast(step, dtype="float32")
  mul: float32[2] = mul(exp, cast)
  neg: float32[N] = neg(x)
  fill_1: int64[] = fill(shape=(), value=1, dtype="int64")
  add: int64[] = add(step, fill_1)
  output y = neg
  output z = mul
  update step = add
"""


def test_only_what_the_roots_depend_on_is_live():
    p = program(TEXT)
    kept = live(p.block, [p.outputs["z"]])
    assert [o.type for o in kept] == ["exp", "cast", "mul"]
    assert kept[0] is p.operators[0]


def test_dead_operators_inside_blocks_are_not_live_either():
    p = program("""
      input p: bool[]
      input x: float32[N]
      cond: float32[N] = cond(p, x) {
        then(x_1: float32[N]) {
          exp: float32[N] = exp(x_1)
          sin: float32[N] = sin(x_1)
          return sin
        }
        otherwise(x_2: float32[N]) {
          return x_2
        }
      }
      output y = cond
    """)
    (kept,) = live(p.block, p.roots())
    assert [o.type for o in kept.blocks["then"].operators] == ["sin"]
    assert kept.blocks["otherwise"] is p.operators[0].blocks["otherwise"]
    assert [o.type for o in p.operators[0].blocks["then"].operators] == ["exp", "sin"]


def test_values_are_fixed_that_depend_on_sizes_and_on_state_no_step_updates():
    p = program(TEXT)
    state = unchanged_state(p)
    assert {v.name for v in state} == {"w"}
    fixed = fixed_values(p.operators, state)
    assert {v.name for v in fixed} == {"w", "exp", "fill", "fill_1"}


def test_random_values_are_never_fixed():
    p = program("""
      state key: int64[2] = fill(value=0)
      uniform: float32[2] = uniform(key, shape=(2,))
      output y = uniform
    """)
    assert fixed_values(p.operators, unchanged_state(p)) == unchanged_state(p)
