import keras
import numpy as np

from cifar10.training.batches import ordered_batches, shuffled_batches

INPUTS = np.arange(300, dtype=np.uint8)[:, None].repeat(3, axis=1)
TARGETS = np.arange(300)


def epoch(batches):
    arrays = [tuple(np.asarray(array) for array in batch) for batch in batches]
    if isinstance(batches, keras.utils.PyDataset):
        batches.on_epoch_end()  # as `fit` does
    return arrays


def test_every_picture_once_in_a_new_order_each_epoch():
    batches = shuffled_batches(INPUTS, TARGETS, 64, seed=0)
    first, second = epoch(batches), epoch(batches)
    assert [len(targets) for _, targets in first] == [64, 64, 64, 64, 44]
    assert first[0][0].dtype == np.uint8
    orders = [np.concatenate([targets for _, targets in each]) for each in (first, second)]
    assert (orders[0] != orders[1]).any()
    for each, order in zip((first, second), orders, strict=True):
        np.testing.assert_array_equal(np.sort(order), TARGETS)
        np.testing.assert_array_equal(np.concatenate([inputs for inputs, _ in each]), INPUTS[order])


def test_in_their_order_each_time():
    batches = ordered_batches(INPUTS, batch_size=128)
    for _ in range(2):
        np.testing.assert_array_equal(np.concatenate([inputs for (inputs,) in epoch(batches)]), INPUTS)
