from types import SimpleNamespace

import numpy as np
import pytest

from noria.core.errors import EngineError
from noria.core.flags import flags
from noria.ir.program import Operator, Value
from noria.kernels.call import run
from noria.kernels.onednn import common
from noria.kernels.onednn.build_conv import convolution_backward_data, convolution_forward
from noria.kernels.onednn.build_dense import matmul
from noria.kernels.onednn.build_reorder import reorder
from noria.kernels.onednn.enums import ARG
from noria.kernels.onednn.memory import MemDesc
from noria.kernels.onednn.window import Window
from noria.kernels.registry import LAST, PLAIN, Array, Declined, strides_of
from noria.ops.fused import ACTIVATIONS


def operator(*dtypes, ranks=None):
    ranks = ranks or [2] * len(dtypes)
    values = [
        Value(f"v{i}", (2,) * r, d) for i, (d, r) in enumerate(zip(dtypes, ranks, strict=True))
    ]
    return Operator("f", tuple(values[:-1]), (values[-1],))


def test_operands_and_results_must_be_of_a_dtype_onednn_has():
    common.need(operator("float32", "bfloat16", "float32"))
    with pytest.raises(Declined, match="v1 is int64, oneDNN takes float32 or bfloat16 here"):
        common.need(operator("float32", "int64", "float32"))
    with pytest.raises(Declined, match="v1 is float64, oneDNN takes float32 here"):
        common.need(operator("float32", "float64"), ("float32",))


def test_without_the_library_every_operator_is_declined(monkeypatch):
    monkeypatch.setattr(common, "available", lambda: (False, "no libdnnl"))
    with pytest.raises(Declined, match="no libdnnl"):
        common.need(operator("float32", "float32"))


def test_the_precision_of_products_is_flagged():
    assert common.attr().fpmath == "strict" and common.attr().post_ops == ()
    with flags.set(fpmath="bf16"):
        assert common.attr(common.activation("tanh")).fpmath == "bf16"


def test_every_activation_is_one_that_passes_fuse():
    assert {*common.ACTIVATIONS, *common.BEHIND} <= set(ACTIVATIONS)
    assert not common.ACTIVATIONS.keys() & common.BEHIND.keys()
    assert common.activation(None) == ()
    assert common.activation("tanh") == (common.ACTIVATIONS["tanh"],)
    with pytest.raises(Declined, match="no post-op for activation 'softsign'"):
        common.activation("softsign")


def test_a_descriptor_lies_as_its_operand():
    shape = (2, 3, 4, 5)
    array = Array(shape, "float32", strides_of(shape, LAST))
    assert common.desc(array) == MemDesc.channels_last(shape, "float32")
    assert common.desc(array) != MemDesc(shape, "float32")


def test_activations_are_wanted_channels_last_and_weights_row_major():
    op = operator("float32", "float32", "float32", ranks=[4, 4, 4])
    op = Operator("f", (*op.inputs, None), op.outputs)
    wanted, given = common.channels_last(op, [PLAIN, PLAIN, None])
    assert wanted == [LAST, PLAIN, None] and given == [LAST]


