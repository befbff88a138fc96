"""The machine's peaks: measured, kept, and read back."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from noria.core.flags import flags
from noria.runtime.profiling import peaks as module
from noria.runtime.profiling.peaks import Peaks, measure, peaks

SMALL = Peaks("a machine", 1, {"float32": 1e9, "bfloat16": 2e9}, {1000: 8e9, 100_000: 2e9})


@pytest.fixture
def measured(monkeypatch, tmp_path):
    """Peaks without measuring; the list holds one entry for each measurement."""
    done = []

    def fake(threads):
        done.append(threads)
        return replace(SMALL, threads=threads)

    monkeypatch.setattr(module, "measure", fake)
    monkeypatch.setenv("NORIA_CACHE", str(tmp_path))
    return done


def test_a_measurement_gives_rates_of_this_machine():
    found = measure(1, side=64, memory=1 << 20)
    assert found.threads == 1 and found.machine
    assert found.products["float32"] > 1e6 and found.products["bfloat16"] > 1e6
    assert sorted(found.speeds) == [384 << 10, 1 << 20] and min(found.speeds.values()) > 1e6


def test_they_are_measured_once_and_kept(measured):
    assert peaks(2) == peaks(2) == replace(SMALL, threads=2)
    assert measured == [2]
    peaks(1)
    assert measured == [2, 1]


def test_a_fresh_measurement_keeps_the_better_numbers(measured, monkeypatch):
    peaks(1)
    worse = replace(SMALL, products={"float32": 9e8, "bfloat16": 3e9}, speeds={1000: 9e9})
    monkeypatch.setattr(module, "measure", lambda threads: worse)
    found = peaks(1, fresh=True)
    assert found.products == {"float32": 1e9, "bfloat16": 3e9} and found.speeds == {1000: 9e9}


def test_a_damaged_file_is_as_good_as_none(measured):
    peaks(1)
    (path,) = Path(flags.cache).glob("peaks-*.json")
    whole = json.loads(path.read_text())
    for text in ("", "[]", "{}", json.dumps({**whole, "speeds": {}}), path.read_text()[:40]):
        path.write_text(text)
        assert peaks(1) == SMALL
    assert measured == [1] * 6


def test_a_disk_that_cannot_be_written_is_no_cache(measured, monkeypatch):
    monkeypatch.setenv("NORIA_CACHE", "/dev/null/nowhere")
    assert peaks(1) == SMALL and peaks(1) == SMALL
    assert measured == [1, 1]


def test_the_floor_is_the_larger_of_moving_and_computing():
    assert SMALL.memory == 2e9
    assert SMALL.floor(1000, 0, "float32") == 1000 / 8e9
    assert SMALL.floor(1000, 1000, "float32") == 1e-6
    assert SMALL.floor(1000, 1000, "bfloat16") == 5e-7
    assert SMALL.floor(1000, 1000, "float64") == 1e-6  # not measured: as float32, a lower bound


def test_between_measured_sizes_bandwidth_falls_evenly_and_outside_it_stays():
    assert SMALL.bandwidth(10) == 8e9 and SMALL.bandwidth(1e9) == 2e9
    assert SMALL.bandwidth(10_000) == pytest.approx(5e9)


def test_bf16_arithmetic_on_float32_has_the_peak_of_bf16():
    with flags.set(fpmath="bf16"):
        assert SMALL.operations("float32") == 2e9
    assert SMALL.operations("float32") == 1e9
