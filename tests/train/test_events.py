"""Judged by TensorBoard's own readers."""

from __future__ import annotations

import builtins
import math
import os
import struct
import subprocess
import sys
import threading
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest

from noria.core.errors import ArgumentError, EngineError, ExtraMissing
from noria.train import events as module
from noria.train.events import EventWriter

pytest.importorskip("tensorboard", reason="tensorboard (extra viz) is not installed")


def accumulated(directory: Path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    accumulator = EventAccumulator(str(directory), size_guidance={"scalars": 0, "histograms": 0})
    return accumulator.Reload()


def scalars(directory: Path, tag: str) -> list[tuple[int, float]]:
    return [(event.step, event.value) for event in accumulated(directory).Scalars(tag)]


def test_scalars_are_read_back(tmp_path: Path) -> None:
    with EventWriter(tmp_path / "deep" / "run") as events:
        for step in range(5):
            events.scalar("train/loss", 1 / (step + 1), step)
        events.scalar("accuracy", np.float32(0.5), 2**40)
    assert accumulated(tmp_path / "deep" / "run").Tags()["scalars"] == ["train/loss", "accuracy"]
    found = scalars(tmp_path / "deep" / "run", "train/loss")
    assert [step for step, _ in found] == [0, 1, 2, 3, 4]
    np.testing.assert_allclose([value for _, value in found], 1 / np.arange(1, 6), rtol=1e-7)
    assert scalars(tmp_path / "deep" / "run", "accuracy") == [(2**40, 0.5)]


@pytest.mark.parametrize(
    "value",
    [2, True, np.int64(2), np.array(2.0), np.array([[2]]), ml_dtypes.bfloat16(2), math.inf],
)
def test_any_single_number_is_a_scalar(tmp_path: Path, value: object) -> None:
    with EventWriter(tmp_path) as events:
        events.scalar("x", value, np.int64(3))
    assert scalars(tmp_path, "x") == [(3, float(value.item() if hasattr(value, "item") else value))]


def test_nan_is_kept(tmp_path: Path) -> None:
    with EventWriter(tmp_path) as events:
        events.scalar("x", float("nan"), 0)
    assert math.isnan(scalars(tmp_path, "x")[0][1])


def test_histogram_is_read_back(tmp_path: Path) -> None:
    values = np.random.default_rng(0).normal(size=(100, 20)).astype(np.float32)
    with EventWriter(tmp_path) as events:
        events.histogram("weights", values, 7, bins=10)
    (event,) = accumulated(tmp_path).Histograms("weights")
    found = event.histogram_value
    counts, edges = np.histogram(values.astype(np.float64), 10)
    assert event.step == 7
    assert (found.num, found.min, found.max) == (2000, values.min(), values.max())
    assert found.sum == pytest.approx(values.astype(np.float64).sum())
    assert found.sum_squares == pytest.approx(np.square(values.astype(np.float64)).sum())
    assert found.bucket == counts.tolist()
    assert found.bucket_limit == pytest.approx(edges[1:])


@pytest.mark.parametrize(
    ("values", "num"),
    [
        ([], 0),
        ([math.nan, math.inf], 0),
        ([1.0, math.nan, -math.inf], 1),
        ([3.0, 3.0], 2),
        ([1.0, 1.0 + 2e-16], 2),
        ([0.0, 5e-324], 2),
        ([-1e308, 1e308], 2),
        ([True, False, True], 3),
        (np.arange(4).astype(ml_dtypes.bfloat16), 4),
    ],
)
def test_odd_histograms_are_written(tmp_path: Path, values: object, num: int) -> None:
    with EventWriter(tmp_path) as events:
        events.histogram("x", values, 0)
    found = accumulated(tmp_path).Histograms("x")[0].histogram_value
    assert found.num == num
    assert sum(found.bucket) == num


def test_text_is_read_back(tmp_path: Path) -> None:
    from tensorboard.util.tensor_util import make_ndarray

    with EventWriter(tmp_path) as events:
        events.text("notes", "# größer\n* ok", 1)
    found = accumulated(tmp_path)
    (event,) = found.Tensors("notes")
    assert make_ndarray(event.tensor_proto).item().decode() == "# größer\n* ok"
    assert found.SummaryMetadata("notes").plugin_data.plugin_name == "text"


def test_present_readers_understand_all_kinds(tmp_path: Path) -> None:
    """The path of the TensorBoard server: old forms are migrated, each kind has its plugin."""
    from tensorboard.backend.event_processing.plugin_event_multiplexer import EventMultiplexer

    with EventWriter(tmp_path / "run") as events:
        events.scalar("s", 1.5, 0)
        events.histogram("h", [1, 2, 2], 0, bins=2)
        events.text("t", "hello", 0)
    server = EventMultiplexer().AddRunsFromDirectory(str(tmp_path)).Reload()
    plugins = {
        tag: metadata.plugin_data.plugin_name
        for tag, metadata in server.AllSummaryMetadata()["run"].items()
    }
    assert plugins == {"s": "scalars", "h": "histograms", "t": "text"}


def test_flushed_events_are_seen_while_the_file_is_open(tmp_path: Path) -> None:
    with EventWriter(tmp_path) as events:
        events.scalar("x", 1, 0)
        assert accumulated(tmp_path).Tags()["scalars"] == []
        events.flush()
        assert scalars(tmp_path, "x") == [(0, 1)]


def test_events_are_flushed_as_time_passes(tmp_path: Path) -> None:
    with EventWriter(tmp_path, flush_seconds=0) as events:
        events.scalar("x", 1, 0)
        assert scalars(tmp_path, "x") == [(0, 1)]


def test_resumed_run_adds_a_file_that_is_read_after_the_others(tmp_path: Path) -> None:
    paths = []
    for run in range(12):  # all within one second
        with EventWriter(tmp_path) as events:
            events.scalar("x", run, run)
            paths.append(events.path)
    assert sorted(paths) == paths
    assert len(set(paths)) == 12
    assert scalars(tmp_path, "x") == [(run, run) for run in range(12)]


def test_two_writers_at_once_never_share_a_file(tmp_path: Path) -> None:
    paths = []

    def write() -> None:
        with EventWriter(tmp_path) as events:
            paths.append(events.path)

    threads = [threading.Thread(target=write) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(paths)) == 8


def test_resume_step_hides_what_was_written_past_the_checkpoint(tmp_path: Path) -> None:
    with EventWriter(tmp_path) as events:
        for step in range(6):
            events.scalar("x", step, step)
    with EventWriter(tmp_path, resume_step=3) as events:
        for step in range(3, 5):
            events.scalar("x", step * 10, step)
    assert scalars(tmp_path, "x") == [(0, 0), (1, 1), (2, 2), (3, 30), (4, 40)]


def test_record_cut_by_a_crash_is_skipped_by_the_reader(tmp_path: Path) -> None:
    with EventWriter(tmp_path) as events:
        events.scalar("x", 1, 0)
        events.scalar("x", 2, 1)
    os.truncate(events.path, events.path.stat().st_size - 5)
    assert scalars(tmp_path, "x") == [(0, 1)]


def test_threads_write_whole_records(tmp_path: Path) -> None:
    with EventWriter(tmp_path, flush_seconds=0) as events:

        def write(name: int) -> None:
            for step in range(50):
                events.scalar(f"x{name}", step, step)

        threads = [threading.Thread(target=write, args=(n,)) for n in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    for name in range(3):
        assert len(scalars(tmp_path, f"x{name}")) == 50


def test_sum_is_crc32c_of_the_standard() -> None:
    assert module._crc32c(bytes(32)) == 0x8A9136AA  # RFC 3720, B.4
    assert module._crc32c(b"123456789") == 0xE3069283
    assert struct.unpack("<I", module._masked_crc(b""))[0] == 0xA282EAD8


def test_import_stays_narrow() -> None:
    code = """
import sys, tempfile
from noria.train.events import EventWriter
assert "tensorboard" not in sys.modules
with tempfile.TemporaryDirectory() as place, EventWriter(place) as events:
    events.scalar("x", 1, 0); events.text("t", "a", 0)
wide = {"tensorboard.summary", "tensorboard.compat.tensorflow_stub", "tensorflow", "fsspec"}
print(sorted(wide & set(sys.modules)))
"""
    ran = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=True
    )
    assert ran.stdout == "[]\n"


def test_missing_tensorboard_names_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = builtins.__import__

    def missing(name: str, *rest: object):
        if name.startswith("tensorboard"):
            raise ImportError(name)
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", missing)
    with pytest.raises(ExtraMissing, match="needs the package 'tensorboard'") as info:
        EventWriter(tmp_path)
    assert info.value.hint == "pip install 'noria[viz]'"
    assert list(tmp_path.iterdir()) == []


def test_senseless_values_are_errors_and_write_nothing(tmp_path: Path) -> None:
    with EventWriter(tmp_path) as events:
        with pytest.raises(ArgumentError, match="'x' is not one number"):
            events.scalar("x", [1, 2], 0)
        with pytest.raises(ArgumentError, match="'x' is not one number"):
            events.scalar("x", "much", 0)
        with pytest.raises(ArgumentError, match="'x' is not numeric"):
            events.histogram("x", ["a"], 0)
        with pytest.raises(ArgumentError, match="at least one bin"):
            events.histogram("x", [1], 0, bins=0)
        for step in (-1, 1.5, None, 2**63):
            with pytest.raises(ArgumentError, match="a step must be an integer"):
                events.scalar("x", 1, step)
        with pytest.raises(ArgumentError, match="a tag must be"):
            events.scalar("", 1, 0)
    assert accumulated(tmp_path).Tags()["scalars"] == []


def test_closed_writer_refuses_and_closes_twice(tmp_path: Path) -> None:
    events = EventWriter(tmp_path)
    events.close()
    events.close()
    with pytest.raises(EngineError, match="writer is closed"):
        events.scalar("x", 1, 0)
    with pytest.raises(EngineError, match="writer is closed"):
        events.flush()


def test_directory_that_is_a_file_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(ArgumentError, match="not a directory"):
        EventWriter(tmp_path / "file")
    with pytest.raises(EngineError, match="a part of the path is a file"):
        EventWriter(tmp_path / "file" / "run")


def test_full_disk_is_an_engine_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if not os.path.exists("/dev/full"):
        pytest.skip("no /dev/full here")
    events = EventWriter(tmp_path)
    events._file.close()
    events._file = open("/dev/full", "wb")  # noqa: SIM115
    events.scalar("x", 1, 0)
    with pytest.raises(EngineError, match="disk full"):
        events.flush()
    with pytest.raises(EngineError, match="disk full"):
        events.close()
    events.close()
