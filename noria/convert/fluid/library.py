"""All handlers, by family: importing this module registers them."""

from noria.convert.fluid import math, sequences, structured

FAMILIES = (math, sequences, structured)
from noria.convert.fluid import (
    loss,
    math,
    metric,
    optimizer,
    quantize,
)

FAMILIES = (
    loss,
    math,
    metric,
    optimizer,
    quantize,
)
