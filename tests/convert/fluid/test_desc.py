import pytest

from noria.convert.fluid.desc import blocks_of
from noria.convert.messages import schema
from noria.core.errors import FormatError


def program(*inner: list[int]):
    """A program whose block k runs the blocks of inner[k]."""
    message = schema("fluid").ProgramDesc()
    for k, run in enumerate(inner):
        block = message.blocks.add(idx=k, parent_idx=max(0, k - 1))
        for index in run:
            step = block.ops.add(type="while")
            step.attrs.add(name="sub_block", type=8, block_idx=index)
    return message


def test_attributes_have_their_python_types():
    message = program([])
    step = message.blocks[0].ops.add(type="toy")
    step.attrs.add(name="f", type=1, f=0.1)
    step.attrs.add(name="s", type=2, s=b"x")
    step.attrs.add(name="ints", type=3, ints=[1, 2])
    step.attrs.add(name="flags", type=7, bools=[True])
    step.inputs.add(parameter="X", arguments=["a", "@EMPTY@"])
    (found,) = blocks_of(message)[0].steps
    assert found.attrs == {"f": 0.1, "s": "x", "ints": (1, 2), "flags": (True,)}
    assert found.inputs == {"X": ["a"]}


def test_blocks_inside_blocks_are_found():
    blocks = blocks_of(program([1], [2], []))
    assert blocks[0].steps[0].blocks == (1,)


@pytest.mark.parametrize(
    "inner",
    [([1], [1]), ([1], [2], [1]), ([7],), ([0],), ([], [2], [1])],
    ids=["itself", "each other", "nowhere", "the main one", "apart"],
)
def test_blocks_that_contain_themselves_are_refused(inner):
    message = program(*inner)
    with pytest.raises(FormatError):
        blocks_of(message)


def test_blocks_nested_too_deep_are_refused():
    with pytest.raises(FormatError, match="nested too deep"):
        blocks_of(program(*([k + 1] for k in range(60)), []))


def test_a_shape_no_array_can_have_is_refused():
    message = program([])
    var = message.blocks[0].vars.add(name="x")
    var.type.type = 7
    var.type.lod_tensor.tensor.dims.append(1 << 62)
    with pytest.raises(FormatError, match="'x'"):
        blocks_of(message)


def test_a_program_without_blocks_is_refused():
    with pytest.raises(FormatError, match="blocks"):
        blocks_of(schema("fluid").ProgramDesc())
