"""Programs on disk: whole, exact, bounded, and refused when anything is wrong."""

import json
import os
import random
import time
import tracemalloc
import zipfile

import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy

import noria.ir.save
from noria.core.dtypes import ALL, to_numpy
from noria.core.errors import (
    ArgumentError,
    DTypeError,
    EngineError,
    FormatError,
    MissingError,
    ProgramError,
    ShapeError,
)
from noria.core.mapped import in_file
from noria.ir.compare import difference, structural_hash
from noria.ir.emit import Builder
from noria.ir.interpret import run_program
from noria.ir.opdef import op
from noria.ir.program import Program, Value
from noria.ir.save import PROGRAM, TENSORS, load, save
from tests.ir.programs import N, chain, finish, layered, nested, state_of_layered


@pytest.fixture(params=["model", "model.noria", "model.zip"])
def path(request, tmp_path):
    return tmp_path / request.param


def refused(path, match):
    with pytest.raises(FormatError, match=match) as told:
        load(path)
    assert told.value.where.startswith(str(path))
    return told.value


# ---- round trips -------------------------------------------------------------------------------


def test_a_program_and_its_state_come_back(path):
    program, state = layered(), state_of_layered()
    save(program, path, state)
    back, arrays = load(path)
    assert difference(program, back) is None and structural_hash(back) == structural_hash(program)
    assert back.name == "layered" and back.parameters().keys() == {"fc.weight"}
    assert list(arrays) == list(state)
    for name, array in state.items():
        assert arrays[name].dtype == array.dtype
        np.testing.assert_array_equal(arrays[name], array)
    x = np.ones((2, 6), np.float32)
    want, got = (run_program(p, {"x": x}, s)[0] for p, s in ((program, state), (back, arrays)))
    np.testing.assert_array_equal(got["out"], want["out"])


def test_blocks_lines_and_makers_come_back(path, call_op):
    program = nested(3)
    save(program, path)
    back, arrays = load(path)
    assert arrays == {} and difference(program, back) is None
    assert [str(p.source) for p in back.operators] == [str(p.source) for p in program.operators]
    assert back.operators[0].source.function == program.operators[0].source.function


def test_state_of_every_dtype_comes_back(path):
    program = Program("p")
    with Builder(program) as b:
        for dtype in ALL:
            b.state(f"s.{dtype}", (2, 3), dtype)
        b.state("empty", (0, 3))
        b.state("open", (N, 2))
    state = {f"s.{d}": np.arange(6).reshape(2, 3).astype(to_numpy(d)) for d in ALL}
    state |= {"empty": np.zeros((0, 3), np.float32), "open": np.ones((7, 2), np.float32)}
    state["s.float64"] = np.arange(6.0).reshape(3, 2).T
    save(program, path, state)
    _, back = load(path)
    for name, array in state.items():
        assert back[name].dtype == array.dtype
        np.testing.assert_array_equal(back[name], array)
    assert back["s.bfloat16"].dtype == ml_dtypes.bfloat16
    back["s.float32"][0, 0] = 99  # the reader's own
    assert load(path)[1]["s.float32"][0, 0] == 0


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "int64"])
def test_large_arrays_of_a_directory_can_stay_there(tmp_path, dtype):
    builder = Builder(Program("large"))
    shapes = {"large": (700, 1800), "small": (3,), "other": (1, 1_100_000)}
    for name, shape in shapes.items():
        builder.state(name, shape, dtype, init=("fill", {"value": 0}))
    state = {
        name: np.arange(np.prod(shape)).reshape(shape).astype(to_numpy(dtype))
        for name, shape in shapes.items()
    }
    for place, mapped in ((tmp_path / "model", 2), (tmp_path / "model.noria", 0)):
        save(builder.program, place, state)
        _, arrays = load(place, mapped=True)
        assert sum(in_file(a) for a in arrays.values()) == mapped
        for name, array in state.items():
            assert arrays[name].dtype == array.dtype
            np.testing.assert_array_equal(arrays[name], array)


