import numpy as np

X = np.arange(24, dtype=np.float32).reshape(6, 4, 1, 1)


def test_channels_and_places(run_op):
    x = np.arange(16, dtype=np.float32).reshape(1, 4, 2, 2)
    got = run_op("pixel_shuffle", {"X": x}, {"upscale_factor": 2})["Out"]
    assert got[0, 0, :2, :2].tolist() == [[0, 4], [8, 12]]
    got = run_op("shuffle_channel", {"X": x}, {"group": 2})["Out"]
    assert got[0, :, 0, 0].tolist() == [0, 8, 4, 12]
    got = run_op("temporal_shift", {"X": X}, {"seg_num": 3})["Out"]
    assert got[:, 0, 0, 0].tolist() == [0, 0, 4, 0, 12, 16]  # from the step before
    assert got[:, 1, 0, 0].tolist() == [5, 9, 0, 17, 21, 0]  # from the step behind


def test_blocks_of_channels_are_spread_over_space_and_read_anew(run_op):
    x = np.arange(32, dtype=np.float32).reshape(1, 8, 2, 2)
    spread = np.zeros((1, 2, 4, 4), np.float32)
    for channel in range(8):
        block, at = channel % 2, channel // 2
        spread[0, block, at // 2 :: 2, at % 2 :: 2] = x[0, channel]
    got = run_op("space_to_depth", {"X": x}, {"blocksize": 2})["Out"]
    assert np.array_equal(got, spread.reshape(1, 32, 1, 1))
