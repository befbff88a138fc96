"""Quantisation that the reference vectors do not judge."""

import numpy as np

X = np.array([[0.5, -1.0, 0.25], [2.0, 4.0, -3.0]], np.float32)


def test_each_row_has_its_own_scale(run_op):
    slots = ("Out", "OutScale")
    got = run_op("fake_channel_wise_quantize_abs_max", {"X": X}, {"bit_length": 4}, outputs=slots)
    assert got["OutScale"].tolist() == [1.0, 4.0]
    assert got["Out"].tolist() == [[4, -7, 2], [4, 7, -5]]


def test_there_and_back_keeps_the_scale_of_the_moving_mean(run_op):
    one = np.ones(1, np.float32)
    inputs = {"X": X, "InScale": one, "InAccum": one, "InState": one}
    attrs = {"moving_rate": 0.5, "bit_length": 8}
    slots = ("Out", "OutScale", "OutState", "OutAccum")
    name = "fake_quantize_dequantize_moving_average_abs_max"
    got = run_op(name, inputs, attrs, outputs=slots)
    assert (got["OutState"].tolist(), got["OutAccum"].tolist()) == ([1.5], [4.5])
    np.testing.assert_allclose(got["OutScale"], [3.0])
    np.testing.assert_allclose(got["Out"], np.clip(X, -3, 3), atol=1.5 / 127)
    got = run_op(name, inputs, {**attrs, "is_test": True}, outputs=("Out", "OutScale"))
    assert got["OutScale"].tolist() == [1.0]


def test_a_scale_can_be_watched_without_quantising(run_op):
    inputs = {"X": X, "InAccum": np.zeros(1, np.float32), "InState": np.zeros(1, np.float32)}
    slots = ("Out", "OutScale")
    got = run_op("moving_average_abs_max_scale", inputs, {"moving_rate": 0.9}, outputs=slots)
    assert np.array_equal(got["Out"], X)
    assert got["OutScale"].tolist() == [4.0]


def test_codes_below_zero_stand_for_negative_numbers(run_op):
    table = np.linspace(0, 1, 128, dtype=np.float32)
    codes = np.array([[0, 127, -128, -1]], np.int8)
    got = run_op("dequantize_log", {"X": codes, "Dict": table})["Out"]
    np.testing.assert_allclose(got, [[0, 1, 0, -1]], atol=1e-6)


def test_bytes_of_an_integer_model(run_op):
    whole = run_op("quantize", {"Input": X}, {"Scale": 50.0}, outputs=("Output",))["Output"]
    assert whole.dtype == np.uint8
    assert whole.tolist() == [[25, 0, 12], [100, 200, 0]]
    attrs = {"Scale": 50.0, "is_negative_input": True}
    signed = run_op("quantize", {"Input": X}, attrs, outputs=("Output",))["Output"]
    assert signed.tolist() == [[25, -50, 12], [100, 127, -128]]
    scales = {"Scale_in": 50.0, "Scale_out": 25.0}
    half = run_op("requantize", {"Input": signed}, scales, outputs=("Output",))["Output"]
    assert half.tolist() == [[12, -25, 6], [50, 64, -64]]
    back = run_op("dequantize", {"Input": half}, {"Scale": 25.0}, outputs=("Output",))["Output"]
    np.testing.assert_allclose(back[0], [0.48, -1.0, 0.24])


def test_a_padding_id_gives_zeros(run_op):
    table = np.array([[0, 256, 0], [1, 257, 0]], np.float32)
    table[:, 2] = np.array([[1, 2, 3, 4], [5, 6, 7, 8]], np.uint8).view(np.float32)[:, 0]
    inputs = {"W": table, "Ids": np.array([[1], [0]])}
    got = run_op("lookup_table_dequant", inputs, {"padding_idx": 0})["Out"]
    assert got.tolist() == [[6, 7, 8, 9], [0, 0, 0, 0]]
