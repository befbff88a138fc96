"""All handlers, by family: importing this module registers them."""

from noria.convert.fluid import math, sequences, structured

FAMILIES = (math, sequences, structured)
