from noria.convert.fluid.handlers import fluid_op
from noria.convert.fluid.library import FAMILIES


def test_importing_the_library_registers_every_family():
    assert all(family.__name__.startswith("noria.convert.fluid.") for family in FAMILIES)
    assert fluid_op.find("elementwise_add") is not None
