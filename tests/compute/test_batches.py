import numpy as np

from cifar10.compute.batches import batches, inference_batch_size, one_hot, shuffled

INPUTS = np.arange(300, dtype=np.uint8)[:, None].repeat(3, axis=1)
TARGETS = np.arange(300)


def test_batches_are_in_order_in_every_iteration():
    both = batches(INPUTS, TARGETS, batch_size=64)
    for _ in range(2):
        inputs, targets = zip(*(tuple(np.asarray(array) for array in batch) for batch in both), strict=True)
        assert [len(each) for each in targets] == [64, 64, 64, 64, 44]
        assert inputs[0].dtype == np.uint8
        np.testing.assert_array_equal(np.concatenate(inputs), INPUTS)
        np.testing.assert_array_equal(np.concatenate(targets), TARGETS)


def test_order_depends_on_seed_and_epoch_alone():
    first, second = (shuffled(300, seed=0, epoch=epoch) for epoch in (0, 1))
    assert (first != second).any()
    assert (first != shuffled(300, seed=1, epoch=0)).any()
    np.testing.assert_array_equal(np.sort(first), TARGETS)
    np.testing.assert_array_equal(second, shuffled(300, seed=0, epoch=1))


def test_batches_for_inference_have_about_the_same_number_of_pixels():
    assert [inference_batch_size(side) for side in (8, 32, 128, 224, 4000)] == [500, 500, 195, 63, 1]


def test_one_hot_is_float32():
    result = one_hot(np.array([2, 0], np.uint8), 3)
    np.testing.assert_array_equal(result, [[0, 0, 1], [1, 0, 0]])
    assert result.dtype == np.float32
