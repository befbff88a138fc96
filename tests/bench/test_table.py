import statistics

import pytest

from bench import table
from bench.workloads import WORKLOADS


def engine(*rounds, mb=100.0):
    seconds = statistics.median(rounds)
    return {
        "seconds": seconds,
        "rounds_s": rounds,
        "peak_rss_mb": mb,
        "compile_s": 1.0,
        "build_s": 0.1,
    }


def row(name="mlp_train", peak=1e12, **engines):
    return table.Row(WORKLOADS[name], engines, peak)


def test_the_ratio_is_to_the_best_rival():
    r = row(noria=engine(0.001), torch=engine(0.002, mb=50), jax=engine(0.003, mb=40))
    assert r.best == "torch" and r.leanest == "jax"
    assert r.ratio == pytest.approx(2)
    assert r.reached is True  # 1.25 is asked
    assert r.cells()[1:6] == [
        "128,000 samples/s",
        "64,000 samples/s (torch)",
        "2",
        "1.25",
        "reached",
    ]


def test_rounds_are_compared_in_pairs():
    slow_twice = row(
        noria=engine(1.0, 2.0, 2.0), torch=engine(1.4, 2.8, 2.6), jax=engine(1.5, 3.0, 1.6, 9.0)
    )
    assert slow_twice.ratio_to("torch") == pytest.approx(1.4)
    assert slow_twice.ratio_to("jax") == pytest.approx(1.5)  # of three rounds: noria has no fourth
    assert slow_twice.best == "torch" and slow_twice.ratio == pytest.approx(1.4)


def test_without_noria_the_best_rival_is_the_fastest():
    assert row(torch=engine(2.0), jax=engine(1.0)).best == "jax"


def test_percent_of_the_floor_counts_operations():
    r = row(noria=engine(0.001), torch=engine(0.002))
    assert r.floor("noria") == pytest.approx(100 * WORKLOADS["mlp_train"].operations / 1e9)
    assert r.floor("torch") == pytest.approx(r.floor("noria") / 2)
    assert row(noria=engine(1), peak=None).floor("noria") is None


def test_times_are_shown_as_times():
    r = row("resnet50_infer_bs1", noria=engine(0.025), openvino=engine(0.02))
    assert r.cells()[1:3] == ["25 ms", "20 ms (openvino)"]
    assert r.reached is False


@pytest.mark.parametrize(
    ("engines", "shown"),
    [
        ({"noria": {"absent": "not yet"}, "torch": engine(1)}, "not yet"),
        ({"noria": {"failed": "no memory"}, "torch": engine(1)}, "failed"),
        ({"torch": engine(1)}, "not run"),
    ],
)
def test_what_noria_cannot_run_is_told(engines, shown):
    r = row(**engines)
    assert r.cells()[1] == shown and r.ratio is None and r.reached is None
    assert len(r.cells()) == len(table.COLUMNS)


def test_a_row_without_rivals_that_work():
    r = row(noria=engine(1), torch={"failed": "gone"}, jax={"absent": "does not run this"})
    assert r.best is None and r.ratio is None
    assert len(r.cells()) == len(table.COLUMNS)
    results = {"workloads": {"mlp_train": {"engines": r.engines}}}
    assert table.problems(results) == ["mlp_train: torch failed: gone"]


def test_parts_keep_to_limits_from_above_or_below():
    part = {"value": 0.5, "unit": "s", "goal": 1, "lower_is_better": True}
    assert table.part_cells("x", part) == ["x", "0.5 s", "≤ 1", "reached"]
    assert table.part_cells("x", {**part, "lower_is_better": False})[3] == "missed"
    assert table.part_cells("x", {**part, "goal": None})[2:] == ["", ""]


def test_markdown_has_a_line_a_row():
    text = table.markdown(("a", "b"), [["1", "2"], ["3", "4"]])
    assert text == "| a | b |\n| --- | --- |\n| 1 | 2 |\n| 3 | 4 |"
