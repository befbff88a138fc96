"""CPUs by affinity and quota, caches by what the system tells, on machines made of files."""

import os
import subprocess
import sys

import pytest

from noria.core import machine
from noria.core.machine import DEFAULT, LEAST, MOST, Caches

UNLIMITED = 1 << 30


@pytest.fixture
def groups(tmp_path):
    """groups("0::/a/b", {"a/cpu.max": "200000 100000"}): the quota of such a process."""

    def quota(told, limits):
        (tmp_path / "cgroup").write_text(told + "\n")
        for name, text in limits.items():
            path = tmp_path / "fs" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text + "\n")
        return machine.quota(str(tmp_path / "cgroup"), str(tmp_path / "fs"))

    return quota


@pytest.mark.parametrize(
    ("text", "cpus"),
    [
        ("200000 100000", 2),
        ("150000 100000", 2),
        ("5000 100000", 1),
        ("max 100000", UNLIMITED),
        ("100000 0", UNLIMITED),
        ("something", UNLIMITED),
        ("", UNLIMITED),
    ],
)
def test_a_containers_quota_counts(groups, text, cpus):
    assert groups("0::/", {"cpu.max": text}) == cpus


def test_the_smallest_limit_of_all_groups_around_the_process_counts(groups):
    limits = {"a/b/cpu.max": "max 100000", "a/cpu.max": "300000 100000", "cpu.max": "800000 100000"}
    assert groups("0::/a/b", limits) == 3


def test_a_path_of_the_host_means_the_root_inside_a_container(groups):
    assert groups("0::/docker/0123", {"cpu.max": "400000 100000"}) == 4


@pytest.mark.parametrize("told", ["4:cpu,cpuacct:/a", "4:cpu,cpuacct:/docker/0123\n3:memory:/x"])
def test_groups_of_the_first_version_count_too(groups, told):
    at = "cpu,cpuacct/a" if told.endswith("/a") else "cpu,cpuacct"
    limits = {f"{at}/cpu.cfs_quota_us": "250000", f"{at}/cpu.cfs_period_us": "100000"}
    assert groups(told, limits) == 3


def test_no_limit_of_the_first_version_is_none(groups):
    limits = {"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}
    assert groups("1:cpu:/", limits) == UNLIMITED


def test_a_system_that_tells_nothing_sets_no_limit(tmp_path):
    assert machine.quota(str(tmp_path / "absent"), str(tmp_path)) == UNLIMITED


def test_the_count_is_that_of_the_affinity_or_less_and_never_0(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 1, 5})
    for quota, count in ((UNLIMITED, 3), (2, 2), (0, 1)):
        monkeypatch.setattr(machine, "quota", lambda q=quota: q)
        assert machine.cpu_count() == count


def test_a_process_bound_to_one_cpu_has_one_thread():
    code = (
        "import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})\n"
        "from noria.kernels.numba.parallel import thread_count; print(thread_count())"
    )
    environment = {k: v for k, v in os.environ.items() if k != "NORIA_THREADS"}
    ran = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment
    )
    assert ran.stdout.strip() == "1"


# ---- caches --------------------------------------------------------------------------------------


@pytest.fixture
def cpu(tmp_path, monkeypatch):
    """cpu((level, type, size, CPUs that share it), ...): what `caches` tells of CPU 4."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {4, 5})

    def caches(*told):
        for i, values in enumerate(told):
            place = tmp_path / "cpu4" / "cache" / f"index{i}"
            place.mkdir(parents=True)
            names = ("level", "type", "size", "shared_cpu_list")
            for name, value in zip(names, values, strict=True):
                (place / name).write_text(f"{value}\n")
        return machine.caches(str(tmp_path))

    return caches


def test_sizes_are_those_of_the_system(cpu):
    told = cpu(
        (1, "Data", "48K", "4"),
        (1, "Instruction", "64K", "4"),
        (2, "Unified", "2048K", "4"),
        (3, "Unified", "32M", "0-7"),
    )
    assert told == Caches(48 << 10, 2 << 20, 32 << 20)


def test_siblings_share_the_caches_of_a_core(cpu):
    told = cpu(
        (1, "Data", "48K", "4,36"),
        (2, "Unified", "2048K", "4,36"),
        (3, "Unified", "32768K", "0-63"),
    )
    assert told == Caches(24 << 10, 1 << 20, 32 << 20)


def test_absent_and_odd_sizes_are_the_usual_ones(cpu):
    assert cpu() == DEFAULT


def test_odd_texts_are_passed_over(cpu):
    odd = [(1, "Data", "", "4"), (2, "Unified", "lots", "4"), ("x", "Unified", "8M", "4")]
    assert cpu(*odd, (3, "Unified", "8M", "?")) == Caches(*DEFAULT[:2], 8 << 20)


def test_blocks_are_not_cut_for_tiny_or_enormous_caches(cpu):
    assert cpu((1, "Data", "4K", "4"), (2, "Unified", "1M", "0-63"))[:2] == LEAST[:2]


def test_a_cache_of_a_gigabyte_counts_as_the_largest_that_means_something(cpu):
    assert cpu((3, "Unified", "1024M", "4")).last == MOST.last


def test_those_of_this_machine_are_within_the_bounds():
    for size, low, high in zip(machine.caches(), LEAST, MOST, strict=True):
        assert low <= size <= high


def test_memory_left_does_not_count_what_caches_files(tmp_path):
    unlimited = machine.memory_left(str(tmp_path / "absent"))
    (tmp_path / "memory.current").write_text("700\n")
    (tmp_path / "memory.stat").write_text("anon 300\ninactive_file 150\nactive_file 50\n")
    for limit, left in (("max", unlimited), ("1000", 500), ("400", 0)):
        (tmp_path / "memory.max").write_text(f"{limit}\n")
        assert machine.memory_left(str(tmp_path)) == left
    (tmp_path / "memory.stat").write_text("anon 300\n")
    assert machine.memory_left(str(tmp_path)) == unlimited > 1 << 60
