from noria.core.flags import flags
from noria.passes.report import Report, collect, publish


def example():
    fired = ["add at m.py:1", "add at m.py:1", "mul at m.py:2"]
    return Report("some_pass", fired, [("relu at m.py:3", "x is used elsewhere")])


def test_reports_are_collected_in_order_by_the_innermost_collector():
    with collect() as outer:
        publish(Report("a"))
        with collect() as inner:
            publish(Report("b"))
        publish(Report("c"))
    publish(Report("d"))
    assert [r.name for r in outer] == ["a", "c"] and [r.name for r in inner] == ["b"]


def test_a_report_is_one_line_and_on_request_all_lines():
    assert str(example()) == "some_pass: fired 3, declined 1"
    assert example().lines() == [
        "some_pass: fired 3, declined 1",
        "  fired     add at m.py:1 (2 times)",
        "  fired     mul at m.py:2",
        "  declined  relu at m.py:3: x is used elsewhere",
    ]


def test_what_nearly_matched_is_printed_at_debug_level_five(capsys):
    with flags.set(debug=4):
        publish(example())
    assert capsys.readouterr().err == ""
    with flags.set(debug=5):
        publish(example())
    lines = capsys.readouterr().err.splitlines()
    assert lines[-1] == "some_pass: declined  relu at m.py:3: x is used elsewhere"
    assert len(lines) == 3
