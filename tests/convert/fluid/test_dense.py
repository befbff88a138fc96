import numpy as np

from noria.convert.fluid.reader import read_program
from noria.runtime.predictor import Predictor
from tests.convert.fluid.describing import Desc

R = np.random.default_rng(0)
SHAPES = {"w": (4, 9), "b": (9,), "gru.w": (3, 9), "gru.b": (1, 9)}
STATE = {n: R.normal(size=s).astype(np.float32) for n, s in SHAPES.items()}


def layer(*, dense: bool) -> Desc:
    """A GRU behind a dense layer, or behind what the feed says."""
    desc = Desc().var("x", [-1, 4 if dense else 9], levels=1)
    for name, shape in SHAPES.items():
        desc.var(name, shape, kept=True)
    if dense:
        desc.op("mul", {"X": "x", "Y": "w"}, {"Out": "p"})
        desc.op("elementwise_add", {"X": "p", "Y": "b"}, {"Out": "z"}, axis=1)
    inputs = {"Input": "z" if dense else "x", "Weight": "gru.w", "Bias": "gru.b"}
    return desc.op("gru", inputs, {"Hidden": "h"}, is_reverse=False)


def run(desc: Desc, x: np.ndarray) -> tuple[np.ndarray, list[str]]:
    program = read_program(desc.message, outputs=["h"])
    predictor = Predictor(program, STATE, threads=1)
    sizes = {v for v in program.inputs["x"].shape if not isinstance(v, int)}
    moved = [
        o.type
        for o in predictor.program.operators
        if o.type in ("split", "concat") and sizes & set(o.outputs[0].shape)
    ]
    return predictor.run({"x": x, "x.row_splits": np.array([0, 2, 5])})["h"], moved


def test_gates_are_put_in_order_in_the_weights_in_front():
    x = R.normal(size=(5, 4)).astype(np.float32)
    got, moved = run(layer(dense=True), x)
    want, copies = run(layer(dense=False), x @ STATE["w"] + STATE["b"])
    np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-6)
    assert not moved and copies