def test_a_pack_is_what_the_primitive_wants_of_a_weight():
    x, w = MemDesc((40, 20), "float32"), MemDesc((20, 30), "float32")
    out = MemDesc((40, 30), "float32")
    assert common.pack_for(matmul(x, w, out, None, common.attr()), ARG.WEIGHTS, w, 1, 2) is None
    primitive = matmul(x, MemDesc.any(w.dims, w.dtype), out, None, common.attr())
    other = MemDesc((20, 30), "float32", (1, 20))
    pack = common.pack_for(primitive, ARG.WEIGHTS, other, 1, 2)
    assert pack is not None and pack.input == 1 and pack.nbytes >= w.nbytes
    rng = np.random.default_rng(0)
    a, b = rng.random((40, 20), np.float32), np.asfortranarray(rng.random((20, 30), np.float32))
    room = SimpleNamespace(packed=np.zeros(pack.nbytes + 64, np.uint8))
    packed = -(-room.packed.ctypes.data // 64) * 64
    got, scratch = np.zeros((40, 30), np.float32), np.zeros(primitive.scratch_bytes + 1, np.uint8)
    for call in pack.emit(b.ctypes.data, packed):
        run(call)
    addresses = {ARG.SRC: a.ctypes.data, ARG.WEIGHTS: packed, ARG.DST: got.ctypes.data}
    if primitive.scratch_bytes:
        addresses[ARG.SCRATCHPAD] = scratch.ctypes.data
    run(primitive.call(addresses))
    np.testing.assert_allclose(got, a @ b, rtol=1e-5)


def test_equal_packs_have_equal_keys():
    x, out = MemDesc((40, 20), "float32"), MemDesc((40, 30), "float32")
    primitive = matmul(x, MemDesc.any((20, 30), "float32"), out, None, common.attr())
    other = MemDesc((20, 30), "float32", (1, 20))
    keys = [common.pack_for(primitive, ARG.WEIGHTS, other, 1, 2).key for _ in range(2)]
    assert keys[0] == keys[1] and hash(keys[0]) == hash(keys[1])


WEIGHTS = [(64, 64, 1, 1), (80, 34, 1, 1), (48, 96, 3, 3), (32, 18, 1, 3), (2048, 32, 1, 1)]


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("shape", WEIGHTS, ids=str)
@pytest.mark.parametrize("backward", [False, True])
def test_panels_are_packed_as_onednn_would(shape, dtype, backward):
    outs, ins, *kernel = shape
    pads = tuple((k - 1) // 2 for k in kernel)
    window = Window((1, 1), pads, pads, (1, 1))
    x, y = (MemDesc.channels_last((2, c, 14, 14), dtype) for c in (ins, outs))
    weight, free = MemDesc(shape, dtype), MemDesc.any(shape, dtype)
    try:
        if backward:
            primitive = convolution_backward_data(x, free, y, window)
        else:
            primitive = convolution_forward(x, free, None, y, window)
    except EngineError:
        pytest.skip(f"oneDNN convolves no {dtype} on this CPU")
    chosen = primitive.descs[ARG.WEIGHTS]
    values = np.random.default_rng(0).integers(0, 255, weight.nbytes, np.uint8)
    pack = common.pack_for(primitive, ARG.WEIGHTS, weight, 1, 2)
    assert pack is not None
    got, expected = (aligned(pack.nbytes) for _ in range(2))
    for call in pack.emit(values.ctypes.data, got.ctypes.data):
        run(call)
    places = {ARG.SRC: values.ctypes.data, ARG.DST: expected.ctypes.data}
    run(reorder(weight, chosen).call(places))
    assert got[: chosen.nbytes].tobytes() == expected[: chosen.nbytes].tobytes()


def aligned(size):
    memory = np.full(size + 64, 7, np.uint8)
    return memory[-memory.ctypes.data % 64 :][:size]


@pytest.mark.usefixtures("halves")
def test_only_whole_dense_weights_are_panels():
    shape = (64, 32, 3, 3)
    x, y = (MemDesc.channels_last((2, c, 14, 14), "float32") for c in (32, 64))
    window = Window((1, 1), (1, 1), (1, 1), (1, 1))
    primitive = convolution_forward(x, MemDesc.any(shape, "float32"), None, y, window)
    chosen = primitive.descs[ARG.WEIGHTS]
    other = MemDesc(shape, "float32", (1, 64, 64 * 96, 64 * 32))
    for weight in (other, MemDesc(shape, "bfloat16"), MemDesc((64, 32, 9), "float32")):
        assert common.panels_like(weight, chosen) is None
    assert common.panels_like(MemDesc(shape, "float32"), MemDesc(shape, "float32")) is None


def test_what_onednn_does_not_implement_is_declined():
    with pytest.raises(Declined, match="no such thing: int4"), common.declining():
        raise EngineError("no such thing", got="int4")