def test_equal_programs_give_equal_bytes(tmp_path):
    first, second = tmp_path / "a.noria", tmp_path / "b.noria"
    program, state = layered(), state_of_layered()
    save(program, first, state)
    again, arrays = load(first)
    save(again, second, dict(reversed(arrays.items())))
    assert first.read_bytes() == second.read_bytes()


def test_the_directory_holds_readable_json_and_public_safetensors(tmp_path):
    save(layered(), tmp_path / "m", state_of_layered())
    assert sorted(os.listdir(tmp_path / "m")) == [PROGRAM, TENSORS]
    data = json.loads((tmp_path / "m" / PROGRAM).read_text())
    assert data["format"] == "noria-program" and data["version"] == 1
    arrays = safetensors.numpy.load_file(tmp_path / "m" / TENSORS)
    assert sorted(arrays) == ["constant/0", "fc.weight", "step"]


def test_a_zip_file_renamed_to_anything_is_recognised(tmp_path):
    save(layered(), tmp_path / "m.noria", state_of_layered())
    os.rename(tmp_path / "m.noria", tmp_path / "m")
    assert load(str(tmp_path / "m"))[1].keys() == state_of_layered().keys()


# ---- writing -----------------------------------------------------------------------------------


def test_what_was_there_is_replaced_whole(path):
    save(layered(), path, state_of_layered())
    save(chain(3), path)
    program, state = load(path)
    assert program.name == "chain" and state == {}
    assert os.listdir(path.parent) == [path.name]


def test_a_directory_of_other_things_is_not_replaced(tmp_path):
    (tmp_path / "notes.txt").write_text("keep me")
    with pytest.raises(ArgumentError, match="not replaced") as told:
        save(layered(), tmp_path)
    assert str(tmp_path / "model") in told.value.hint
    (tmp_path / "empty").mkdir()
    save(layered(), tmp_path / "empty")
    assert load(tmp_path / "empty")[0].name == "layered"


def test_a_program_that_breaks_the_rules_is_not_written(path):
    program = layered()
    del program.operators[0]
    with pytest.raises(ProgramError, match="'matmul' is not defined"):
        save(program, path)
    assert not path.exists()


def test_the_state_given_must_be_the_programs(path):
    state = state_of_layered()
    cases = [
        ({"step": state["step"]}, MissingError, "1 of the Program's 2 state arrays"),
        (state | {"other": np.zeros(1)}, MissingError, "no state 'other'"),
        (state | {"step": np.array(3.0)}, DTypeError, "another dtype"),
        (state | {"step": np.zeros(2, np.int64)}, ShapeError, "another rank"),
        (state | {"fc.weight": np.zeros((6, 5), np.float32)}, ShapeError, "another size"),
        (state | {"step": "three"}, DTypeError, "unknown dtype"),
    ]
    for wrong, error, match in cases:
        with pytest.raises(error, match=match):
            save(layered(), path, wrong)
    assert not path.exists()


def test_a_name_that_the_tensor_file_keeps_for_itself_is_refused(path):
    program = Program("p")
    with Builder(program) as b:
        b.state("__metadata__", ())
    with pytest.raises(ArgumentError, match="under this name"):
        save(program, path, {"__metadata__": np.zeros((), np.float32)})
    assert not path.exists()


def test_a_failed_save_leaves_the_old_one(path, monkeypatch):
    save(layered(), path, state_of_layered())

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(noria.ir.save, "write_tensors", full)
    monkeypatch.setattr(noria.ir.save, "tensor_bytes", full)
    with pytest.raises(EngineError, match="disk full"):
        save(chain(2), path)
    assert load(path)[0].name == "layered"
    assert os.listdir(path.parent) == [path.name]


def test_a_program_too_large_to_be_loaded_is_not_written(path, monkeypatch):
    monkeypatch.setattr(noria.ir.save, "MAX_JSON", 1000)
    with pytest.raises(ArgumentError, match="bytes"):
        save(chain(20), path)
    assert not path.exists()


# ---- files that are wrong ----------------------------------------------------------------------


