"""Programs that the tests of the IR share."""

import numpy as np

import noria.ops.compare
import noria.ops.control
import noria.ops.create
import noria.ops.elementwise
import noria.ops.index
import noria.ops.join
import noria.ops.linalg
import noria.ops.numeric
import noria.ops.reduce
import noria.ops.scatter
import noria.ops.shape  # noqa: F401  (importing a family registers its ops)
from noria.core.dims import symbol
from noria.ir.emit import Builder, building, trace_block
from noria.ir.opdef import op, registry
from noria.ir.opdef import vocabulary as o
from noria.ir.program import Program, Spec

N = symbol("N")


def define_call():
    """A throw-away control-flow op: `call(*xs, body)` gives what its block gives."""

    @op(name="test_call", blocks=("body",), outputs=("out", "second"))
    def call(*xs, body):
        """The outputs of a block."""
        return tuple(Spec(v.shape, v.dtype) for v in body.outputs)

    @call.compute
    def _(xp, *xs, body):
        return body(*xs)

    @call.grad
    def _(xs, body, gs, vjp):
        return vjp(body, xs, gs)

    return call


def emit_call(fn, *values):
    """Emit `test_call` of the function on the values; what it captures comes after them."""
    block, captured, result = trace_block(fn, values, ["x"] * len(values))
    block.outputs = list(result) if isinstance(result, tuple) else [result]
    definition = registry["test_call"]
    return building().emit(definition, [*values, *captured], {}, {"body": block})


def finish(program, **outputs):
    """Give the Program its outputs."""
    program.outputs = dict(outputs)
    program.block.outputs = list(outputs.values())
    return program


def layered():
    """Two matrix products with state, an update, constants small and large, odd attributes."""
    program = Program("layered")
    with Builder(program) as b:
        x = b.input("x", (N, 6))
        w = b.state("fc.weight", (6, 4), init=("fill", {"value": 0.5}), trainable=True)
        step = b.state("step", (), "int64", init=("fill", {"value": 0}))
        y = o.tanh(o.matmul(x, w))
        y = o.clip(y, low=-0.25, high=float("inf"))
        y = o.add(y, np.array([1.5, -0.0, np.nan, 1e-30], np.float32))
        y = o.matmul(y, np.arange(20, dtype=np.float32).reshape(4, 5))
        finish(program, out=y, size=o.fill(shape=(N, 2), value=1, dtype="int64"))
        b.update(w, o.mul(w, 0.5))
        b.update(step, o.add(step, 1))
    return program


def state_of_layered():
    return {
        "fc.weight": np.linspace(-1, 1, 24, dtype=np.float32).reshape(6, 4),
        "step": np.array(3, np.int64),
    }


def nested(depth=2):
    """Blocks inside each other, which capture values of the outer ones."""
    program = Program("nested")
    with Builder(program) as b:
        x = b.input("x", (N,))
        w = b.state("w", (), trainable=True)

        def body(v, level=depth):
            v = o.mul(v, w)
            if level > 1:
                v = emit_call(lambda u: body(u, level - 1), v)
            return o.tanh(v)

        finish(program, out=emit_call(body, x))
    return program


def chain(length):
    """`length` operators in a row."""
    program = Program("chain")
    with Builder(program) as b:
        x = b.input("x", (N, 8))
        for i in range(length):
            x = o.tanh(x) if i % 2 else o.add(x, x)
        finish(program, out=x)
    return program
