import pytest

from noria.core.errors import MissingError
from noria.ir.verify import verify
from noria.zoo.samples import SAMPLES, sample


@pytest.mark.parametrize("name", [n for n in SAMPLES if n != "resnet50"])
def test_every_sample_is_a_training_program_with_its_sizes(name):
    found = sample(name)
    program = found.program()
    verify(program)
    assert program.updates and "loss" in program.outputs and found.about
    symbols = {str(d) for v in program.block.inputs for d in v.shape if not isinstance(d, int)}
    assert symbols == set(found.sizes)


def test_an_unknown_name_is_told_with_those_there_are():
    with pytest.raises(MissingError, match="resnet50"):
        sample("resnet5")