def test_a_path_with_nothing_is_told(path):
    with pytest.raises(MissingError, match="no saved Program at"):
        load(path)


def test_unknown_ops_are_told_at_once(path, own_ops):
    @op
    def test_one(x):
        return x

    @op
    def test_two(x):
        return x

    program = Program("p")
    with Builder(program) as b:
        finish(program, out=test_two(test_one(test_two(b.input("x", ())))))
    save(program, path)
    del own_ops["test_one"], own_ops["test_two"]
    assert refused(path, "uses 2 unknown ops").got == "'test_one', 'test_two'"


def test_other_files_are_refused(tmp_path):
    for name, content in {
        "text.noria": b"hello",
        "empty.noria": b"",
        "program.json": b'{"format": "noria-program"}',
        "weights.safetensors": safetensors.numpy.save({"a": np.zeros(3)}),
        "pickle.pt": b"\x80\x04\x95\x10\x00",
    }.items():
        (tmp_path / name).write_bytes(content)
        refused(tmp_path / name, "not a zip file")
    (tmp_path / "folder").mkdir()
    refused(tmp_path / "folder", "has no program.json")
    with zipfile.ZipFile(tmp_path / "other.zip", "w") as archive:
        archive.writestr("readme.txt", "hello")
    assert refused(tmp_path / "other.zip", "not a saved Program").got == "readme.txt"


def test_a_missing_half_is_told(tmp_path):
    save(layered(), tmp_path / "m", state_of_layered())
    os.remove(tmp_path / "m" / TENSORS)
    refused(tmp_path / "m", f"has no {TENSORS}")


def rewrite(path, change, tensors=None):
    """Change the JSON data (or bytes) of a saved directory, or exchange its tensors."""
    text = (path / PROGRAM).read_bytes()
    new = change(json.loads(text)) if change else None
    if new is not None:
        (path / PROGRAM).write_bytes(new if isinstance(new, bytes) else json.dumps(new).encode())
    if tensors is not None:
        (path / TENSORS).write_bytes(safetensors.numpy.save(tensors))


@pytest.fixture
def saved(tmp_path):
    save(layered(), tmp_path / "m", state_of_layered())
    return tmp_path / "m"


@pytest.mark.parametrize(
    ("text", "match"),
    [
        (b"", "not JSON"),
        (b"{", "not JSON"),
        (b"\xff\xfe", "not JSON"),
        (b'{"format": NaN}', "NaN is not JSON"),
        (b'{"a": 1, "a": 2}', "a field twice"),
        (b'{"format": "noria-program", "version": 1e', "not JSON"),
        (b'{"version": ' + b"9" * 5000 + b"}", "not JSON"),
        (b"[" * 100_000, "nested too deep"),
        (b'{"a":' * 100_000, "nested too deep"),
        (b"null", "not a noria Program"),
        (b'{"format": "noria-program", "version": 7}', "version 7 of the format"),
    ],
)
def test_bad_json_is_refused(saved, text, match):
    rewrite(saved, lambda _: text)
    refused(saved, match)


def test_a_rule_of_programs_that_is_broken_is_told(saved):
    def change(data):
        data["operators"][1]["outputs"][0][1] = "float32[N, 5]"
        return data

    rewrite(saved, change)
    error = refused(saved, "does not hold a valid Program: tanh gives other outputs")
    assert error.expected == "float32[N, 4]" and "tanh at " in error.where


def test_json_and_tensors_must_belong_together(saved):
    good = safetensors.numpy.load_file(saved / TENSORS)
    cases = [
        ({k: v for k, v in good.items() if k != "step"}, "'step' is not in the file"),
        ({k: v for k, v in good.items() if k != "constant/0"}, "'constant/0' is not in the file"),
        (good | {"more": np.zeros(1)}, "1 arrays in the file belong to nothing"),
        (good | {"step": np.array(1.0)}, "'step' has another dtype or shape"),
        (good | {"fc.weight": good["fc.weight"].T.copy()}, "'fc.weight' has another"),
    ]
    for tensors, match in cases:
        rewrite(saved, None, tensors)
        refused(saved, match)
    rewrite(saved, None, good)
    load(saved)


