"""Sizes of packed rows."""

import numpy as np

from noria.convert.caffe2.frame import Frame, Shared
from noria.convert.caffe2.handlers import Node
from noria.convert.caffe2.ragged import packed_size
from noria.convert.caffe2.reader import net_of_one_operator
from noria.core.dims import symbol
from noria.ir.emit import Builder
from noria.ir.program import Program


def test_a_packed_size_is_a_number_only_where_the_lengths_are_known() -> None:
    with Builder(Program()) as builder:
        x = builder.input("x", (symbol("N"),), "int32")
        frame = Frame(Shared([x]), {})
        node = Node(net_of_one_operator("LengthsRangeFill", {}, 1, 1).op[0], frame)
        assert packed_size(node, np.array([2, 0, 3])) == 5
        assert packed_size(node, x) == "packed"
        assert packed_size(node, x) == "packed_1"
