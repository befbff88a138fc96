from __future__ import annotations

from noria.zoo.lenet import LeNet


def test_it_trains_and_ships_under_the_names_of_pytorch(exercise) -> None:
    assert exercise(LeNet(), (1, 28, 28)) == {
        "body.0.weight": (20, 1, 5, 5),
        "body.0.bias": (20,),
        "body.3.weight": (20,),
        "body.3.bias": (20,),
        "body.3.running_mean": (20,),
        "body.3.running_var": (20,),
        "body.4.weight": (50, 20, 5, 5),
        "body.4.bias": (50,),
        "body.8.weight": (10, 800),
        "body.8.bias": (10,),
    }
