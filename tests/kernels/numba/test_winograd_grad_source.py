"""The text of the kernel; that it computes the right thing, test_winograd_grad.py shows."""

import ast

from noria.kernels.numba.winograd_grad_source import TABLE, weight_grad


def test_it_is_one_function_with_nothing_left_to_fill_in():
    (function,) = ast.parse(weight_grad("bfloat16", "float32")).body
    assert function.name == "weight_grad"
    names = {node.id for node in ast.walk(function) if isinstance(node, ast.Name)}
    assert not {name for name in names if name.isupper()}


def test_every_thread_meets_every_barrier():
    """A barrier inside a loop over a thread's own share would wait for ever."""
    (function,) = ast.parse(weight_grad("bfloat16", "float32")).body
    for loop in ast.walk(function):
        if isinstance(loop, ast.For) and "barrier()" in ast.unparse(loop):
            assert "me" not in ast.unparse(loop.iter)
    assert TABLE % 64 == 0
