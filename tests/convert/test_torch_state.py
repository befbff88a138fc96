"""Weights of PyTorch's files, compared with what torch itself reads; hostile files."""

import io
import pickle
import random
import zipfile

import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy

import noria
from noria import nn
from noria.convert import torch_state
from noria.core.errors import FormatError, MissingError, NoriaError, ShapeError

FORMATS = [True, False]  # a zip, as since torch 1.6, or one pickle after another


def tensors(torch):
    base = torch.arange(24, dtype=torch.float32).reshape(2, 3, 4)
    whole = {
        "plain": base,
        "transposed": base.permute(2, 0, 1),
        "part": base[1, 1:, ::2],
        "expanded": torch.ones(1).expand(3, 2),
        "half": base.half(),
        "bf16": base.bfloat16(),
        "double": base.double() / 3,
        "flags": base > 5,
        "none": torch.empty(0, 3),
        "scalar": torch.tensor(2.5),
        "parameter": torch.nn.Parameter(base.clone()),
    }
    for dtype in (torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64):
        whole[str(dtype)] = base.to(dtype)
    return whole


@pytest.mark.parametrize("zipped", FORMATS)
def test_every_tensor_is_what_torch_saved(zipped, tmp_path):
    torch = pytest.importorskip("torch")
    saved = tensors(torch)
    torch.save(saved, tmp_path / "w.pth", _use_new_zipfile_serialization=zipped)
    found = torch_state.read(tmp_path / "w.pth")
    assert found.keys() == saved.keys()
    for name, tensor in saved.items():
        array = found[name]
        assert array.shape == tuple(tensor.shape)
        if name == "bf16":
            assert array.dtype == ml_dtypes.bfloat16
            array, tensor = array.astype(np.float32), tensor.float()
        else:
            assert array.dtype == tensor.detach().numpy().dtype
        np.testing.assert_array_equal(array, tensor.detach().numpy())


def test_dtypes_without_a_storage_of_their_own(tmp_path):
    torch = pytest.importorskip("torch")
    torch.save({"w": torch.tensor(range(5), dtype=torch.uint16)}, tmp_path / "w.pth")
    assert torch_state.read(tmp_path / "w.pth")["w"].tolist() == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("zipped", FORMATS)
def test_a_model_runs_with_weights_of_torch(zipped, tmp_path):
    torch = pytest.importorskip("torch")
    theirs = torch.nn.Sequential(
        torch.nn.Conv2d(3, 4, 3),
        torch.nn.BatchNorm2d(4),
        torch.nn.Flatten(),
        torch.nn.Linear(64, 2),
    ).eval()
    checkpoint = {"epoch": 3, "state_dict": theirs.state_dict(), "note": "best"}
    torch.save(checkpoint, tmp_path / "w.pt", _use_new_zipfile_serialization=zipped)
    mine = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(64, 2))
    program = noria.for_test(noria.trace(lambda x: {"y": mine(x)}, x=noria.spec("N", 3, 6, 6)))
    state = torch_state.fit(program.state, torch_state.read(tmp_path / "w.pt"))
    x = np.random.default_rng(0).normal(size=(2, 3, 6, 6)).astype(np.float32)
    with torch.no_grad():
        want = theirs(torch.from_numpy(x)).numpy()
    np.testing.assert_allclose(noria.Predictor(program, state).run({"x": x})["y"], want, atol=1e-5)


def test_parts_and_the_prefix_of_data_parallel_training(tmp_path):
    torch = pytest.importorskip("torch")
    one = {"module.a": torch.ones(2), "module.b": torch.zeros(1)}
    torch.save({"model": one, "ema": {"a": torch.full((2,), 3.0)}}, tmp_path / "w.pth")
    assert torch_state.read(tmp_path / "w.pth").keys() == {"a", "b"}
    assert torch_state.read(tmp_path / "w.pth", part="ema")["a"].tolist() == [3, 3]
    with pytest.raises(MissingError, match="no part 'emb'"):
        torch_state.read(tmp_path / "w.pth", part="emb")


def test_safetensors_with_all_dtypes(tmp_path):
    arrays = {"a": np.ones((2, 3), np.float16), "b": np.array([1, 2], ml_dtypes.bfloat16)}
    safetensors.numpy.save_file(arrays, tmp_path / "w.safetensors")
    found = torch_state.read(tmp_path / "w.safetensors")
    for name, array in arrays.items():
        assert found[name].dtype == array.dtype
        np.testing.assert_array_equal(found[name], array)


# ---- into a model --------------------------------------------------------------------------------


WANTED = {"fc.weight": noria.spec(2, 3), "fc.bias": noria.spec(2)}
GIVEN = {"fc.weight": np.ones((2, 3), np.float16), "fc.bias": np.zeros(2, np.float32)}


def test_floats_are_cast_and_counters_left_out():
    found = torch_state.fit(WANTED, GIVEN | {"bn.num_batches_tracked": np.array(4)})
    assert found.keys() == WANTED.keys() and found["fc.weight"].dtype == np.float32


