from bench.machine import cores


def siblings(folder, groups):
    for group in groups:
        for cpu in group:
            at = folder / f"cpu{cpu}" / "topology"
            at.mkdir(parents=True)
            (at / "thread_siblings_list").write_text(",".join(map(str, group)))
    return folder


def test_threads_get_a_core_each(tmp_path):
    cpus = siblings(tmp_path, [(0, 1), (2, 3)])
    assert cores({0, 1, 2, 3}, 2, cpus) == {0, 2}
    assert cores({1, 2, 3}, 2, cpus) == {1, 2}


def test_where_there_are_fewer_cores_they_share(tmp_path):
    cpus = siblings(tmp_path, [(0, 1)])
    assert cores({0, 1}, 2, cpus) == {0, 1}
    assert cores({1}, 2, cpus) == {1}


def test_without_a_topology_each_processor_is_a_core(tmp_path):
    assert cores({3, 5, 7}, 2, tmp_path) == {3, 5}
