"""What a converter of a layer is given."""

import numpy as np
import pytest

from noria.convert.caffe.handlers import Layer, axis_of, known
from noria.convert.messages import schema
from noria.core.dims import symbol
from noria.core.errors import FormatError
from noria.ir.program import Value


def layer():
    message = schema("caffe").LayerParameter(name="fc", type="InnerProduct", top=["y"])
    return Layer(message, [np.zeros((1, 1, 2, 3), np.float32)], {})


def test_parameters_have_the_defaults_of_the_format():
    assert layer().param("convolution").bias_term and layer().param("inner_product").axis == 1


def test_arrays_of_old_files_take_the_shape_asked_for():
    assert layer().blob(0, "weight", (2, 3)).shape == (2, 3)
    with pytest.raises(FormatError, match="another size"):
        layer().blob(0, "weight", (2, 1 << 62))
    with pytest.raises(FormatError, match="no bias"):
        layer().blob(1, "bias")


def test_axes_and_sizes_are_checked():
    x = Value("x", (symbol("N"), 3))
    assert axis_of(layer(), -1, x) == 1 and known(3, layer(), "it") == 3
    with pytest.raises(FormatError, match="out of range"):
        axis_of(layer(), 2, x)
    with pytest.raises(FormatError, match="must be known"):
        known(x.shape[0], layer(), "it")
