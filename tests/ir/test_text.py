"""Programs as text, and back."""

import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import pytest

from noria.core.errors import FormatError
from noria.core.trace import Source
from noria.ir.compare import difference
from noria.ir.emit import Builder
from noria.ir.interpret import run_program
from noria.ir.literals import MAX_DEPTH
from noria.ir.opdef import op
from noria.ir.opdef import vocabulary as o
from noria.ir.program import Program, Value
from noria.ir.text import format_program, large_constants, parse_program
from noria.ir.verify import verify
from tests.ir.programs import N, chain, emit_call, finish, layered, nested, state_of_layered

GOLDEN = """\
program layered {
  input x: float32[N, 6]
  state fc.weight: float32[6, 4] = fill(value=0.5) trainable
  state step: int64[] = fill(value=0)
  matmul: float32[N, 4] = matmul(x, fc.weight)
  tanh: float32[N, 4] = tanh(matmul)
  clip: float32[N, 4] = clip(tanh, low=-0.25, high=inf)
  constant: float32[4] = constant(value=array(float32[4], 1.5, -0.0, nan, 1.0000000031710769e-30))
  add: float32[N, 4] = add(clip, constant)
  constant_1: float32[4, 5] = constant(value=array(float32[4, 5], sha256="DIGEST"))
  matmul_1: float32[N, 5] = matmul(add, constant_1)
  fill: int64[N, 2] = fill(shape=[N, 2], value=1, dtype="int64")
  fill_1: float32[] = fill(shape=(), value=0.5)
  mul: float32[6, 4] = mul(fc.weight, fill_1)
  fill_2: int64[] = fill(shape=(), value=1, dtype="int64")
  add_1: int64[] = add(step, fill_2)
  output out = matmul_1
  output size = fill
  update fc.weight = mul
  update step = add_1
}
"""

NESTED = """\
program nested {
  input x: float32[N]
  state w: float32[] = fill(value=0.0) trainable
  test_call_1: float32[N] = test_call(x, w) {
    body(x_1: float32[N], w_1: float32[]) {
      mul: float32[N] = mul(x_1, w_1)
      test_call: float32[N] = test_call(mul, w_1) {
        body(x_2: float32[N], w_2: float32[]) {
          mul_1: float32[N] = mul(x_2, w_2)
          tanh: float32[N] = tanh(mul_1)
          return tanh
        }
      }
      tanh_1: float32[N] = tanh(test_call)
      return tanh_1
    }
  }
  output out = test_call_1
}
"""


def round_trip(program, sources=True):
    """Read back what is printed; it prints the same again."""
    text = format_program(program, sources=sources)
    back = parse_program(text, constants=large_constants(program))
    assert format_program(back, sources=sources) == text
    assert difference(program, back) is None
    verify(back)
    return back


def refused(text, match, where=None):
    with pytest.raises(FormatError, match=match) as told:
        parse_program(text)
    if where is not None:
        assert told.value.where == where
    return told.value


def body(*lines):
    return "program p {\n  input x: float32[N]\n" + "".join(f"  {s}\n" for s in lines) + "}\n"


# ---- printing ----------------------------------------------------------------------------------


def test_a_program_prints_like_this():
    program = layered()
    text = format_program(program, sources=False)
    (digest,) = large_constants(program)
    assert text.replace(digest, "DIGEST") == GOLDEN


def test_nested_blocks_print_like_this(call_op):
    assert format_program(nested(), sources=False) == NESTED


def test_operators_tell_where_they_come_from():
    program = Program("p")
    source = Source("model.py", 12, "forward")
    with Builder(program) as b:
        y = o.tanh(o.neg(o.tanh(b.input("x", ()))))
        finish(program, out=y)
    first, second, third = program.operators
    program.operators[:] = [
        replace(first, source=source),
        replace(second, source=source, made_by="grad"),
        replace(third, source=None, made_by="fold constants"),
    ]
    lines = format_program(program).splitlines()
    assert lines[2].endswith("tanh(x)    # model.py:12")
    assert lines[3].endswith("neg(tanh)    # model.py:12, by grad")
    assert lines[4].endswith("tanh(neg)    # by fold constants")
    back = parse_program(format_program(program))
    assert [(p.source, p.made_by) for p in back.operators] == [
        (Source("model.py", 12, ""), ""),
        (Source("model.py", 12, ""), "grad"),
        (None, "fold constants"),
    ]


