from collections import namedtuple

import pytest

from noria.core.structure import LEAF, flatten

Pair = namedtuple("Pair", "left right")


@pytest.mark.parametrize(
    ("structure", "count"),
    [
        (5, 1),
        (None, 0),
        ((), 0),
        ((1, [2, 3], {"a": 4, "b": (5,)}), 5),
        ([None, 1, None], 1),
        (Pair(1, Pair(2, [3])), 3),
        ({"x": None, "y": {}}, 0),
    ],
)
def test_a_structure_is_taken_apart_and_put_together_again(structure, count):
    leaves, form = flatten(structure)
    assert len(leaves) == form.count == count
    again = form.build(leaves)
    assert again == structure and type(again) is type(structure)


def test_leaves_can_be_exchanged():
    _, form = flatten((1, {"a": 2}))
    assert form.build(["x", "y"]) == ("x", {"a": "y"})


def test_another_number_of_leaves_is_refused():
    _, form = flatten((1, 2))
    with pytest.raises(ValueError, match="3 leaves for a structure of 2"):
        form.build([1, 2, 3])


def test_forms_tell_kinds_apart_and_ignore_the_order_of_a_dict():
    assert flatten((1, 2))[1] == flatten((3, 4))[1]
    assert flatten((1, 2))[1] != flatten([1, 2])[1]
    assert flatten(1)[1] == LEAF != flatten(None)[1]
    assert flatten({"b": 1, "a": 2})[1] == flatten({"a": 3, "b": 4})[1]
    assert flatten({"b": 1, "a": 2})[0] == [2, 1]
    assert flatten({1: 1, "a": 2})[0] == [1, 2]
    assert flatten(Pair(1, 2))[1] != flatten((1, 2))[1]


def test_a_form_prints_with_a_star_for_each_leaf():
    assert str(flatten((1, {"h": 2, "c": [3]}, None))[1]) == "(*, {c: [*], h: *}, None)"
    assert str(flatten((1,))[1]) == "(*,)"


def test_paths_tell_how_a_leaf_is_reached():
    _, form = flatten((1, {"h": [2, 3]}))
    assert form.paths("carry") == ["carry[0]", "carry[1]['h'][0]", "carry[1]['h'][1]"]
    assert LEAF.paths("x") == ["x"]
