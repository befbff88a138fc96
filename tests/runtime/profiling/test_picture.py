"""The step at one glance, from rows of known numbers."""

from types import SimpleNamespace
from xml.etree import ElementTree

import pytest

from noria.runtime.profiling.picture import color_of, nearness, picture
from noria.runtime.profiling.rows import Row
from tests.runtime.profiling.machine import MACHINE

SVG = "{http://www.w3.org/2000/svg}"


def row(index, op, ms, floor, phase="forward", layer="a", **how):
    return Row(index, op, "k", [ms / 1e3], floor=floor / 1e3, phase=phase, layer=layer, **how)


ROWS = [
    row(0, "conv2d", 40, 40, layer="stage.0", operations=4e10),
    row(1, "relu", 10, 1, layer="", nbytes=1e7),
    row(2, "update", 1, 1, phase="update", layer="stage.0"),
    row(3, "conv2d_weight_grad", 48, 12, phase="backward", layer="stage.0", operations=1e10),
    row(4, "feeds", 1, 0, phase="engine", layer=""),
]
PROFILE = SimpleNamespace(
    name="net", rows=ROWS, threads=2, peaks=MACHINE, seconds=0.1, accounted=0.1, floor=0.054
)


def words(profile=PROFILE):
    root = ElementTree.fromstring(picture(profile, "A <net>"))
    return [e.text for e in root.iter(f"{SVG}text")]


def test_each_kind_is_billed_with_its_share_of_the_limit():
    told = words()
    assert "A <net>" in told
    assert "conv2d" in told and "conv2d_weight_grad" in told
    at = told.index("conv2d_weight_grad")
    assert told[at + 1 : at + 6] == ["48.0", "48.0%", "25%", "products", "208 GF/s"]
    at = told.index("relu")
    assert told[at + 4] == "memory"


def test_the_course_names_phases_and_layers():
    told = words()
    course = told[: told.index("100.0 ms")]
    assert {"forward", "backward", "stage", "stage.0"} <= set(course)
    assert "update" not in course  # too narrow for a word


def test_stripes_are_as_wide_as_their_time_and_have_its_colour():
    root = ElementTree.fromstring(picture(PROFILE))
    stripes = [e for e in root.iter(f"{SVG}rect") if e.get("height") == "64.00"]
    widths = [float(e.get("width")) for e in stripes]
    assert widths[1] / widths[2] == pytest.approx(4, rel=1e-3)  # feeds come first
    assert [e.get("fill") for e in stripes][1] == color_of(1) == "#4575b4"
    assert stripes[4].get("fill") == color_of(0.25)


def test_colours_go_from_far_to_near():
    assert (color_of(0), color_of(-1), color_of(0.5), color_of(2)) == (
        *("#d73027", "#d73027", "#fee090", "#4575b4"),
    )


def test_nearness_of_rows_is_weighted_by_their_time():
    assert nearness(ROWS[:2]) == pytest.approx(41 / 50)
    assert nearness([row(0, "x", 1, 5)]) == 1 and nearness([]) == 1


def test_many_kinds_are_cut():
    rows = [row(i, f"op{i}", 20 - i, 1) for i in range(20)]
    told = words(SimpleNamespace(**{**vars(PROFILE), "rows": rows}))
    assert "others ×8" in told and "op11" in told and "op12" not in told


def test_a_profile_without_rows_can_be_drawn():
    assert words(SimpleNamespace(**{**vars(PROFILE), "rows": [], "accounted": 0.0}))
