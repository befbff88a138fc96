import numpy as np
import pytest

from noria.core.dims import symbol
from noria.grad import append_backward
from noria.ir.emit import Builder
from noria.ir.opdef import lookup, op, registry
from noria.ir.opdef import vocabulary as o
from noria.ir.program import Program
from noria.ir.text import format_program, parse_program
from noria.ir.verify import verify
from noria.passes.fuse_elementwise import fuse_elementwise
from tests.passes.programs import apply, assert_same_numbers, program, types


def fused(lines, **more):
    before = program(lines)
    after, report = apply(fuse_elementwise, before)
    assert_same_numbers(before, after, **more)
    assert format_program(parse_program(format_program(after))) == format_program(after)
    return after, report


def bodies(p):
    found = [op.blocks["body"] for op in p.operators if op.type == "fused"]
    return [[op.type for op in b.operators] for b in found]


def test_an_optimiser_update_with_decay_is_one_loop():
    after, report = fused("""
      input g: float32[3, 4]
      state w: float32[3, 4] = fill(value=1.0)
      state v: float32[3, 4] = fill(value=0.0)
      state lr: float32[] = fill(value=0.1)
      c: float32[] = fill(shape=(), value=0.01)
      m: float32[3, 4] = mul(w, c)
      a: float32[3, 4] = add(g, m)
      u, n: float32[3, 4], float32[3, 4] = momentum_update(w, a, v, lr)
      update w = u
      update v = n
    """)
    assert bodies(after) == [["fill", "mul", "add", "momentum_update"]]
    assert [v.name for v in after.operators[0].inputs] == ["w", "g", "v", "lr"]
    assert report.fired == ["fused, made by fuse_elementwise: mul, add, momentum_update"]


def test_casts_comparisons_choices_and_broadcasts_are_members():
    after, _ = fused("""
      input x: float32[N, 4]
      input r: float32[N, 1]
      b: float32[N, 4] = broadcast_to(r, shape=[N, 4])
      p: bool[N, 4] = greater(x, b)
      c: float32[N, 4] = cast(p, dtype="float32")
      n: bool[N, 4] = logical_not(p)
      w: float32[N, 4] = where(n, c, x)
      output y = w
    """)
    assert bodies(after) == [["broadcast_to", "greater", "cast", "logical_not", "where"]]


def test_a_number_or_broadcast_is_repeated_in_each_loop():
    after, _ = fused("""
      input x: float32[N, 4]
      f: float32[] = fill(shape=(), value=2.0)
      b: float32[N, 4] = broadcast_to(f, shape=[N, 4])
      a: float32[N, 4] = mul(x, b)
      e: float32[N, 4] = exp(a)
      s: float32[N, 4] = softmax(e)
      c: float32[N, 4] = mul(s, b)
      d: float32[N, 4] = sin(c)
      output y = d
    """)
    assert types(after) == ["fused", "softmax", "fused"]
    assert bodies(after) == [
        ["fill", "broadcast_to", "mul", "exp"],
        ["fill", "broadcast_to", "mul", "sin"],
    ]


def test_users_of_a_loop_move_behind_it():
    after, _ = fused("""
      input x: float32[N, 4]
      input z: float32[N, 4]
      a: float32[N, 4] = exp(x)
      t: float32[N, 4] = softmax(a)
      b: float32[N, 4] = mul(a, z)
      output t = t
      output b = b
    """)
    assert types(after) == ["fused", "softmax"]
    assert [v.name for v in after.operators[0].outputs] == ["a", "b"]


def test_reductions_over_rows_columns_channels_and_everything_end_a_loop():
    after, _ = fused(
        """
      input x: float32[N, 3, 4]
      a: float32[N, 3, 4] = exp(x)
      s: float32[N, 3, 1] = reduce_sum(a, axis=2, keepdims=true)
      b: float32[N, 3, 4] = sin(x)
      m: float32[3, 4] = reduce_mean(b, axis=0)
      c: float32[N, 3, 4] = cos(x)
      k: float32[3] = reduce_max(c, axis=(0, 2))
      d: float32[N, 3, 4] = abs(x)
      n: float32[] = reduce_sum(d)
      output s = s
      output m = m
      output k = k
      output n = n
    """
    )
    assert types(after) == ["fused"] * 4


