"""Recurrent layers of Fluid; the reference vectors judge the rest."""

from typing import Any

import numpy as np
import pytest
from scipy.special import expit

from noria.convert.fluid.handlers import Lod
from noria.convert.fluid.recurrent import batch_order

RNG = np.random.default_rng(0)
SPLITS = np.array([0, 2, 2, 5])
H = 3


def test_gru_reads_the_weight_as_two_matrices(run_op: Any) -> None:
    x = RNG.normal(size=(5, 3 * H)).astype("f4")
    weight = RNG.normal(size=(H, 3 * H)).astype("f4")
    gates, new = weight.ravel()[: 2 * H * H].reshape(H, -1), weight.ravel()[2 * H * H :]
    for origin in (False, True):
        feeds = {"Input": Lod(x, (SPLITS,)), "Weight": weight}
        got = run_op("gru", feeds, {"origin_mode": origin}, ["Hidden"])["Hidden"]
        for a, b in ((0, 2), (2, 5)):
            h = np.zeros(H)
            for t in range(a, b):
                u, r = np.split(expit(x[t, : 2 * H] + h @ gates), 2)
                c = np.tanh(x[t, 2 * H :] + (r * h) @ new.reshape(H, H))
                h = u * h + (1 - u) * c if origin else (1 - u) * h + u * c
                np.testing.assert_allclose(got[t], h, atol=1e-5)


def test_the_order_of_kernels_begins_with_the_longest_row():
    assert batch_order(SPLITS, 5, False).tolist() == [2, 0, 3, 1, 4]
    assert batch_order(SPLITS, 5, True).tolist() == [4, 1, 3, 0, 2]


def test_layers_of_cudnn_are_those_of_torch(run_op: Any) -> None:
    torch = pytest.importorskip("torch")

    layer = torch.nn.LSTM(4, H, num_layers=2, bidirectional=True)
    parts = dict(layer.named_parameters())
    kinds = [f"l{k}{way}" for k in range(2) for way in ("", "_reverse")]
    names = [f"weight_{w}_{kind}" for kind in kinds for w in ("ih", "hh")]
    names += [f"bias_{w}_{kind}" for kind in kinds for w in ("ih", "hh")]
    flat = torch.cat([parts[n].flatten() for n in names]).detach().numpy()
    x, h, c = (RNG.normal(size=s).astype("f4") for s in ((5, 2, 4), (4, 2, H), (4, 2, H)))
    attrs = {"num_layers": 2, "is_bidirec": True, "hidden_size": H, "is_test": True}
    feeds = {"Input": x, "InitH": h, "InitC": c, "W": flat}
    got = run_op("cudnn_lstm", feeds, attrs, ["Out", "last_h", "last_c"])
    out, (last_h, last_c) = layer(
        *map(torch.from_numpy, (x,)), tuple(map(torch.from_numpy, (h, c)))
    )
    for name, want in (("Out", out), ("last_h", last_h), ("last_c", last_c)):
        np.testing.assert_allclose(got[name], want.detach().numpy(), atol=1e-5)
