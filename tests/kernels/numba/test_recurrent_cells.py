"""What the texts of cells promise the source that reads them; their numbers are tested bound."""

import re

import pytest

from noria.kernels.numba import recurrent_cells as cells

CELLS = {
    "lstm": cells.lstm(),
    "lstm, gradient of c": cells.lstm(has_grad_c=True),
    "lstm, gradient of c alone": cells.lstm(has_grad=False, has_grad_c=True),
    "lstm with peepholes": cells.lstm(has_peepholes=True),
    "gru": cells.gru(),
    "gru without bias": cells.gru(has_bias=False),
    "gru that rounds": cells.gru(rounds=True),
    "rnn": cells.rnn("tanh"),
    "rnn, relu": cells.rnn("relu"),
}


@pytest.mark.parametrize("name", CELLS)
def test_lines_use_the_slots_there_are_and_each_of_them(name):
    cell = CELLS[name]
    for sweep, own in ((cell.forward, {"state", "next", "h"}), (cell.backward, {"state", "dh"})):
        loaded = set(re.findall(r"LOAD\((\w+)\)", sweep.lines))
        stored = set(re.findall(r"STORE\((\w+),", sweep.lines))
        handed = {f"{cell.product}{k}" for k in re.findall(r"OUT\((\d),", sweep.lines)}
        assert loaded - own == {s.name for s in sweep.loads}
        assert (stored | handed) - own == {s.name for s in sweep.stores}


@pytest.mark.parametrize("name", CELLS)
def test_every_gate_is_read_forward_and_handed_on_backward(name):
    cell = CELLS[name]
    gates = {str(k) for k in range(cell.gates)}
    assert set(re.findall(r"GATE\((\d)\)", cell.forward.lines)) == gates
    assert set(re.findall(r"OUT\((\d),", cell.backward.lines)) == gates


def test_absent_operands_leave_no_trace():
    assert "bias" not in CELLS["gru without bias"].forward.lines
    assert "LOAD(grad)" not in CELLS["lstm, gradient of c alone"].backward.lines
