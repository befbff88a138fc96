"""All layers: importing this registers them."""

from noria.convert.caffe import (  # noqa: F401
    conv,
    detection,
    math,
    norm,
    shape,
)
