import pytest

import noria.ops.adaptive_pool
import noria.ops.batch_norm
import noria.ops.columns
import noria.ops.embedding
import noria.ops.join
import noria.ops.order
import noria.ops.pool
import noria.ops.resizing
import noria.ops.sampling
import noria.ops.slicing  # noqa: F401  (importing a family registers its ops)
from noria.core.dims import symbol
from noria.ir.emit import Builder
from noria.ir.opdef import lookup
from noria.ir.opdef import vocabulary as o
from noria.ir.program import Program
from noria.ir.trace import spec, trace
from noria.passes.for_test import for_test
from noria.passes.rows import APART, mixed_rows
from noria.zoo.lenet import LeNet
from noria.zoo.resnet import ResNet

N = symbol("N")


def reason(fn, *shapes, dtype="float32"):
    """mixed_rows of the Program y = fn(*inputs)."""
    program = Program("p")
    with Builder(program) as builder:
        inputs = [builder.input(f"x{i}", s, dtype) for i, s in enumerate(shapes)]
        program.outputs["y"] = fn(*inputs)
    program.block.outputs = list(program.outputs.values())
    return mixed_rows(program)


@pytest.mark.parametrize("op", sorted(APART))
def test_the_table_names_ops(op):
    assert lookup(op).name == op


@pytest.mark.parametrize(
    ("fn", "shapes"),
    [
        (lambda x, y: o.add(x, y), [(N, 3), (N, 3)]),
        (lambda x: o.softmax(x), [(N, 3)]),
        (lambda x: o.reduce_mean(x, axis=(1, 2)), [(N, 3, 4)]),
        (lambda x: o.reshape(x, shape=(N, 12)), [(N, 3, 4)]),
        (lambda x: o.transpose(x, perm=(0, 2, 1)), [(N, 3, 4)]),
        (lambda x: o.concat(x, x, axis=1), [(N, 3, 4)]),
        (lambda x, y: o.matmul(x, y), [(N, 3, 4), (N, 4, 2)]),
        (lambda x: o.slice(x, axes=(1,), starts=(0,), stops=(1,)), [(N, 3)]),
        (lambda x: o.mul(x, 2.0), [(N, 3)]),
        (lambda x: o.resize(x, sizes=(8, 8)), [(N, 3, 4, 4)]),
        (lambda x, y: o.grid_sample(x, y), [(N, 3, 4, 4), (N, 5, 2)]),
        (lambda x: o.fold(o.unfold(x, kernel=2), sizes=(4, 4), kernel=2), [(N, 3, 4, 4)]),
    ],
)
def test_rows_stay_apart(fn, shapes):
    assert reason(fn, *shapes) is None


@pytest.mark.parametrize(
    ("fn", "shapes", "words"),
    [
        (lambda x: o.resize(x, sizes=(3,), axes=(0,)), [(N, 3)], "resize"),
        (lambda x: o.softmax(x, axis=0), [(N, 3)], "rows may be mixed in softmax"),
        (lambda x: o.sub(x, o.reduce_mean(x, axis=0)), [(N, 3)], "reduce_mean"),
        (lambda x: o.matmul(x, x, transpose_y=True), [(N, 3)], "axis 0 may have the size N"),
        (lambda x: o.concat(x, x, axis=0), [(N, 3)], "axis 0"),
        (lambda x: o.cumsum(x, axis=0), [(N, 3)], "cumsum"),
        (lambda x: o.mul(x, o.cast(o.dim_value(dim=N), dtype="float32")), [(N,)], "dim_value"),
        (lambda x: o.transpose(o.transpose(x, perm=(1, 0)), perm=(1, 0)), [(N, 3)], "transpose"),
        (lambda x: o.reshape(o.reshape(x, shape=(3, N)), shape=(N, 3)), [(N, 3)], "reshape"),
        (lambda x, y: o.add(x, o.reduce_sum(y)), [(N, 3), (N, 2)], "reduce_sum"),
        (lambda x, y: o.add(x, y), [(N, 3), (3,)], "do not share one open size"),
        (lambda x: o.neg(x), [(4, 3)], "do not share one open size"),
        (lambda x: o.fill(shape=(2,), value=1.0), [(N, 3)], "only axis 0"),
        (lambda x: o.add(x, o.reshape(x, shape=(1, N))), [(N, N)], "only axis 0"),
    ],
)
def test_what_may_mix_rows(fn, shapes, words):
    assert words in reason(fn, *shapes)


def test_the_size_may_be_a_multiple_of_nothing():
    assert "do not share one open size" in reason(lambda x: o.neg(x), (2 * N, 3))


@pytest.mark.parametrize("model", [LeNet(), ResNet()])
@pytest.mark.parametrize("training", [False, True])
def test_networks_of_images(model, training):
    size = 28 if isinstance(model, LeNet) else 224
    image = spec("N", 1 if size == 28 else 3, size, size)
    program = trace(lambda image: {"y": model(image)}, image=image)
    if training:
        assert "batch_norm" in mixed_rows(program)
    else:
        assert mixed_rows(for_test(program)) is None
