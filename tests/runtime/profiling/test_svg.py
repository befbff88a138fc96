from xml.etree import ElementTree

import pytest

from noria.runtime.profiling.svg import Canvas, shortened, ticks


def test_a_canvas_is_well_formed_whatever_is_written_on_it():
    canvas = Canvas(10, 20, "<a> & b")
    canvas.rect(0, 0, 1, 1, "#fff", tip='"x" < y')
    canvas.text(0, 0, "<script>", bold=True)
    canvas.line(0, 0, 1, 1, dash="1 2")
    canvas.polygon([(0, 0), (1, 1), (0, 1)], "#000")
    root = ElementTree.fromstring(canvas.finish())
    assert root.get("viewBox") == "0 0 10 20"
    assert {'"x" < y', "<script>", "<a> & b"} <= set(root.itertext())


def test_what_has_no_size_is_not_drawn():
    canvas = Canvas(10, 20, "")
    before = canvas.finish()
    canvas.rect(0, 0, 0, 5, "#fff")
    canvas.rect(0, 0, 5, -1, "#fff")
    assert canvas.finish() == before


@pytest.mark.parametrize(
    ("largest", "found"),
    [
        (1.7, [0, 0.5, 1.0, 1.5]),
        (10, [0, 2, 4, 6, 8, 10]),
        (2400, [0, 500, 1000, 1500, 2000]),
        (0.007, [0, 0.002, 0.004, 0.006]),
        (0, [0]),
    ],
)
def test_ticks_are_round_numbers(largest, found):
    assert ticks(largest) == pytest.approx(found)


def test_text_is_shortened_to_the_room_there_is():
    assert shortened("short", 10, 100) == "short"
    assert shortened("a much longer text", 10, 51) == "a much l…"
    assert shortened("text", 10, 5) == ""
