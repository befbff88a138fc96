from types import SimpleNamespace

import numpy as np
import pytest

from noria.convert.fluid.arrays import TensorArray
from noria.convert.fluid.handlers import Lod, Op, fluid_op
from noria.core.errors import ProgramError

EMISSION = np.array([[1, 0], [0, 3], [2, 0], [0, 1]], np.float32)
TRANSITION = np.array([[0, 0], [0, 0], [1, 0], [0, 1]], np.float32)  # staying is better


def test_padded_rows_are_decoded_as_packed_ones_are(run_op):
    splits = np.array([0, 3, 4])
    packed = {"Emission": Lod(EMISSION, (splits,)), "Transition": TRANSITION}
    path = run_op("crf_decoding", packed, {}, ("ViterbiPath",))["ViterbiPath"]
    padded = np.zeros((2, 3, 2), np.float32)
    padded[0], padded[1, 0] = EMISSION[:3], EMISSION[3]
    given = {"Emission": padded, "Transition": TRANSITION, "Length": np.array([[3], [1]])}
    got = run_op("crf_decoding", given, {}, ("ViterbiPath",))["ViterbiPath"]
    assert got.tolist() == [path[:3, 0].tolist(), [path[3, 0], 0, 0]]
    label = np.array([[1, 1, 0], [1, 0, 0]])
    right = run_op("crf_decoding", given | {"Label": label}, {}, ("ViterbiPath",))["ViterbiPath"]
    assert right.tolist() == [*(label == got).astype(int).tolist()[:1], [1, 0, 0]]


def test_ctc_is_read_from_packed_and_padded_rows(run_op):
    tokens = np.array([[0], [1], [1], [0], [2], [2]], np.int32)
    given = {"Input": Lod(tokens, (np.array([0, 4, 6]),))}
    attrs = {"blank": 0, "merge_repeated": True}
    got = run_op("ctc_align", given, attrs, ("Output",))
    assert got["Output"].tolist() == [[1], [2]] and got["Output.row_splits"].tolist() == [0, 1, 2]
    given = {"Input": tokens.reshape(2, 3), "InputLength": np.array([[3], [2]])}
    got = run_op("ctc_align", given, attrs | {"padding_value": 7}, ("Output", "OutputLength"))
    assert got["Output"].tolist() == [[1, 7, 7], [2, 7, 7]]
    assert got["OutputLength"].tolist() == [[1], [1]]


def test_blanks_only_are_one_token_of_nothing(run_op):
    given = {"Input": Lod(np.zeros((3, 1), np.int32), (np.array([0, 2, 3]),))}
    got = run_op("ctc_align", given, {"blank": 0}, ("Output",))
    assert got["Output"].tolist() == [[-1]] and got["Output.row_splits"].tolist() == [0, 0, 0]


def test_a_sequence_too_short_for_its_labels_costs_nothing(run_op):
    logits = Lod(np.zeros((1, 3), np.float32), (np.array([0, 1]),))
    given = {"Logits": logits, "Label": Lod(np.array([[1], [1]], np.int32), (np.array([0, 2]),))}
    assert run_op("warpctc", given, {"blank": 0}, ("Loss",))["Loss"].tolist() == [[0]]


def test_chunks_of_padded_rows_are_counted(run_op):
    predicted, label = np.array([[0, 1, 2], [2, 0, 0]]), np.array([[0, 1, 2], [0, 1, 1]])
    given = {"Inference": predicted, "Label": label, "SeqLength": np.array([3, 2])}
    slots = ("Precision", "Recall", "F1-Score", "NumInferChunks", "NumLabelChunks")
    got = run_op("chunk_eval", given, {"num_chunk_types": 1, "chunk_scheme": "IOB"}, slots)
    assert [float(got[s][0]) for s in slots[:2]] == [0.5, 0.5]
    assert got["NumInferChunks"].tolist() == [2] and got["NumLabelChunks"].tolist() == [2]


def test_a_step_of_a_beam_search(run_op):
    levels = (np.array([0, 2]), np.array([0, 1, 2]))
    scores = Lod(np.array([[0.5, 0.3], [0.9, 0.1]], np.float32), levels)
    given = {
        "pre_ids": Lod(np.array([[4], [1]]), levels),
        "pre_scores": Lod(np.array([[0.1], [0.6]], np.float32), levels),
        "ids": Lod(np.array([[5, 6], [7, 8]]), levels),
        "scores": scores,
    }
    attrs = {"level": 0, "beam_size": 2, "end_id": 1, "is_accumulated": True}
    slots = ("selected_ids", "selected_scores", "parent_idx")
    got = run_op("beam_search", given, attrs, slots)
    assert got["selected_ids"].tolist() == [[5], [1]]
    assert got["selected_ids.row_splits.1"].tolist() == [0, 1, 2]
    assert np.allclose(got["selected_scores"], [[0.5], [0.6]])
    assert got["parent_idx"].tolist() == [0, 1]


def test_beams_are_followed_back(run_op):
    ids, parents = np.array([[[2, 3]], [[4, 5]]]), np.array([[[0, 0]], [[1, 0]]])
    got = run_op("gather_tree", {"Ids": ids, "Parents": parents})["Out"]
    assert got.tolist() == [[[3, 2]], [[4, 5]]]


def level(*lengths):
    return np.cumsum([0, *lengths])


def decoded(ids, scores, **attrs):
    counts = iter(range(9))
    frame = SimpleNamespace(symbol=lambda base: f"{base}{next(counts)}")
    held = {"Ids": [("ids", ids)], "Scores": [("scores", scores)]}
    slots = {"SentenceIds": ["a"], "SentenceScores": ["b"]}
    op = Op("beam_search_decode", held, slots, {"end_id": 0, "beam_size": 2} | attrs, frame)
    return fluid_op.find(op.type)(op)


def test_a_search_is_read_from_its_end():
    first, second = (level(1, 1), level(2, 1)), (level(2, 1), level(1, 0, 1))
    ids = np.array([[5], [6], [7]]), np.array([[0], [8]])
    scores = np.array([[-1.0], [-2.0], [-3.0]]), np.array([[-1.5], [-3.5]])
    arrays = [TensorArray((Lod(v[0], first), Lod(v[1], second))) for v in (ids, scores)]
    got = decoded(*arrays)["SentenceIds"]
    assert got.values.tolist() == [5, 0, 7, 8]
    assert [s.tolist() for s in got.splits] == [[0, 1, 2], [0, 2, 4]]


def test_what_is_no_search_is_refused():
    step = Lod(np.array([[1]]), (level(1), level(1)))
    scored = Lod(np.array([[1.0]]), (level(1), level(1)))
    with pytest.raises(ProgramError, match="array"):
        decoded(step, scored)
    with pytest.raises(ProgramError, match="beams"):
        decoded(TensorArray((Lod(np.array([[1]])),)), TensorArray((scored,)))
    with pytest.raises(ProgramError, match="scores"):
        decoded(TensorArray((step,)), TensorArray((scored, scored)))
