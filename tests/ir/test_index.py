"""Uses and producers, computed from a block."""

from noria.ir.emit import Builder
from noria.ir.index import Index
from noria.ir.opdef import vocabulary as o
from noria.ir.program import Program, Value
from tests.ir.programs import finish


def diamond():
    """x -> a = tanh(x) -> b = a * a, c = a + x; output b, update w = c."""
    program = Program("p")
    with Builder(program) as b:
        x, w = b.input("x", (2,)), b.state("w", (2,))
        a = o.tanh(x)
        square, total = o.mul(a, a), o.add(a, x)
        finish(program, out=square)
        b.update(w, total)
    return program, x, w, a, square, total


def test_each_value_knows_its_producer():
    program, x, w, a, square, _ = diamond()
    index = Index(program.block)
    tanh, mul, _ = program.operators
    assert index.producer[a] is tanh and index.producer[square] is mul
    assert x not in index.producer and w not in index.producer


def test_users_come_once_each_and_in_order():
    program, x, w, a, square, _ = diamond()
    index = Index(program.block)
    tanh, mul, add = program.operators
    assert index.users[a] == [mul, add]
    assert index.users[x] == [tanh, add]
    assert index.users[square] == [] and index.users[w] == []
    assert w not in index.users


def test_reading_an_unused_value_changes_nothing():
    program, *_ = diamond()
    index = Index(program.block)
    unknown = Value("u", ())
    index.users[unknown].append(program.operators[0])
    assert index.users[unknown] == []


def test_positions_follow_the_block():
    program, *_ = diamond()
    index = Index(program.block)
    assert [index.position[operator] for operator in program.operators] == [0, 1, 2]


def test_uses_count_operands_and_roots():
    program, x, w, a, square, total = diamond()
    inner, whole = Index(program.block), Index(program.block, program.roots())
    assert (inner.use_count(a), inner.use_count(x), inner.use_count(w)) == (3, 2, 0)
    assert (inner.use_count(square), inner.use_count(total)) == (1, 0)
    assert (whole.use_count(square), whole.use_count(total)) == (1, 1)
    assert whole.roots == [square, total]


def test_an_index_is_a_snapshot():
    program, *_ = diamond()
    index = Index(program.block)
    program.operators.pop()
    assert len(index.position) == 3
