import numpy as np
import pytest

from noria.core.dims import symbol
from noria.core.errors import ArgumentError, DTypeError, ProgramError, ShapeError
from noria.ir.emit import Builder
from noria.ir.interpret import run_program
from noria.ir.opdef import vocabulary as o
from noria.ir.program import Block, Program, Value
from noria.ops.loop_ops import scan_op, while_op
from noria.testing.check import check_program, load_ops
from noria.testing.record import named, set_outputs

load_ops()


def block(program, builder, inputs, fn):
    inner = Builder(program, Block(), parent=builder)
    with inner:
        values = [inner.input(f"in{len(inner.names.taken)}", s, d) for s, d in inputs]
        inner.block.outputs = fn(*values)
    return inner.block


def run_scan(x, init, body, *, each=(), carried=1, **attrs):
    """Emit and run a scan by hand: scalars of x, one carried scalar."""
    program = Program()
    with Builder(program) as builder:
        feed, start = builder.input("x", x.shape), builder.input("start", (), "float32")
        inner = block(program, builder, [((), "float32"), (x.shape[1:], "float32")], body)
        attrs = {"carried": carried, "scanned": 1, "length": x.shape[0], "each": each, **attrs}
        outs = builder.emit(scan_op, [start, feed], attrs, {"body": inner})
        set_outputs(program, named("out", outs if isinstance(outs, tuple) else [outs]))
    feeds = {"x": x, "start": np.float32(init)}
    out, _ = run_program(program, feeds, {})
    check_program(program, feeds, out)
    return list(out.values())


def add_and_double(c, a):
    return [o.add(c, a), o.mul(a, 2.0)]


EACH = (("float32", ()),)
X = np.array([1, 2, 4], np.float32)


def test_a_scan_gives_the_last_carry_and_what_each_step_gave():
    last, ys = run_scan(X, 10, add_and_double, each=EACH)
    assert last == 17 and ys.tolist() == [2, 4, 8]


def test_the_history_holds_what_was_carried_before_each_step():
    _, _, history = run_scan(X, 10, add_and_double, each=EACH, record=(0,))
    assert history.tolist() == [10, 11, 13]


def test_in_reverse_results_and_history_keep_the_places_of_their_slices():
    last, ys, history = run_scan(X, 10, add_and_double, each=EACH, record=(0,), reverse=True)
    assert last == 17 and ys.tolist() == [2, 4, 8] and history.tolist() == [16, 14, 10]


def test_no_steps_give_empty_stacks_of_the_right_kind():
    last, ys, history = run_scan(X[:0], 10, add_and_double, each=EACH, record=(0,))
    assert last == 10 and ys.shape == history.shape == (0,)


@pytest.mark.parametrize(
    ("attrs", "error", "match"),
    [
        ({"each": ()}, ProgramError, "each"),
        ({"each": (("float64", ()),)}, DTypeError, "result 0 of a step"),
        ({"each": EACH, "length": 5}, ShapeError, "first axis of scanned value 0"),
        ({"each": EACH, "carried": 3}, ProgramError, "carries"),
        ({"each": EACH, "carried": -1}, ProgramError, "carries"),
        ({"each": EACH, "scanned": 2}, ProgramError, "carries"),
        ({"each": EACH, "record": (1,)}, ProgramError, "records"),
        ({"each": EACH, "scanned": 0}, ShapeError, "input"),
    ],
)
def test_a_scan_that_does_not_fit_its_body_is_refused(attrs, error, match):
    with pytest.raises(error, match=match):
        run_scan(X, 10, add_and_double, **attrs)


def run_while(limit, **attrs):
    """Emit and run a while_loop by hand: doubles a value while it is below a limit that stays."""
    program = Program()
    with Builder(program) as builder:
        values = [builder.input("x", ()), builder.input("limit", ())]
        specs = [((), "float32")] * 2
        cond = block(program, builder, specs, lambda x, top: [o.less(x, top)])
        body = block(program, builder, specs, lambda x, top: [o.mul(x, 2.0)])
        blocks = {"cond": cond, "body": body, **attrs.pop("blocks", {})}
        outs = builder.emit(while_op, values, {"carried": 1, **attrs}, blocks)
        set_outputs(program, named("out", outs if isinstance(outs, tuple) else [outs]))
    feeds = {"x": np.float32(1), "limit": np.float32(limit)}
    out, _ = run_program(program, feeds, {})
    check_program(program, feeds, out)
    return list(out.values())


@pytest.mark.parametrize("limit", [0, 1.5, 20])
def test_a_while_loop_stops_when_its_condition_is_false(limit):
    last, history = run_while(limit, record=(0,), steps="K")
    want = []
    x = 1.0
    while x < limit:
        want.append(x)
        x *= 2
    assert last == x and history.tolist() == want


def test_the_size_of_a_history_is_a_symbol():
    program = Program()
    with Builder(program) as builder:
        value = builder.input("x", (3,))
        spec = [((3,), "float32")]
        cond = block(program, builder, spec, lambda x: [o.less(o.reduce_sum(x), 5.0)])
        body = block(program, builder, spec, lambda x: [o.mul(x, 2.0)])
        attrs = {"carried": 1, "record": (0,), "steps": "K"}
        _, history = builder.emit(while_op, [value], attrs, {"cond": cond, "body": body})
    assert history.shape == (symbol("K"), 3)


def test_a_while_loop_that_does_not_fit_its_blocks_is_refused():
    with pytest.raises(ArgumentError, match="symbol"):
        run_while(5, record=(0,))
    with pytest.raises(ProgramError, match="another number of inputs"):
        run_while(5, blocks={"cond": Block([Value("a", ())], [], [Value("b", (), "bool")])})
    inputs = [Value("a", ()), Value("b", ())]
    with pytest.raises(DTypeError, match="bool"):
        run_while(5, blocks={"cond": Block(inputs, [], [inputs[0]])})
    with pytest.raises(ProgramError, match="one bool"):
        run_while(5, blocks={"cond": Block(inputs, [], [])})


def test_ops_with_blocks_are_not_called_without_them():
    with pytest.raises(ArgumentError, match="take functions"):
        while_op(np.ones(2), carried=1)
