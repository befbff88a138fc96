"""Sources to functions: memory, disk, compiler; threads; a warm start without Numba."""

import textwrap
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from noria.core.errors import EngineError
from noria.kernels.numba import jit, lower


def constant(n):
    return f"def kernel(args):\n    return {n}\n", "kernel"


def test_the_same_text_gives_the_same_function(cold):
    first = jit.compile_source(*constant(5))
    assert first(0) == 5 and first.name == "kernel" and first.address
    assert jit.compile_source(*constant(5)) is first
    assert jit.compile_source(*constant(6)) is not first


def test_a_source_may_hold_several_functions(cold):
    text = "def one(args):\n    return 1\n\n\ndef two(args):\n    return 2\n"
    assert [f(0) for f in jit.compile_many([(text, "one"), (text, "two")])] == [1, 2]


def test_the_argument_is_passed_through_whole(cold):
    kernel = jit.compile_source("def kernel(args):\n    return args\n", "kernel")
    for value in (0, 1, -1, 2**62, -(2**63)):
        assert kernel(value) == value


def test_stats_count_what_was_compiled_and_what_was_loaded(cold, monkeypatch):
    before = jit.stats()
    jit.compile_many([constant(1), constant(2), constant(1)])
    after = jit.stats()
    assert (after.compiled - before.compiled, after.loaded - before.loaded) == (2, 0)
    assert after.seconds > before.seconds
    monkeypatch.setattr(jit, "_functions", {})
    jit.compile_many([constant(1), constant(2)])
    warm = jit.stats()
    assert (warm.compiled, warm.loaded) == (after.compiled, after.loaded + 2)


def test_all_hits_are_loaded_before_the_first_miss_is_compiled(cold, monkeypatch):
    jit.compile_many([constant(2), constant(4)])
    monkeypatch.setattr(jit, "_functions", {})
    known = []
    compile_object = lower.compile_object

    def watch(*args):
        known.append(sorted(text for (text, _), f in jit._functions.items() if f._address))
        return compile_object(*args)

    monkeypatch.setattr(lower, "compile_object", watch)
    wanted = [constant(n) for n in (1, 2, 3, 4)]
    assert [f(0) for f in jit.compile_many(wanted)] == [1, 2, 3, 4]
    hits = sorted([constant(2)[0], constant(4)[0]])
    assert known[0] == hits and len(known) == 2


def test_threads_that_want_one_kernel_compile_it_once(cold):
    before = jit.stats().compiled
    functions = []
    start = threading.Barrier(6)

    def ask(n):
        start.wait()
        functions.append(jit.compile_source(*constant(100 + n % 2)))

    threads = [threading.Thread(target=ask, args=(n,)) for n in range(6)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert jit.stats().compiled - before == 2
    assert sorted(f(0) for f in functions) == [100] * 3 + [101] * 3
    assert len({f.address for f in functions}) == 2


def test_a_kernel_that_does_not_compile_leaves_the_others_usable(cold):
    with pytest.raises(EngineError, match="cannot compile"):
        jit.compile_many([constant(1), ("def kernel(args):\n    return x\n", "kernel")])
    assert jit.compile_source(*constant(1))(0) == 1
    assert jit.compile_source(*constant(2))(0) == 2


def test_deferred_functions_have_no_address_until_all_are_compiled(cold):
    known = jit.compile_source(*constant(1))
    with jit.deferred() as missing:
        late = jit.compile_source(*constant(2))
        assert (late.address, known.address) == (0, known._address)
        assert jit.compile_source(*constant(2)).address == 0
    assert set(missing) == {constant(2)} and late._address == 0
    jit.compile_many(missing)
    assert late.address and late(0) == 2 and jit.compile_source(*constant(2)) is late


def test_a_deferred_function_that_is_called_is_compiled_at_once(cold):
    with jit.deferred() as missing:
        assert jit.compile_source(*constant(2))(0) == 2
    assert missing == []


def test_what_the_cache_has_is_not_deferred(cold, monkeypatch):
    jit.compile_source(*constant(1))
    monkeypatch.setattr(jit, "_functions", {})
    with jit.deferred() as missing:
        assert jit.compile_source(*constant(1)).address
    assert missing == []


def test_a_deferred_function_that_does_not_compile_says_so_when_it_is_wanted(cold):
    with jit.deferred() as missing:
        wrong = jit.compile_source("def kernel(args):\n    return x\n", "kernel")
        assert wrong.address == 0
    for ask in (lambda: jit.compile_many(missing), lambda: wrong.address, lambda: wrong(0)):
        with pytest.raises(EngineError, match="cannot compile"):
            ask()


WARM = """
    import sys
    from noria.kernels.numba import jit, parallel
    from noria.kernels.call import Call
    from noria.runtime.tape import Tape

    text = "def kernel(args):\\n store_float32(args, 0, exp(load_float32(args, 0)))\\n return 0"
    kernel = jit.compile_source(text, "kernel")
    call = Call("exp", kernel.address, (0, 0, 0, 0), kernel)
    Tape([parallel.parallel(call, threads=2)])
    Tape([]).run()
    Tape([]).run_timed()
    stats = jit.stats()
    print(stats.compiled, stats.loaded, "numba" in sys.modules)
"""


def test_a_second_process_compiles_nothing_and_does_not_import_numba(tmp_path, fresh_python):
    where = {"NORIA_CACHE": str(tmp_path)}
    assert fresh_python(WARM, **where) == "5 0 True"
    assert fresh_python(WARM, **where) == "0 5 False"


def test_processes_that_start_together_fill_one_cache(tmp_path, fresh_python):
    where = {"NORIA_CACHE": str(tmp_path)}
    with ThreadPoolExecutor(2) as pool:
        told = list(pool.map(lambda _: fresh_python(WARM, **where).split(), range(2)))
    assert [int(compiled) + int(loaded) for compiled, loaded, _ in told] == [5, 5]
    assert fresh_python(WARM, **where) == "0 5 False"
    assert not list(tmp_path.glob("kernels/.*"))


def test_another_cpu_or_version_does_not_use_the_code(tmp_path, fresh_python):
    """The key holds them: changing one makes every kernel a miss."""
    where = {"NORIA_CACHE": str(tmp_path)}
    fresh_python(WARM, **where)
    for changed in (
        "from noria.kernels.numba import cache; name = cache.cpu()[0];"
        "cache.cpu = lambda: (name, '+something')",
        "from importlib import metadata; old = metadata.version;"
        "metadata.version = lambda p: '0' if p == 'llvmlite' else old(p)",
    ):
        assert fresh_python(textwrap.dedent(changed) + textwrap.dedent(WARM), **where) == "5 0 True"


def test_kernels_run_where_no_cache_can_be_written(tmp_path, fresh_python):
    occupied = tmp_path / "file"
    occupied.write_text("not a folder")
    for place in (occupied, "/proc/nowhere"):
        assert fresh_python(WARM, NORIA_CACHE=str(place)) == "5 0 True"
    assert occupied.read_text() == "not a folder"


def test_a_kernel_that_calls_a_missing_library_function_is_refused(cold, monkeypatch):
    text = (
        "def kernel(args):\n    store_float64(args, 0, tanh(load_float64(args, 0)))\n    return 0\n"
    )
    monkeypatch.setattr(jit.loader, "missing", lambda names: [n for n in names if n == "tanh"])
    with pytest.raises(EngineError, match="calls what no library here has") as caught:
        jit.compile_source(text, "kernel")
    assert caught.value.got == "tanh"
    assert not list(cold.glob("*"))
