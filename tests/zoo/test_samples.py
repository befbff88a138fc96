import numpy as np
import pytest

from noria.core.errors import MissingError
from noria.ir.verify import verify
from noria.passes.for_test import for_test
from noria.runtime.executor import Executor
from noria.zoo.samples import SAMPLES, sample

SMALL = {"N": 2, "T": 9, "W": 3}  # what fits into any of them
QUICK = [n for n in SAMPLES if n not in ("resnet50", "bert", "deepfm", "transformer", "lstm-lm")]


@pytest.mark.parametrize("name", SAMPLES)
def test_every_sample_is_a_program_whose_sizes_are_told(name):
    found = sample(name)
    program = found.program()
    verify(program)
    assert found.about and (program.updates or name == "bert")
    feeds = found.feeds(program, found.sizes)
    assert feeds.keys() == program.inputs.keys()
    assert all(a.dtype == program.inputs[n].dtype for n, a in feeds.items())


@pytest.mark.parametrize("name", QUICK)
def test_it_runs_on_its_data(name):
    found = sample(name)
    program = found.program()
    got = Executor(program).run(found.feeds(program, SMALL), ["loss"])
    assert np.isfinite(got["loss"])


def test_ids_are_spread_over_their_range():
    found = sample("deepfm")
    ids = found.feeds(found.program(), {"N": 100})["ids"]
    assert ids.min() >= 0 and ids.max() < found.limits["ids"] and len(np.unique(ids)) > 2000


def test_texts_take_all_words_and_differ_in_length():
    found = sample("ragged-lstm")
    feeds = found.feeds(found.program(), {"N": 8, "T": 400})
    splits = feeds["splits"]
    assert splits[0] == 0 and splits[-1] == 400 and len(set(np.diff(splits))) > 3


def test_the_test_form_needs_no_labels():
    found = sample("speech")
    program = for_test(found.program(), None)
    feeds = found.feeds(program, SMALL)
    assert feeds.keys() == program.inputs.keys()


def test_an_unknown_name_is_told_with_those_there_are():
    with pytest.raises(MissingError, match="resnet50"):
        sample("resnet5")
