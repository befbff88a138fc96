import numpy as np
import pytest

X = np.array([-2.5, -0.5, 0.5, 2.5, 30.0], np.float32)


@pytest.mark.parametrize(
    ("op", "attrs", "want"),
    [
        ("round", {}, [-3, -1, 1, 3, 30]),
        ("relu6", {}, [0, 0, 0.5, 2.5, 6]),
        ("hard_swish", {}, X * np.clip(X + 3, 0, 6) / 6),
        (
            "hard_swish",
            {"threshold": 4.0, "scale": 2.0, "offset": 1.0},
            X * np.clip(X + 1, 0, 4) / 2,
        ),
        ("stanh", {"scale_a": 0.5, "scale_b": 2.0}, 2 * np.tanh(0.5 * X)),
        ("soft_relu", {"threshold": 2.0}, np.log1p(np.exp(np.clip(X, -2, 2)))),
        ("brelu", {"t_min": 1.0, "t_max": 4.0}, np.clip(X, 1, 4)),
        ("pow", {"factor": 2.0}, X**2),
    ],
)
def test_functions_have_fluids_meaning(run_op, op, attrs, want):
    np.testing.assert_allclose(run_op(op, {"X": X}, attrs)["Out"], want, rtol=1e-5)


@pytest.mark.parametrize(("mode", "size"), [("all", 1), ("channel", 3), ("element", 12)])
def test_the_slopes_of_prelu(run_op, mode, size):
    x = np.random.default_rng(0).normal(size=(2, 3, 4)).astype(np.float32)
    alpha = np.linspace(0.1, 0.9, size, dtype=np.float32)
    spread = alpha.reshape({"all": (1,), "channel": (3, 1), "element": (3, 4)}[mode])
    got = run_op("prelu", {"X": x, "Alpha": alpha}, {"mode": mode})["Out"]
    np.testing.assert_allclose(got, np.where(x > 0, x, x * spread), rtol=1e-6)