def test_an_operator_and_a_block_print_alone(call_op):
    program = nested(1)
    operator = program.operators[0]
    assert str(operator).startswith("test_call: float32[N] = test_call(x, w) {    # ")
    assert str(operator).endswith("\n}")
    assert (
        str(operator.blocks["body"]).splitlines()[0] == "block(x_1: float32[N], w_1: float32[]) {"
    )
    assert str(program) == format_program(program)


def test_str_is_attached_by_importing_the_module():
    code = (
        "from noria.ir.text import format_program; from noria.ir.program import Program;"
        "print(Program('empty'), end='')"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout == "program empty {\n}\n"


def test_an_op_that_is_not_registered_prints_with_all_its_attributes(own_ops):
    @op
    def test_gone(x, *, k=1, a=2):
        return x

    program = Program("p")
    with Builder(program) as b:
        finish(program, out=test_gone(b.input("x", ()), k=1))
    assert "test_gone(x)" in format_program(program)
    del own_ops["test_gone"]
    assert "test_gone(x, a=2, k=1)" in format_program(program)
    refused(format_program(program), "unknown op 'test_gone'", "line 3, column 3")


def test_attributes_are_compared_with_their_default_by_type(own_ops):
    @op
    def test_defaults(x, *, flag=True, n=1, sizes=[1, 2], must):  # noqa: B006
        return x

    program = Program("p")
    with Builder(program) as b:
        x = test_defaults(b.input("x", ()), flag=1, n=1.0, must=None)
        finish(program, out=test_defaults(x, sizes=(1, 2), must=True))
    assert [str(p).split(" = ")[1].split("  ")[0] for p in program.operators] == [
        "test_defaults(x, flag=1, n=1.0, must=null)",
        "test_defaults(test_defaults, must=true)",
    ]
    attrs = round_trip(program).operators[0].attrs
    assert type(attrs["flag"]) is int and type(attrs["n"]) is float


# ---- round trips -------------------------------------------------------------------------------


@pytest.mark.parametrize("sources", [True, False])
def test_programs_are_read_back(call_op, sources):
    for program in (Program("empty"), layered(), nested(5), chain(9)):
        round_trip(program, sources)


def test_what_is_read_back_computes_the_same():
    program, x = layered(), np.ones((2, 6), np.float32)
    back = round_trip(program)
    want, updates = run_program(program, {"x": x}, state_of_layered())
    got, again = run_program(back, {"x": x}, state_of_layered())
    np.testing.assert_array_equal(got["out"], want["out"])
    np.testing.assert_array_equal(again["fc.weight"], updates["fc.weight"])


def test_names_of_any_kind_are_read_back(call_op):
    names = ["input", "_", "a b", 'quo"ted', "né", "new\nline", "0", "x.y/z-1", "sha256", "#"]
    program = Program("the program {")
    with Builder(program) as b:
        total = b.input("x", ())
        for name in names:
            total = o.add(total, b.input(name, ()))
        finish(program, **{"return": total, "out put": emit_call(o.tanh, total)})
    assert list(round_trip(program).inputs) == ["x", *names]


def test_absent_inputs_are_read_back(own_ops):
    @op(outputs=("out", "more"))
    def test_optional(x, w=None, b=None):
        return x, x

    program = Program("p")
    with Builder(program) as b:
        x = b.input("x", (N,))
        _, more = test_optional(x, None, x)
        finish(program, out=test_optional(more)[0])
    first, second = format_program(program, sources=False).splitlines()[2:4]
    assert first.endswith("float32[N], float32[N] = test_optional(x, _, x)")
    assert second.endswith("= test_optional(test_optional.more)")
    first, second = round_trip(program).operators
    assert first.inputs == (first.inputs[0], None, first.inputs[0])
    assert second.inputs == (first.outputs[1], None, None)


def test_an_operator_without_outputs_is_read_back(own_ops):
    @op(effect="ordered")
    def test_send(*xs, tag=0):
        return ()

    program = Program("p")
    with Builder(program) as b:
        x = b.input("x", ())
        b.emit(test_send, [x, x], {"tag": 3})
        b.emit(test_send, [], {})
        finish(program, out=x)
    text = format_program(program, sources=False)
    assert "\n  test_send(x, x, tag=3)\n  test_send()\n" in text
    assert round_trip(program).operators[0].outputs == ()


def test_text_written_by_hand_is_read():
    program = parse_program(
        """# a comment
        program "my model" { input x : float32[ N ,2 ]   # the data
          y: float32[N,2] = clip( x , low = -1, high=2.5, )  # hello
          z:
            float32[N, 2] = tanh(y) output out=z }"""
    )
    verify(program)
    assert program.name == "my model" and program.outputs["out"].shape == (N, 2)
    clip = program.operators[0]
    assert clip.attrs == {"low": -1, "high": 2.5} and type(clip.attrs["low"]) is int
    assert clip.source is None and clip.made_by == ""


# ---- errors ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "match", "where"),
    [
        ("", "cannot read", "line 1, column 1"),
        ("model p {}", "cannot read", "line 1, column 1"),
        ("program p {", "cannot read", "line 1, column 12"),
        ("program p {} extra", "cannot read", "line 1, column 14"),
        (body("y: float32[N] = tanh(z)"), "'z' is not defined before", "line 3, column 24"),
        (body("x: float32[N] = tanh(x)"), "'x' is defined twice", "line 3, column 3"),
        (body("input x: float32[]"), "'x' is defined twice", "line 3, column 9"),
        (body("y: float32[N] = tahn(x)"), "unknown op 'tahn'", "line 3, column 3"),
        (body("y: float31[N] = tanh(x)"), "unknown dtype 'float31'", "line 3, column 6"),
        (body("y: float32[N,] = tanh(x)"), "cannot read a size", "line 3, column 13"),
        (body("y: float32[N] = clip(x, lo=1)"), "no attribute 'lo'", "line 3, column 3"),
        (body("y: float32[N] = clip(x, low=1, low=2)"), "given twice", "line 3, column 34"),
        (body("y: float32[N] = clip(low=1, x)"), "inputs come before", "line 3, column 31"),
        (body("y: float32[N] = constant()"), "needs the attribute 'value'", "line 3, column 3"),
        (body("y, z: float32[N] = tanh(x)"), "2 outputs have 1 specs", "line 3, column 20"),
        (body("y: float32[N] = tanh(x"), "cannot read", "line 4, column 1"),
        (body("y float32[N] = tanh(x)"), "cannot read", "line 3, column 5"),
        (body("output out = y"), "'y' is not defined", "line 3, column 16"),
        (body("output out = x", "output out = x"), "given twice", "line 4, column 3"),
        (body("update w = x"), "'w' is not a state", "line 3, column 3"),
        (body("state w: float32[] = fill(x)"), "cannot read", "line 3, column 30"),
        (body("return x"), "cannot read", "line 3, column 3"),
        (body("_: float32[N] = tanh(x)"), "cannot read", "line 3, column 3"),
    ],
)
def test_bad_text_is_refused_with_its_place(text, match, where):
    refused(text, match, where)


