"""Every family of handlers, each imported once: importing this registers them."""

from noria.convert.caffe2 import (
    activation,
    conv,
    fills,
    linear,
    math,
    norm,
    reduce,
    shape,
    vision,
)

FAMILIES = (activation, conv, fills, linear, math, norm, reduce, shape, vision)
