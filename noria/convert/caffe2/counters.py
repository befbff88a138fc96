"""Counters: an integer that operators change in place.

The name of the counter stands for the new count from then on; one that the init net makes is state
and goes on counting from run to run.
"""

from __future__ import annotations

from typing import Any

from noria.convert.caffe2.handlers import Node, caffe2_op
from noria.core.errors import ArgumentError
from noria.ir.opdef import vocabulary as o


def _start(op: Node) -> Any:
    count = op.attr("init_count", 0)
    if count < 0:
        raise ArgumentError("a counter starts at 0 or more", got=str(count))
    return o.fill(shape=(), value=count, dtype="int64")


def _becomes(op: Node, count: Any) -> None:
    op.frame.blobs[op.inputs[0]] = count


@caffe2_op("CreateCounter")
def create_counter(op):
    return _start(op)


@caffe2_op("ResetCounter")
def reset_counter(op, count):
    """The count before."""
    _becomes(op, _start(op))
    return count


@caffe2_op("CountUp")
def count_up(op, count):
    """The count before."""
    _becomes(op, o.add(count, 1))
    return count


@caffe2_op("CountDown")
def count_down(op, count):
    """Whether the count was 0 or less before it went down."""
    _becomes(op, o.sub(count, 1))
    return o.less_equal(count, 0)


@caffe2_op("RetrieveCount")
def retrieve_count(op, count):
    return o.identity(count)


@caffe2_op("CheckCounterDone")
def check_counter_done(op, count):
    return o.less_equal(count, 0)
