import ctypes
import gc
import threading

import numpy as np
import pytest

from noria.core.errors import ArgumentError, EngineError
from noria.kernels.call import run
from noria.kernels.onednn import lib, primitive
from noria.kernels.onednn.attr import Attr, Eltwise
from noria.kernels.onednn.build_conv import convolution_forward
from noria.kernels.onednn.build_dense import matmul
from noria.kernels.onednn.enums import ARG
from noria.kernels.onednn.memory import MemDesc
from noria.kernels.onednn.window import Window


def small_matmul(m=5, k=7, n=3):
    return matmul(
        MemDesc((m, k), "float32"), MemDesc((k, n), "float32"), MemDesc((m, n), "float32")
    )


def room(p):
    """A buffer for each argument, and their addresses."""
    buffers = {arg: np.zeros(d.nbytes, np.uint8) for arg, d in p.descs.items()}
    return buffers, {arg: b.ctypes.data for arg, b in buffers.items()}


def test_descs_are_the_callers_own_where_it_keeps_them():
    a, b, c = (MemDesc(s, "float32") for s in ((5, 7), (7, 3), (5, 3)))
    p = matmul(a, b, c)
    assert p.descs[ARG.SRC] is a and p.descs[ARG.WEIGHTS] is b and p.descs[ARG.DST] is c
    assert ARG.BIAS not in p.descs


def test_a_layout_left_open_is_chosen():
    p = matmul(
        MemDesc((32, 40), "float32"), MemDesc.any((40, 64), "float32"), MemDesc((32, 64), "float32")
    )
    chosen = p.descs[ARG.WEIGHTS]
    assert not chosen.is_any and chosen.dims == (40, 64) and chosen.nbytes >= 40 * 64 * 4


def test_a_scratchpad_is_an_argument_only_where_it_is_needed():
    turned = MemDesc((64, 64), "float32", (1, 64))
    plain = MemDesc((64, 64), "float32")
    copying, direct = matmul(turned, plain, plain), small_matmul(1, 1, 1)
    assert copying.descs[ARG.SCRATCHPAD].nbytes == copying.scratch_bytes > 0
    assert (ARG.SCRATCHPAD in direct.descs) == (direct.scratch_bytes > 0)


def test_the_same_arguments_give_the_same_primitive():
    assert small_matmul() is small_matmul()
    assert small_matmul() is not small_matmul(m=6)
    d = MemDesc((5, 5), "float32")
    relu = Attr(post_ops=(Eltwise("relu"),))
    assert matmul(d, d, d, None, relu) is matmul(d, d, d, attr=Attr(post_ops=(Eltwise("relu"),)))
    assert matmul(d, d, d) is not matmul(d, d, d, attr=relu)


def test_another_number_of_threads_makes_another_primitive():
    gomp = ctypes.CDLL("libgomp.so.1")
    threads = lib.library().max_threads()
    here = small_matmul()
    try:
        gomp.omp_set_num_threads(threads + 1)
        assert small_matmul() is not here
    finally:
        gomp.omp_set_num_threads(threads)
    assert small_matmul() is here


def test_code_is_generated_at_the_first_call_only():
    p = small_matmul(m=11, k=13, n=17)
    assert p._compiled is None
    _, addresses = room(p)
    first, second = p.call(addresses), p.call(addresses)
    assert first.args[0] == second.args[0] == p.handle


def test_calls_of_one_primitive_are_independent():
    p = small_matmul()
    a, b = np.random.default_rng(0).standard_normal((2, 5, 7)).astype("f")
    w = np.ones((7, 3), "f")
    scratch = np.zeros(max(p.scratch_bytes, 1), np.uint8)
    outs = np.zeros((2, 5, 3), "f")
    fixed = {ARG.WEIGHTS: w.ctypes.data}
    if p.scratch_bytes:
        fixed[ARG.SCRATCHPAD] = scratch.ctypes.data
    calls = [
        p.call({ARG.SRC: x.ctypes.data, ARG.DST: o.ctypes.data, **fixed})
        for x, o in zip((a, b), outs, strict=True)
    ]
    for call in calls:
        run(call)
    np.testing.assert_allclose(outs, [a @ w, b @ w], rtol=1e-5)


