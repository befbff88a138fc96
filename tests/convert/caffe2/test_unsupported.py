"""What is not supported is told with its reason."""

import pytest

from noria.convert.caffe2 import library  # noqa: F401  (registers the handlers)
from noria.convert.caffe2.handlers import caffe2_op
from noria.convert.caffe2.reader import load, net_of_one_operator
from noria.convert.caffe2.unsupported import UNSUPPORTED
from noria.convert.handlers import UnsupportedOperators
from noria.ir.program import Spec


def test_what_is_supported_is_not_listed_as_unsupported() -> None:
    assert not set(caffe2_op.names()) & set(UNSUPPORTED)
    assert len(UNSUPPORTED) > 80


def test_who_meets_one_is_told_why() -> None:
    net = net_of_one_operator("Allreduce", {}, 1, 1)
    with pytest.raises(UnsupportedOperators, match="communication between processes"):
        load(None, net, {"x0": Spec((2,))})
