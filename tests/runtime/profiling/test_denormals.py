import ml_dtypes
import numpy as np
import pytest

from noria.ir.opdef import vocabulary as o
from noria.runtime.profiling.denormals import denormal_share, denormal_shares
from tests.runtime.binding import bind
from tests.runtime.programs import N, build


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16", "bfloat16"])
def test_denormal_numbers_are_smaller_than_the_smallest_normal_one(dtype):
    kind = np.dtype(ml_dtypes.bfloat16 if dtype == "bfloat16" else dtype)
    about = ml_dtypes.finfo(kind)
    small, normal = about.smallest_subnormal, about.smallest_normal
    assert denormal_share(np.array([small, -small, normal, 0], kind)) == 0.5
    assert denormal_share(np.array([0, 1, np.nan, np.inf, -normal], kind)) == 0


def test_other_arrays_have_none():
    assert denormal_share(np.arange(3)) == 0 and denormal_share(np.zeros(0, np.float32)) == 0


def test_each_step_of_a_run_is_looked_at():
    def fn(b):
        return {"y": o.exp(o.mul(b.input("x", (N,)), 1e-20))}

    bound = bind(build(fn), {"N": 4})
    bound.run_prologue()
    found = denormal_shares(bound, [np.array([1e-20, 1e-19, 1.0, 0.0], np.float32)])
    shares = {item.step.op.type: share for item, share in found.items()}
    assert shares["mul"] == 0.5 and shares["exp"] == 0