def test_blocks_are_closed_and_named_once(call_op):
    head = "y: float32[N] = test_call(x) {"
    refused(body(head, "body(v: float32[N]) { return x }", "}"), "'x' is not defined")
    one = "body(v: float32[N]) { return v }"
    refused(body(head, one, one, "}"), "block 'body' is given twice", "line 5, column 3")
    refused(body(head, "body(v: float32[N], v: float32[]) { return v }", "}"), "defined twice")
    refused(body(head, "body(v: float32[N]) { return v v }", "}"), "cannot read")
    refused(body(head, "body(v: float32[N]) { }", "}"), "cannot read")


def test_blocks_may_be_deep_but_not_endlessly(call_op):
    def text(depth):
        opening = "y: float32[N] = test_call(x) { body(x: float32[N]) {" * depth
        return body(opening, "return x } }" + "return y } }" * (depth - 1), "output out = y")

    parse_program(text(MAX_DEPTH))
    refused(text(MAX_DEPTH + 1), "blocks inside each other")
    refused(text(5000), "blocks inside each other")


def test_every_prefix_of_a_text_is_refused_but_the_whole(call_op):
    text = format_program(nested(2))
    for end in range(len(text) - 2):
        with pytest.raises(FormatError):
            parse_program(text[:end])
    parse_program(text)


def test_damaged_text_gives_a_program_or_a_format_error(call_op):
    text = format_program(nested(2))
    rng = np.random.default_rng(0)
    refusals = 0
    for _ in range(400):
        at, length = rng.integers(len(text)), rng.integers(0, 4)
        junk = "".join(rng.choice(list('{}()[],:="#_N19.x \n'), rng.integers(0, 4)))
        try:
            parse_program(text[:at] + junk + text[at + length :])
        except FormatError as error:
            assert error.where.startswith("line ")
            refusals += 1
    assert refusals > 100


def test_four_thousand_operators_are_printed_in_half_a_second():
    program = chain(4000)
    start = time.perf_counter()
    text = format_program(program)
    printed = time.perf_counter()
    parse_program(text)
    assert printed - start < 0.5 and time.perf_counter() - printed < 1.5


def test_a_value_that_prints_is_its_own_text():
    assert f"{Value('x', (N, 2))}" == "float32[N, 2]"
