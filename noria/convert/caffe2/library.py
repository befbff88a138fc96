"""Every family of handlers, each imported once: importing this registers them."""

from noria.convert.caffe2 import (
    fills as _fills,
)
from noria.convert.caffe2 import (
    linear as _linear,
)
from noria.convert.caffe2 import (
    math as _math,
)
from noria.convert.caffe2 import (
    reduce as _reduce,
)
from noria.convert.caffe2 import (
    shape as _shape,
)

FAMILIES = (_fills, _linear, _math, _reduce, _shape)
