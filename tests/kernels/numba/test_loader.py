"""Object code into the process, and the process without libgomp."""

import ctypes

import pytest

from noria.core.flags import flags
from noria.kernels.numba import cache, jit, loader, lower

TEXT = """
def kernel(args):
    x = load_float64(args, 0)
    store_float64(args, 0, exp(x))
    return thread_id()
"""


def test_an_object_file_names_what_it_expects_elsewhere():
    code = lower.compile_object(TEXT, "kernel", "kernel_of_loader_test")
    assert set(code.externals) == {"exp", "omp_get_thread_num"}
    assert code.code[:4] == b"\x7fELF"


def test_missing_tells_names_that_nothing_defines():
    assert loader.missing(["exp", "memcpy", "GOMP_parallel"]) == []
    assert loader.missing(["exp", "no_such_function_anywhere"]) == ["no_such_function_anywhere"]


def test_the_cpu_has_a_name_and_features():
    name, features = loader.cpu()
    assert name and features.startswith(("+", "-"))


needs_x86 = pytest.mark.skipif(not loader.X86, reason="levels of x86-64")


def features(level):
    with flags.set(cpu=level):
        name, text = loader.cpu.__wrapped__()
    return name, {f[1:] for f in text.split(",") if f.startswith("+")}


@needs_x86
def test_a_level_is_a_generic_cpu_with_what_this_one_has_of_it():
    native = features("native")[1]
    older = [features(level) for level in ("avx2", "avx512", "avx512_bf16")]
    assert [name for name, _ in older] == ["x86-64-v3", "x86-64-v4", "x86-64-v4"]
    avx2, avx512, bf16 = (f for _, f in older)
    assert "avx2" in avx2 and avx2 <= avx512 <= bf16 <= native
    assert not any(f.startswith(("avx5", "avx10", "amx", "avxv")) for f in avx2)
    assert avx512 - avx2 <= {f"avx512{x}" for x in ("f", "bw", "cd", "dq", "vl")}
    assert bf16 - avx512 <= {"avx512vnni", "avx512bf16"}


@needs_x86
def test_a_level_has_a_cache_of_its_own(monkeypatch):
    names = []
    for level in ("native", "avx512_bf16", "avx512", "avx2"):
        with flags.set(cpu=level):
            monkeypatch.setattr(cache, "cpu", loader.cpu.__wrapped__)
            cache._surroundings.cache_clear()
            names.append(cache.key("text", "f"))
    monkeypatch.undo()
    cache._surroundings.cache_clear()
    assert len(set(names)) >= 3  # on a CPU of one of the levels two may be the same


CODE = """
    import re
    import textwrap
    from noria.kernels.numba import lower, tile_sizes

    text = '''
    def kernel(args):
        p, q, n = load_int64(args, 0), load_int64(args, 1), load_int64(args, 2)
        tile_6(p, q, p, args, n)
        tile_6_1(p, q, p, args, n)
        transpose_tile(p, n, q, n)
        for i in range(n):
            independent()
            x = exp(load_float16(p, i)) + tanh(load_bfloat16(q, i))
            store_bfloat16(q, i, x)
            store_float16(p, i, where(x > load_float32(q, i), x, float32(i)))
        return 0
    '''
    code = lower.assembly(textwrap.dedent(text), "kernel")
    wide = sorted(set(re.findall(r"%(?:zmm|k[0-7]|[xy]mm(?:1[6-9]|[23][0-9]))", code)))
    print(tile_sizes.WIDTH, "ymm" in code, wide)
"""


@needs_x86
def test_code_for_avx2_has_nothing_of_avx512(fresh_python):
    """No register of 64 bytes, none past the sixteenth, no mask."""
    assert fresh_python(CODE, NORIA_CPU="avx2") == "8 True []"


def test_openmp_is_the_library_onednn_links_to():
    library = loader.openmp()
    if library is None:
        pytest.skip("this system has no libgomp")
    address = ctypes.cast(library.GOMP_parallel, ctypes.c_void_p).value
    process = ctypes.CDLL("libgomp.so.1")
    assert ctypes.cast(process.GOMP_parallel, ctypes.c_void_p).value == address


WITHOUT = """
    import ctypes

    real = ctypes.CDLL

    def without(name, *args, **options):
        if name and "gomp" in name:
            raise OSError("not here")
        return real(name, *args, **options)

    ctypes.CDLL = without
    import numpy as np
    from noria.kernels.call import Call
    from noria.kernels.numba import jit, parallel
    from noria.runtime.tape import Tape

    assert parallel.thread_count() == 1
    text = '''
    def kernel(args):
        barrier()
        store_int64(args, thread_id(), team_size())
        return 0
    '''
    import textwrap
    kernel = jit.compile_source(textwrap.dedent(text), "kernel")
    table = np.zeros(2, np.int64)
    call = Call("k", kernel.address, (table.ctypes.data, 0, 0, 0), table)
    with parallel.team(4):
        assert parallel.thread_count() == 1
    assert parallel.parallel(call, bytes=1 << 40, threads=2) is call
    Tape([call]).run()
    print(table.tolist(), parallel.thread_count())
"""


def test_without_libgomp_everything_runs_on_one_thread(cold, fresh_python):
    assert fresh_python(WITHOUT) == "[1, 0] 1"


def test_code_loaded_twice_under_two_names_does_not_mix(cold):
    first = jit.compile_source("def kernel(args):\n    return 1\n", "kernel")
    second = jit.compile_source("def kernel(args):\n    return 2\n", "kernel")
    assert (first(0), second(0)) == (1, 2)
