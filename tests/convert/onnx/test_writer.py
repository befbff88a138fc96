"""Models written for other runtimes: files, names, errors, and every model of the zoo."""

import numpy as np
import pytest

import noria
from noria import nn, ops
from noria.convert.onnx.reader import load
from noria.convert.onnx.writer import IR_VERSIONS, save, to_model
from noria.core.errors import ArgumentError, MissingError, ProgramError
from noria.nn.ragged import Ragged
from noria.zoo.bert import Bert
from noria.zoo.deepfm import DeepFM
from noria.zoo.digits import DigitsNet
from noria.zoo.fashion_mnist import FashionNet
from noria.zoo.lenet import LeNet
from noria.zoo.lstm_classifier import LSTMClassifier
from noria.zoo.mlp import MLP
from noria.zoo.mobilenet import MobileNetV2
from noria.zoo.resnet import resnet18, resnet50
from noria.zoo.rnn_lm import RNNLM
from noria.zoo.speech import SpeechRecognizer
from noria.zoo.transformer import TransformerLM

onnx = pytest.importorskip("onnx")

RNG = np.random.default_rng(0)
IMAGE = RNG.normal(size=(2, 3, 33, 40)).astype(np.float32)
IDS = RNG.integers(0, 30, (2, 7))


def whole(model):
    return lambda **feeds: {"y": model(*feeds.values())}


def recognizer():
    model = RNNLM(30, 8)

    def fn(ids):
        logits, (h, c) = model(ids)
        return {"logits": logits, "h": h, "c": c}

    return fn


def bert():
    model = Bert(30, 10, 2, 2, 8, 2, 16)
    return lambda ids, types, mask: dict(zip("yz", model(ids, types, mask), strict=True))


def classifier():
    model = LSTMClassifier(30, 8)
    return lambda ids, splits: {"y": model(Ragged(ids, splits))}


# name -> (the function to trace, {input: (array, its open axes)})
ZOO = {
    "mlp": (lambda: whole(MLP(3, 4, 2)), {"x": (IMAGE[0, :, 0, :3], {0: "N"})}),
    "lenet": (lambda: whole(LeNet()), {"x": (IMAGE[:, :1, :28, :28], {0: "N"})}),
    "digits": (lambda: whole(DigitsNet()), {"x": (IMAGE[:, :1, :8, :8], {0: "N"})}),
    "fashion": (lambda: whole(FashionNet()), {"x": (IMAGE[:, :1, :28, :28], {0: "N"})}),
    "resnet18": (lambda: whole(resnet18(10)), {"x": (IMAGE, {0: "N", 2: "H", 3: "W"})}),
    "resnet50": (lambda: whole(resnet50(10)), {"x": (IMAGE[:1], {0: "N", 2: "H", 3: "W"})}),
    "mobilenet": (
        lambda: whole(MobileNetV2(10, 0.25)),
        {"x": (IMAGE, {0: "N", 2: "H", 3: "W"})},
    ),
    "bert": (
        bert,
        {
            "ids": (IDS, {0: "N", 1: "T"}),
            "types": (IDS % 2, {0: "N", 1: "T"}),
            "mask": (np.arange(7) < [[7], [4]], {0: "N", 1: "T"}),
        },
    ),
    "transformer": (
        lambda: whole(TransformerLM(30, 10, 2, 8, 2, 16)),
        {"ids": (IDS, {0: "N", 1: "T"})},
    ),
    "deepfm": (
        lambda: whole(DeepFM(30, 4, fields=7, dense=3, hidden=(5, 6))),
        {"ids": (IDS, {0: "N"}), "dense": (IMAGE[0, :2, 0, :3], {0: "N"})},
    ),
    "lstm_classifier": (
        classifier,
        {"ids": (IDS.reshape(-1), {0: "T"}), "splits": (np.array([0, 5, 5, 14]), {0: "B+1"})},
    ),
    "rnn_lm": (recognizer, {"ids": (IDS, {0: "N", 1: "T"})}),
    "speech": (
        lambda: whole(SpeechRecognizer(6, 5, width=4)),
        {"x": (IMAGE[0, :, :7, :6], {0: "N", 1: "T"})},
    ),
}


def traced(name):
    make, inputs = ZOO[name]
    specs, feeds = {}, {}
    for key, (array, open_axes) in inputs.items():
        shape = [open_axes.get(i, n) for i, n in enumerate(array.shape)]
        specs[key], feeds[key] = noria.spec(*shape, dtype=array.dtype), np.array(array)
    return noria.trace(make(), name=name, **specs), feeds


def with_statistics(state):
    """Running means and variances as after some training."""
    rng = np.random.default_rng(5)
    kinds = {"running_mean": (-0.2, 0.2), "running_var": (0.5, 1.5)}
    return {
        n: rng.uniform(*kinds[k], a.shape).astype(a.dtype)
        if (k := n.rsplit(".", 1)[-1]) in kinds
        else a
        for n, a in state.items()
    }


