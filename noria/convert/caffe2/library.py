"""Every family of handlers, each imported once: importing this registers them."""

from noria.convert.caffe2 import (
    activation,
    conv,
    detection,
    encode,
    fills,
    linear,
    loss,
    math,
    norm,
    optimizer,
    reduce,
    segments,
    sequences,
    shape,
    vision,
)

FAMILIES = (
    activation,
    conv,
    detection,
    encode,
    fills,
    linear,
    loss,
    math,
    norm,
    optimizer,
    reduce,
    segments,
    sequences,
    shape,
    vision,
)
