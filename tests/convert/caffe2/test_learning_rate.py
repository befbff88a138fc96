"""Learning rates in Caffe2."""

from typing import Any

import numpy as np
import pytest

from noria.core.errors import ArgumentError


@pytest.mark.parametrize(
    ("policy", "args", "want"),
    [
        ("fixed", {}, 1.0),
        ("step", {"stepsize": 4, "gamma": 0.5}, 0.25),
        ("exp", {"gamma": 0.9}, 0.9**10),
        ("inv", {"gamma": 0.1, "power": 2.0}, 2.0**-2),
        ("poly", {"max_iter": 20, "power": 2.0}, 0.25),
        ("linearWarmup", {"start_multiplier": 0.2, "num_iter": 20}, 0.6),
        ("constantWarmup", {"multiplier": 0.3, "num_iter": 11}, 0.3),
        ("alter", {"active_period": 3, "inactive_period": 4, "active_first": 1}, 0.0),
        ("hill", {"num_iter": 5, "start_multiplier": 0.1, "gamma": 0.2, "power": 1.0}, 0.5),
        ("cosine", {"max_lr": 1.0, "min_lr": 0.0, "period": 20, "lr_shrink": 1.0}, 0.5),
        ("cosine", {"max_lr": 1.0, "min_lr": 0.0, "period": 4, "t_mult": 2.0, "lr_shrink": 0.5},
         0.25 * (1 + np.cos(np.pi * 6 / 8))),
    ],
)  # fmt: skip
def test_the_policy_sets_the_rate(run: Any, policy: str, args: Any, want: float) -> None:
    rate = run("LearningRate", np.array([10], np.int64), base_lr=2.0, policy=policy, **args)
    assert rate.shape == () and np.isclose(rate, 2 * want, rtol=1e-4)


def test_unknown_policies_are_refused(run: Any) -> None:
    with pytest.raises(ArgumentError, match="unknown policy"):
        run("LearningRate", np.array([1], np.int64), base_lr=1.0, policy="hope")
