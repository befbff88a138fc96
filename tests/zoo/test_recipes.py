from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from noria.core.errors import MissingError
from noria.data.dataset import ArrayDataset
from noria.runtime.executor import Executor
from noria.train.trainer import Trainer
from noria.zoo.recipes import RECIPES, recipe


def test_digits_are_learnt_in_three_epochs() -> None:
    """In 20, as by default, accuracies of 0.99 and more were measured for seeds 0 to 4."""
    chosen = recipe("digits")
    reader, test = chosen.readers(32, seed=1, data=None)
    trainer = Trainer(chosen.program(3, len(reader)), reader, evaluation=test, progress=False)
    assert trainer.fit(3).last("accuracy") > 0.95


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_fits_its_data(name: str) -> None:
    chosen = recipe(name)
    program = chosen.program(2, 5)
    rng = np.random.default_rng(0)
    image = rng.random((4, *chosen.image), np.float32)
    got = Executor(program).run({"image": image, "label": np.arange(4)})
    assert got["logits"].shape == (4, 10)
    assert np.isfinite(got["loss"])
    assert name in chosen.name and len(f"  {name:<15} {chosen.about}") <= 100


def test_the_learning_rate_falls_to_a_hundredth_over_all_epochs() -> None:
    executor = Executor(recipe("digits").program(2, 10))
    feeds = {"image": np.zeros((1, 1, 8, 8), np.float32), "label": np.zeros(1, np.int64)}
    biases = [executor.scope["body.11.bias"]]
    for _ in range(20):
        executor.run(feeds, ["loss"])
        biases.append(executor.scope["body.11.bias"])
    moves = [float(np.abs(b - a).max()) for a, b in pairwise(biases)]
    # Adam moves a bias whose gradient keeps its sign by about the learning rate
    assert moves[0] == pytest.approx(2e-3, rel=0.2)
    assert moves[-1] < 1e-4


def test_readers_shuffle_by_seed_and_keep_the_test_set_apart() -> None:
    def fake(split: str, data_dir: object) -> ArrayDataset:
        n = {"train": 20, "test": 6}[split]
        return ArrayDataset({"image": np.arange(n), "label": np.full(n, split == "test")})

    chosen = RECIPES["digits"].__class__(**{**vars(RECIPES["digits"]), "data": fake})
    orders = []
    for seed in (0, 0, 1):
        reader, test = chosen.readers(8, seed, None)
        batches = list(reader)
        assert [len(b["label"]) for b in batches] == [8, 8, 4] and len(test) == 6
        assert not any(b["label"].any() for b in batches)
        orders.append(np.concatenate([b["image"] for b in batches]).tolist())
    assert orders[0] == orders[1] != orders[2]


def test_an_unknown_recipe_is_met_with_the_nearest() -> None:
    with pytest.raises(MissingError, match="did you mean 'digits'"):
        recipe("digit")
