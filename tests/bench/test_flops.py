import pytest

from bench import flops, sizes
from bench.workloads import WORKLOADS


def test_known_counts_of_multiply_adds():
    assert flops.resnet50() == pytest.approx(2 * 4.089e9, rel=1e-3)  # torchvision: 4.089 G
    assert flops.mobilenet_v2() == pytest.approx(2 * 300.8e6, rel=1e-3)  # torchvision: 0.301 G
    assert flops.perceptron((2, 3, 5)) == 2 * (6 + 15)
    assert flops.lstm(3, 2) == 2 * 4 * 2 * (3 + 2)
    assert flops.conv(4, 8, 3, 5, groups=2) == 2 * 25 * 8 * 2 * 9


def test_training_is_three_forward_passes_of_the_batch():
    assert flops.of("resnet50_train_fp32") == 3 * 16 * flops.resnet50()
    assert flops.of("resnet50_infer_bs1") == flops.resnet50()
    assert (
        flops.of("transformer_train") == 3 * sizes.BATCH["transformer_train"] * flops.transformer()
    )


def test_attention_of_one_word_sees_all_words():
    one = flops.attention_block(4, 8, 1)
    assert flops.attention_block(4, 8, 3) - one == 2 * (2 * 2 * 4)


@pytest.mark.parametrize("name", WORKLOADS)
def test_every_workload_has_a_count(name):
    assert WORKLOADS[name].operations > 0
    assert WORKLOADS[name].figure(0.5) > 0