def test_a_dropped_calls_arguments_serve_the_next_one():
    p = small_matmul(m=4)
    _, addresses = room(p)
    held = p.call(addresses)
    dropped = p.call(addresses)
    place = dropped.args[3]
    assert place != held.args[3]
    del dropped
    assert p.call(addresses).args[3] == place


def test_a_call_keeps_its_primitive_alive_when_all_is_forgotten():
    p = small_matmul(m=3, k=4, n=2)
    buffers, addresses = room(p)
    np.frombuffer(buffers[ARG.SRC], "f")[:] = 1
    np.frombuffer(buffers[ARG.WEIGHTS], "f")[:] = 2
    call = p.call(addresses)
    del p
    primitive._remembered.cache_clear()
    gc.collect()
    run(call)
    assert (np.frombuffer(buffers[ARG.DST], "f") == 8).all()


def test_addresses_that_do_not_fit_the_arguments_are_refused():
    p = small_matmul()
    _, addresses = room(p)
    for bad in (
        {},
        {k: v for k, v in addresses.items() if k != ARG.WEIGHTS},
        addresses | {ARG.BIAS: 64},
        addresses | {ARG.DST: 0},
        addresses | {ARG.DST: None},
    ):
        with pytest.raises(ArgumentError, match="matmul needs an address"):
            p.call(bad)


@pytest.mark.parametrize(
    "shapes",
    [
        ((2, 3), (4, 5), (2, 5)),
        ((2, 3), (3, 5), (2, 6)),
        ((2, 3), (3, 5), (1, 2, 5)),
        ((3,), (3,), (3,)),
        ((2, 2, 3), (3, 3, 5), (2, 2, 5)),
    ],
)
def test_descriptors_that_do_not_fit_raise_and_are_told(shapes):
    with pytest.raises(EngineError, match=r"refused matmul: [\s\S]*float32\["):
        matmul(*(MemDesc(s, "float32") for s in shapes))


def test_dtypes_without_an_implementation_raise():
    d = MemDesc((4, 4), "float64")
    with pytest.raises(EngineError, match="unimplemented"):
        matmul(d, d, d)


def test_many_threads_may_make_and_run_the_same_primitive():
    w = Window((1, 1), (1, 1), (1, 1), (1, 1))
    failures = []

    def work():
        try:
            for c in range(3, 9):
                image = MemDesc.channels_last((1, c, 9, 9), "float32")
                p = convolution_forward(image, MemDesc.any((c, c, 3, 3), "float32"), None, image, w)
                buffers, addresses = room(p)
                run(p.call(addresses))
                assert not buffers[ARG.DST].any()
        except BaseException as e:
            failures.append(e)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert failures == []


def resident_bytes():
    with open("/proc/self/statm") as f:
        return int(f.read().split()[1]) * 4096


def test_ten_thousand_calls_and_descriptors_leak_nothing():
    p = small_matmul()
    _, addresses = room(p)

    def churn(n):
        for _ in range(n):
            held = [p.call(addresses) for _ in range(4)]
            run(held[-1])
            _ = MemDesc((3, 5, 7), "float32").handle

    churn(500)
    before = resident_bytes()
    churn(2500)
    assert resident_bytes() - before < 1_000_000


def test_forgotten_primitives_give_their_memory_back():
    shapes = [(m, 8, n) for m in range(1, 21) for n in range(1, 11)]

    def churn():
        for m, k, n in shapes:
            p = small_matmul(m, k, n)
            p.call(room(p)[1])
        primitive._remembered.cache_clear()

    churn()  # oneDNN keeps code of its own for these shapes
    before = resident_bytes()
    for _ in range(10):
        churn()
    assert resident_bytes() - before < 4_000_000


def test_arguments_survive_a_call_collected_in_a_reference_cycle() -> None:
    desc = MemDesc((2, 2), "float32")
    product = matmul(desc, desc, desc)
    memory = [np.ones(d.nbytes // 4 + 1, np.float32) for d in product.descs.values()]
    addresses = {arg: m.ctypes.data for arg, m in zip(product.descs, memory, strict=True)}
    for _ in range(3):
        cycle: list[object] = [product.call(addresses)]
        cycle.append(cycle)
        del cycle
        gc.collect()
        run(product.call(addresses))
    out = memory[list(product.descs).index(ARG.DST)]
    assert (out[:4] == 2).all()
