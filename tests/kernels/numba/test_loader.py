"""Object code into the process, and the process without libgomp."""

import ctypes

import pytest

from noria.kernels.numba import jit, loader, lower

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
    parallel.set_threads(4)
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