def test_names_that_do_not_fit_are_told_all_at_once():
    given = {"fc.weights": GIVEN["fc.weight"], "fc.bias": np.zeros(3, np.float32), "x": np.ones(1)}
    with pytest.raises(ShapeError, match="1 are missing, 2 are unexpected, 1 have") as caught:
        torch_state.fit(WANTED, given)
    for text in ("missing: fc.weight", "unexpected: fc.weights", "fc.bias: [3] for float32[2]"):
        assert text in caught.value.got
    with pytest.raises(MissingError, match="1 are missing"):
        torch_state.fit(WANTED, {"fc.bias": GIVEN["fc.bias"]})
    assert torch_state.fit(WANTED, {"fc.bias": GIVEN["fc.bias"]}, strict=False).keys() == {
        "fc.bias"
    }


def test_integers_are_no_weights():
    with pytest.raises(ShapeError):
        torch_state.fit(WANTED, GIVEN | {"fc.bias": np.zeros(2, np.int64)})


@pytest.mark.parametrize(
    "rename",
    [
        {"head.": "fc.", "old": None},
        {"head.weight": "fc.weight", "head.bias": "fc.bias", "old": None},
        lambda name: None if name == "old" else name.replace("head", "fc"),
    ],
)
def test_names_are_changed_by_a_table_or_a_function(rename):
    given = {n.replace("fc", "head"): a for n, a in GIVEN.items()} | {"old": np.ones(1)}
    assert torch_state.fit(WANTED, given, rename=rename).keys() == WANTED.keys()


def test_two_weights_of_one_name_are_an_error():
    with pytest.raises(MissingError, match="two weights would be called"):
        torch_state.fit(WANTED, GIVEN, rename=lambda name: "fc.bias")


# ---- hostile files -------------------------------------------------------------------------------


def archive(pickled, data=b"", compression=zipfile.ZIP_STORED, more=()):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", compression) as file:
        for name, content in [("a/data.pkl", pickled), ("a/data/0", data), *more]:
            file.writestr(name, content)
    return out.getvalue()


def one_tensor(size=(2, 2), stride=(2, 1), offset=0, count=4):
    """The pickle of {"w": a tensor of storage 0}."""

    def number(n):
        return pickle.dumps(n, 2)[2:-1]

    storage = (
        b"(X\x07\x00\x00\x00storagectorch\nFloatStorage\nX\x01\x00\x00\x000X\x03\x00\x00\x00cpu"
        + number(count)
        + b"tQ"
    )
    tensor = b"ctorch._utils\n_rebuild_tensor_v2\n(" + storage + number(offset)
    tensor += number(size) + number(stride) + b"\x89NtR"
    return b"\x80\x02}X\x01\x00\x00\x00w" + tensor + b"s."


DATA = np.arange(4, dtype=np.float32).tobytes()


def read(tmp_path, content):
    (tmp_path / "w.pth").write_bytes(content)
    return torch_state.read(tmp_path / "w.pth")


def test_the_tensor_made_here_is_sound(tmp_path):
    assert read(tmp_path, archive(one_tensor(), DATA))["w"].tolist() == [[0, 1], [2, 3]]
    big = archive(one_tensor(), np.arange(4, dtype=">f4").tobytes(), more=[("a/byteorder", "big")])
    assert read(tmp_path, big)["w"].tolist() == [[0, 1], [2, 3]]


@pytest.mark.parametrize(
    "tensor",
    [
        {"size": (3, 2)},
        {"stride": (3, 1)},
        {"offset": 1},
        {"size": (1 << 61,), "stride": (1,)},
        {"size": (1 << 40, 1 << 20), "stride": (0, 0)},
        {"size": (2,)},
        {"size": (-1, 2)},
        {"offset": -1},
        {"count": 1 << 61},
        {"count": 2},
    ],
    ids=str,
)
def test_a_tensor_never_reaches_beyond_its_storage(tensor, tmp_path):
    if tensor == {"count": 1 << 61}:  # what the storage says of itself does not count
        assert read(tmp_path, archive(one_tensor(**tensor), DATA))["w"].tolist() == [[0, 1], [2, 3]]
        return
    with pytest.raises(FormatError):
        read(tmp_path, archive(one_tensor(**tensor), DATA))


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"PK\x03\x04",
        b"\x80\x02N.",
        b"hello, world",
        archive(one_tensor(), DATA, zipfile.ZIP_DEFLATED),
        archive(b"\x80\x02cos\nsystem\n(X\x02\x00\x00\x00lstR.", DATA),
        archive(one_tensor(), DATA, more=[("a/constants.pkl", b"")]),
        archive(one_tensor(), DATA)[:-40],
    ],
)
def test_files_of_another_kind_are_errors(content, tmp_path):
    with pytest.raises(FormatError) as caught:
        read(tmp_path, content)
    assert "w.pth" in str(caught.value)


@pytest.mark.parametrize("zipped", FORMATS)
def test_damaged_files_give_errors_or_arrays_and_nothing_else(zipped, tmp_path):
    torch = pytest.importorskip("torch")
    buffer = io.BytesIO()
    torch.save(
        {"a": torch.ones(3, 2), "b": torch.zeros(4)}, buffer, _use_new_zipfile_serialization=zipped
    )
    whole, rng = buffer.getvalue(), random.Random(0)
    for _ in range(100):
        data = bytearray(whole)
        for _ in range(rng.randint(1, 4)):
            data[rng.randrange(len(data))] = rng.randrange(256)
        if rng.random() < 0.2:
            del data[rng.randrange(len(data)) :]
        try:
            read(tmp_path, bytes(data))
        except NoriaError:
            continue
