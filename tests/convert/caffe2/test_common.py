"""What handlers share."""

import numpy as np

from noria.convert.caffe2.common import as_rows, channels_first, channels_last, pullback
from noria.convert.caffe2.frame import Frame, Shared
from noria.convert.caffe2.handlers import Node
from noria.convert.caffe2.reader import net_of_one_operator
from noria.ir.emit import Builder
from noria.ir.opdef import vocabulary as o
from noria.ir.program import Program
from noria.runtime.executor import Executor


def test_layouts_turn_round() -> None:
    x = np.arange(24).reshape(1, 2, 3, 4)
    assert channels_first(x, True).shape == (1, 4, 2, 3)
    assert np.array_equal(channels_last(channels_first(x, True), True), x)
    assert channels_first(x, False) is x


def test_rows_begin_at_an_axis() -> None:
    with Builder(Program()):
        node = Node(net_of_one_operator("FC", {"axis": -1}, 0, 1).op[0], Frame(Shared(), {}))
    assert as_rows(node, np.zeros((2, 3, 4))).shape == (6, 4)


def test_an_input_without_a_part_in_the_output_has_a_gradient_of_zeros() -> None:
    program = Program()
    with Builder(program) as builder:
        x, y = builder.input("x", (2,)), builder.input("y", (3,))
        g = builder.constant(np.ones(2, np.float32))
        dx, dy = pullback(lambda a, b: o.square(a), [x, y], [g], [0, 1])
    program.outputs = {"dx": dx, "dy": dy}
    program.block.outputs = [dx, dy]
    found = Executor(program).run({"x": np.array([1, 3], "f4"), "y": np.ones(3, "f4")})
    assert found["dx"].tolist() == [2, 6] and found["dy"].tolist() == [0, 0, 0]