def test_a_tensor_is_not_used_twice(saved):
    def change(data):
        data["operators"].append(
            {
                "op": "constant",
                "inputs": [],
                "outputs": [["again", "float32[4, 5]"]],
                "attrs": {"value": {"array": "float32[4, 5]", "tensor": "constant/0"}},
            }
        )
        return data

    rewrite(saved, change)
    refused(saved, "'constant/0' is not in the file")


def test_json_beyond_the_limit_is_not_read(saved, monkeypatch):
    monkeypatch.setattr(noria.ir.save, "MAX_JSON", 500)
    refused(saved, "too large")
    zipped = saved.parent / "m.noria"
    monkeypatch.undo()
    save(layered(), zipped)
    monkeypatch.setattr(noria.ir.save, "MAX_JSON", 500)
    refused(zipped, "too large")


# ---- zip files that lie ------------------------------------------------------------------------


def archive(path, entries):
    with zipfile.ZipFile(path, "w") as file:
        for name, content, compression in entries:
            file.writestr(zipfile.ZipInfo(name), content, compress_type=compression)
    return path


STORED, DEFLATED = zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED


def test_a_zip_bomb_is_refused_before_it_is_unpacked(tmp_path):
    bomb = b"\0" * (128 << 20)
    text = archive(tmp_path / "a", [(PROGRAM, bomb, DEFLATED), (TENSORS, b"", STORED)])
    state = archive(tmp_path / "b", [(PROGRAM, b"{}", DEFLATED), (TENSORS, bomb, DEFLATED)])
    del bomb
    tracemalloc.start()
    refused(text, "too large")
    refused(state, "sizes in the zip file make no sense")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4 << 20


@pytest.mark.parametrize("value", [5, 10**6, 2**32 - 2])
@pytest.mark.parametrize("offset", [20, 24], ids=["packed", "unpacked"])
@pytest.mark.parametrize("entry", [PROGRAM, TENSORS])
def test_a_size_that_lies_is_refused(tmp_path, entry, offset, value):
    path = tmp_path / "m.noria"
    save(layered(), path, state_of_layered())
    data = bytearray(path.read_bytes())
    place = data.rindex(entry.encode()) - 46 + offset  # the entry in the central directory
    data[place : place + 4] = value.to_bytes(4, "little")
    path.write_bytes(data)
    with pytest.raises(FormatError):
        load(path)


def test_archives_with_other_entries_are_refused(tmp_path):
    good = [(PROGRAM, b"{}", DEFLATED), (TENSORS, b"", STORED)]
    for entries in (good[:1], [*good, ("../evil", b"x", STORED)]):
        refused(archive(tmp_path / "a", entries), "not a saved Program")
    with pytest.warns(UserWarning, match="Duplicate name"):
        path = archive(tmp_path / "a", [*good, good[1]])
    refused(path, "not a saved Program")


def test_entries_packed_in_other_ways_are_refused(tmp_path):
    path = archive(tmp_path / "a", [(PROGRAM, b"{}", zipfile.ZIP_BZIP2), (TENSORS, b"", STORED)])
    refused(path, "encrypted, or compressed in a way")
    save(layered(), tmp_path / "m.noria")
    data = bytearray((tmp_path / "m.noria").read_bytes())
    data[data.rindex(PROGRAM.encode()) - 46 + 8] |= 1  # the flag: encrypted
    (tmp_path / "m.noria").write_bytes(data)
    refused(tmp_path / "m.noria", "encrypted, or compressed in a way")


def test_a_zip_file_that_is_cut_is_refused(tmp_path):
    path = tmp_path / "m.noria"
    save(layered(), path, state_of_layered())
    whole = path.read_bytes()
    for end in range(0, len(whole), 97):
        path.write_bytes(whole[:end])
        refused(path, "zip file")