def test_a_value_keeps_its_name_and_outputs_their_order():
    after, _ = fused("""
      input x: float32[N]
      a: float32[N] = exp(x)
      b: float32[N] = sin(a)
      output second = b
      output first = a
    """)
    (operator,) = after.operators
    assert [v.name for v in operator.outputs] == ["a", "b"]
    assert after.outputs["first"] is operator.outputs[0]


def test_loops_are_made_inside_control_flow_and_never_inside_loops():
    before = program("""
      input p: bool[]
      input x: float32[N]
      c: float32[N] = cond(p, x) {
        then(x1: float32[N]) {
          a: float32[N] = exp(x1)
          b: float32[N] = sin(a)
          return b
        }
        otherwise(x2: float32[N]) {
          return x2
        }
      }
      output y = c
    """)
    once, _ = apply(fuse_elementwise, before)
    inner = once.operators[0].blocks["then"]
    assert [op.type for op in inner.operators] == ["fused"]
    assert_same_numbers(before, once)
    twice, report = apply(fuse_elementwise, once)
    assert twice.operators == once.operators and not report.fired


def test_ordered_effects_keep_their_order(printing):
    p = Program("effects")
    with Builder(p) as b:
        x, z = b.input("x", (4,)), b.input("z", (4,))
        a = o.exp(x)
        first = lookup("test_print")(a)
        second = lookup("test_print")(z)
        last = lookup("test_print")(o.mul(o.sin(second), a))
        p.outputs = {"y": o.add(first, last)}
    after, _ = apply(fuse_elementwise, p)
    shown = [op.outputs[0].name for op in after.operators if op.type == "test_print"]
    assert shown == ["test_print", "test_print_1", "test_print_2"]
    assert_same_numbers(p, after)


@pytest.fixture
def printing():
    """A throw-away op with an effect."""

    @op(name="test_print", effect="ordered")
    def show(x):
        """Tells what x is."""
        return x

    @show.compute
    def _(xp, x):
        return x

    yield show
    del registry["test_print"]


def test_a_fused_program_can_still_be_differentiated():
    before = program("""
      input x: float32[N]
      a: float32[N] = exp(x)
      b: float32[N] = sin(a)
      l: float32[] = reduce_sum(b)
      output loss = l
    """)
    after, _ = apply(fuse_elementwise, before)
    pair = []
    for p in (before, after):
        with_gradient, grads = append_backward(p, wrt=["x"])
        with_gradient.outputs["g"] = grads["x"]
        pair.append(with_gradient)
    assert_same_numbers(*pair)


def random_program(seed):
    """Elementwise ops, reductions, products and updates on values drawn at random."""
    rng = np.random.default_rng(seed)
    p = Program(f"random{seed}")
    n = symbol("N")
    with Builder(p) as b:
        values = [b.input(f"x{i}", (n, 4)) for i in range(3)]
        values += [b.input("r", (4,)), b.input("c", (n, 1))]
        values += [b.state(f"s{i}", (4, 4), init=("fill", {"value": 1.0})) for i in range(2)]
        for _ in range(40):
            x, y = (values[int(i)] for i in rng.integers(0, len(values), 2))
            kind = rng.integers(0, 8)
            if kind == 0 and x.ndim == 2:
                made = o.softmax(x)
            elif kind == 1 and x.ndim == 2:
                made = o.reduce_mean(
                    x, axis=int(rng.integers(0, 2)), keepdims=bool(rng.integers(2))
                )
            elif kind == 2:
                made = o.broadcast_to(x, shape=(n, 4)) if x.shape in ((4,), (n, 1)) else o.sin(x)
            elif kind == 3:
                made = o.where(o.greater(x, 0.5), x, 0.5)
            elif x.shape == y.shape or {x.shape, y.shape} <= {(n, 4), (4,), (n, 1)}:
                made = o.sub(o.mul(x, 0.5), y)
            else:
                made = o.tanh(x)
            values.append(made)
        chosen = rng.choice(len(values), 6, replace=False)
        p.outputs = {f"y{i}": values[int(i)] for i in chosen}
        same = [v for v in values[7:] if v.shape == (4, 4)]
        if same:
            b.update("s0", same[-1])
    p.block.outputs = list(p.outputs.values())
    return p


@pytest.mark.parametrize("seed", range(30))
def test_programs_made_at_random_compute_the_same(seed):
    before = random_program(seed)
    verify(before)
    after, _ = apply(fuse_elementwise, before)
    assert_same_numbers(before, after)
    assert len(after.operators) < len(before.operators)
