"""Models of Fluid (PaddlePaddle): programs and parameters in, parameters out.

program, state = fluid.load("inference.pdmodel")
fluid.write_folder("model", state)
"""

from noria.convert.fluid.handlers import Lod, Op, fluid_op
from noria.convert.fluid.load import load
from noria.convert.fluid.parameters import (
    read_combined,
    read_folder,
    read_parameter,
    write_combined,
    write_folder,
    write_parameter,
)
from noria.convert.fluid.reader import read_program

__all__ = [
    "Lod",
    "Op",
    "fluid_op",
    "load",
    "read_combined",
    "read_folder",
    "read_parameter",
    "read_program",
    "write_combined",
    "write_folder",
    "write_parameter",
]