def test_a_bit_that_flips_in_a_zip_file_is_noticed(tmp_path):
    path = tmp_path / "m.noria"
    program, state = layered(), state_of_layered()
    save(program, path, state)
    whole, rng = path.read_bytes(), random.Random(0)
    for _ in range(150):
        data = bytearray(whole)
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
        path.write_bytes(data)
        try:
            back, arrays = load(path)
        except FormatError:
            continue
        assert difference(program, back) is None  # a bit that zip files do not use
        assert all((arrays[n] == a).all() for n, a in state.items())


# ---- anything may stand in a file --------------------------------------------------------------

JUNK = [None, True, 0, -1, 2**80, 1.5, "", "x", "\ud800", "float32[N]", [], [[]], {}, {"a": 1}]
JUNK += [["x", "float32[3]"], {"dim": "N"}, {"float": "nan"}, {"array": "int8[1]", "data": [1]}]


def mutate(node, rng):
    """Replace, remove, repeat or exchange something somewhere in JSON data."""
    places = []

    def visit(inner):
        keys = inner.keys() if isinstance(inner, dict) else range(len(inner))
        for key in keys:
            places.append((inner, key))
            if isinstance(inner[key], (dict, list)):
                visit(inner[key])

    visit(node)
    inner, key = rng.choice(places)
    other, from_key = rng.choice(places)
    kind = rng.randrange(5)
    if kind == 0:
        inner[key] = rng.choice(JUNK)
    elif kind == 1:
        del inner[key]
    elif kind == 2:
        inner[key] = json.loads(json.dumps(other[from_key]))
    elif kind == 3 and isinstance(inner, list):
        inner.insert(rng.randrange(len(inner) + 1), inner[key])
    elif isinstance(inner, dict):
        inner[rng.choice(["op", "inputs", "x", "blocks", "dim"])] = inner.pop(key)


def test_mutated_data_gives_a_program_or_a_format_error(tmp_path, call_op):
    rng, outcomes = random.Random(1), {"read": 0, "refused": 0}
    for n, (program, state) in enumerate(
        [(layered(), state_of_layered()), (nested(2), {"w": np.ones((), np.float32)})]
    ):
        path = tmp_path / f"m{n}"
        save(program, path, state)
        text = (path / PROGRAM).read_text()
        for _ in range(400):
            data = json.loads(text)
            for _ in range(rng.choice([1, 1, 2, 4])):
                mutate(data, rng)
            (path / PROGRAM).write_text(json.dumps(data))
            outcomes[outcome(path)] += 1
    assert outcomes["refused"] > 400 and outcomes["read"] > 20


def outcome(path):
    """Anything but a Program that can be saved again, or a FormatError, fails the test."""
    try:
        program, state = load(path)
    except FormatError as error:
        assert error.where.startswith(str(path))
        return "refused"
    again = path.parent / "again"
    save(program, again, state if state else None)
    assert difference(program, load(again)[0]) is None
    return "read"


def test_mutated_bytes_give_a_program_or_a_format_error(saved):
    rng = random.Random(2)
    for name in (PROGRAM, TENSORS):
        whole = (saved / name).read_bytes()
        for _ in range(200):
            data = bytearray(whole)
            for _ in range(rng.choice([1, 3])):
                at = rng.randrange(len(data))
                data[at : at + rng.randrange(3)] = rng.randbytes(rng.randrange(3))
            (saved / name).write_bytes(data)
            outcome(saved)
        (saved / name).write_bytes(whole)


# ---- speed -------------------------------------------------------------------------------------


def test_four_thousand_operators_are_saved_and_loaded_in_two_seconds(path):
    program = chain(4000)
    start = time.perf_counter()
    save(program, path)
    load(path)
    assert time.perf_counter() - start < 2


def test_value_identity_is_kept_through_the_file(path):
    save(layered(), path)
    program, _ = load(path)
    x = program.inputs["x"]
    assert isinstance(x, Value) and program.operators[0].inputs[0] is x
    assert program.updates["step"] is program.operators[-1].outputs[0]
    assert program.block.outputs == list(program.outputs.values())
