"""All handlers, by family: importing this module registers them."""

from noria.convert.fluid import math

FAMILIES = (math,)