@pytest.mark.suite("ONNX out, then onnxruntime: models of the zoo")
@pytest.mark.parametrize("name", sorted(ZOO))
def test_onnxruntime_computes_what_the_model_of_the_zoo_does(name, through_onnx):
    program, feeds = traced(name)
    program = noria.for_test(program)
    state = with_statistics(noria.Executor(program, seed=3).scope.state())
    want = noria.Predictor(program, state).run(feeds)
    for opset in (18, max(IR_VERSIONS) if name == "bert" else 21):
        got = through_onnx(program, feeds, state, opset)
        assert list(got) == list(want)
        for key in want:
            largest = np.abs(want[key]).max()
            assert largest > 1e-3, "zeros prove nothing"
            tol = {"rtol": 1e-5, "atol": max(1e-5, 1e-6 * largest)}  # a small logit is a large sum
            np.testing.assert_allclose(got[key], want[key], **tol, err_msg=key)


# ---- files ---------------------------------------------------------------------------------------


def small():
    model = nn.Linear(3, 2)
    program = noria.trace(lambda x: {"y": model(x)}, x=noria.spec("N", 3))
    return program, noria.Executor(program, seed=0).scope.state()


def test_a_file_says_who_wrote_it_and_for_which_operators(tmp_path):
    program, state = small()
    save(program, tmp_path / "m.onnx", state, opset=20)
    model = onnx.load(tmp_path / "m.onnx")
    assert (model.producer_name, model.ir_version) == ("noria", IR_VERSIONS[20])
    assert [(o.domain, o.version) for o in model.opset_import] == [("", 20)]
    shape = model.graph.input[0].type.tensor_type.shape
    assert [d.dim_param or d.dim_value for d in shape.dim] == ["N", 3]
    assert {t.name for t in model.graph.initializer} == {"weight", "bias"}


def test_what_is_written_is_read_again(tmp_path):
    program = noria.trace(lambda x: {"y": ops.relu(x) * 2.0}, x=noria.spec("N", 3))
    save(program, tmp_path / "m.onnx", {})
    back, arrays = load(tmp_path / "m.onnx")
    feeds = {"x": IMAGE[0, 0, :4, :3]}
    want = noria.Predictor(program, {}).run(feeds)["y"]
    np.testing.assert_allclose(noria.Predictor(back, arrays).run(feeds)["y"], want, rtol=1e-6)


def test_arrays_in_a_file_of_their_own_follow_the_model(tmp_path, in_onnxruntime):
    program, state = small()
    path, feeds = tmp_path / "m.onnx", {"x": IMAGE[0, 0, :4, :3]}
    for factor in (1, 2):  # a second model takes the place of the first, and so do its arrays
        scaled = {n: a * factor for n, a in state.items()}
        save(program, path, scaled, external=True)
        names = sorted(f.name for f in tmp_path.iterdir())
        assert len(names) == 2 and names[0] == "m.onnx" and names[1].endswith(".data")
        want = noria.Predictor(program, scaled).run(feeds)["y"]
        np.testing.assert_allclose(in_onnxruntime(str(path), feeds)["y"], want, rtol=1e-6)
    save(program, path, state)
    assert [f.name for f in tmp_path.iterdir()] == ["m.onnx"]


def test_all_ops_that_cannot_be_written_are_told_before_anything_is(tmp_path):
    def fn(x, y):
        counts = ops.class_counts(y, y, classes=3)[0]
        return {"auc": ops.auc(x, y), "also": ops.auc(x + x, y), "counts": counts}

    program = noria.trace(fn, x=noria.spec(4), y=noria.spec(4, dtype="int64"))
    with pytest.raises(ProgramError, match=r"2 ops .*: auc, class_counts") as caught:
        save(program, tmp_path / "m.onnx", {})
    assert "test_writer.py" in caught.value.got and "1 more" in caught.value.got
    assert not list(tmp_path.iterdir())


def test_a_training_program_is_written_in_its_test_form(through_onnx):
    model = nn.Sequential(nn.Linear(3, 4), nn.Dropout(0.5), nn.Linear(4, 1))
    program = noria.trace(lambda x: {"loss": ops.reduce_mean(model(x))}, x=noria.spec("N", 3))
    training = noria.optim.SGD(0.1).minimize(program)
    state = noria.Executor(training, seed=0).scope.state()
    written = to_model(training, state)
    assert [n.op_type for n in written.graph.node] == ["Gemm", "Gemm", "ReduceMean"]
    assert len(written.graph.initializer) == 5  # two weights, two biases, the axes of the mean


def test_bad_arguments_are_errors(tmp_path):
    program, state = small()
    with pytest.raises(ArgumentError, match="no such version"):
        save(program, tmp_path / "m.onnx", state, opset=17)
    with pytest.raises(MissingError, match="not given"):
        save(program, tmp_path / "m.onnx", {})
