from __future__ import annotations

from noria.zoo.fashion_mnist import FashionNet


def test_it_trains_and_ships_under_the_names_of_pytorch(exercise) -> None:
    shapes = exercise(FashionNet(), (1, 28, 28))
    weights = {n: s for n, s in shapes.items() if len(s) > 1}
    assert weights == {
        "body.0.weight": (32, 1, 3, 3),
        "body.4.weight": (64, 32, 3, 3),
        "body.10.weight": (128, 3136),
        "body.12.weight": (10, 128),
    }
