import numpy as np
import pytest

from noria.core.errors import MissingError, ProgramError
from noria.ir.trace import spec, trace
from noria.ir.verify import verify
from noria.optim.optimizer import Adam
from noria.passes.for_test import for_test
from noria.zoo.digits import DigitsNet, classify
from tests.passes.programs import numbers, program, results, types

TRAINING = program("""
  input x: float32[N, 3]
  input label: int64[N]
  state w: float32[5, 3] = fill(value=0.0) trainable
  state random: int64[2] = fill(value=0)
  state lr: float32[] = fill(value=0.1)
  h, mask: float32[N, 3], bool[N, 3] = dropout(x, random, p=0.5)
  logits: float32[N, 5] = linear(h, w)
  best: int64[N] = argmax(logits, axis=1)
  right: bool[N] = equal(best, label)
  g: float32[5, 3] = exp(w)
  new: float32[5, 3] = sgd_update(w, g, lr)
  next: int64[2] = add(random, random)
  output logits = logits
  output right = right
  output mask = mask
  update w = new
  update random = next
""")


def test_updates_go_and_what_only_they_needed_goes_too():
    after = for_test(TRAINING, ["logits"])
    verify(after)
    assert types(after) == ["linear"] and not after.updates
    assert list(after.inputs) == ["x"] and list(after.state) == ["w"]
    assert types(TRAINING)[0] == "dropout" and len(TRAINING.updates) == 2


def test_dropout_does_nothing_at_test_time():
    after = for_test(TRAINING, ["logits"])
    x, w = numbers(after.inputs["x"], {"N": 3}), numbers(after.state["w"].value, {})
    np.testing.assert_allclose(results(after)[0]["logits"], x @ w.T, rtol=1e-6)


def test_by_default_all_outputs_are_kept_and_the_inputs_they_need():
    whole = TRAINING.copy()
    del whole.outputs["mask"]
    after = for_test(whole)
    assert list(after.outputs) == ["logits", "right"] and list(after.inputs) == ["x", "label"]


def test_an_output_that_only_training_computes_is_an_error():
    with pytest.raises(ProgramError, match="'mask' is computed in training only"):
        for_test(TRAINING)
    with pytest.raises(MissingError, match="no output 'logit'"):
        for_test(TRAINING, ["logit"])


def test_batch_norm_uses_the_running_statistics():
    before = program("""
      input x: float32[N, 3]
      state w: float32[3] = fill(value=0.0)
      state m: float32[3] = fill(value=0.0)
      n, a, b, c, d: float32[N, 3], float32[3], float32[3], float32[3], float32[3] =
        batch_norm(x, w, w, m, w, training=true)
      output y = n
      output new = c
      update m = c
    """)
    after = for_test(before)
    verify(after)
    got, updates = results(after)
    state = {n: numbers(s.value, {}) for n, s in before.state.items()}
    x, w, m = numbers(before.inputs["x"], {"N": 3}), state["w"], state["m"]
    np.testing.assert_allclose(got["y"], (x - m) / np.sqrt(w + 1e-5) * w + w, rtol=1e-4)
    assert got["new"].tolist() == m.tolist() and not updates


def test_control_flow_gets_its_test_form_too():
    before = program("""
      input p: bool[]
      input x: float32[N]
      state key: int64[2] = fill(value=0)
      cond: float32[N] = cond(p, x, key) {
        then(x1: float32[N], k1: int64[2]) {
          d, m: float32[N], bool[N] = dropout(x1, k1)
          e: float32[N] = exp(d)
          return e
        }
        otherwise(x2: float32[N], k2: int64[2]) {
          return x2
        }
      }
      output y = cond
    """)
    after = for_test(before)
    verify(after)
    assert [o.type for o in after.operators[0].blocks["then"].operators] == ["exp"]


def test_a_trained_network_is_reduced_to_its_forward_pass():
    inputs = {"image": spec("N", 1, 8, 8), "label": spec("N", dtype="int64")}
    training = Adam(1e-3).minimize(trace(classify(DigitsNet()), **inputs))
    served = for_test(training, ["logits"])
    verify(served)
    assert list(served.inputs) == ["image"] and not served.updates
    assert set(served.state) == {n for n in training.state if "moment" not in n} - {
        "random",
        "optimizer.step",
        "optimizer.rate",
    }
    norms = [o for o in served.operators if o.type == "batch_norm"]
    assert len(norms) == 2 and not any(o.attrs["training"] for o in norms)
    first, second = results(served)[0]["logits"], results(served)[0]["logits"]
    np.testing.assert_array_equal(first, second)


def test_an_input_that_alone_tells_a_size_is_kept():
    before = program("""
      input x: float32[N, H]
      input like: float32[N, W]
      input label: int64[N]
      y: float32[N, W] = resize(x, sizes=[W], axes=[1])
      output y = y
    """)
    after = for_test(before)
    assert list(after.inputs) == ["x", "like"]
