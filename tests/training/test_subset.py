"""Which images a recipe trains on."""

import numpy as np
import pytest

from cifar10.contracts import Examples
from cifar10.errors import InputError
from cifar10.training.subset import training_images

TRAIN, VAL = (
    Examples(np.full((count, 32, 32, 3), count, np.uint8), np.arange(count, dtype=np.uint8)) for count in (200, 50)
)


def choose(train_on="train", examples=None, seed=0):
    return training_images("vgg16", TRAIN, VAL, train_on=train_on, examples=examples, seed=seed)


def test_by_default_both_splits_are_taken_as_they_are():
    assert choose() == (TRAIN, VAL)


def test_all_images_are_those_of_both_splits_and_none_are_left_to_choose_by():
    train, val = choose(train_on="all")
    np.testing.assert_array_equal(train.labels, [*range(200), *range(50)])
    np.testing.assert_array_equal(train.images[[0, 199, 200, 249], 0, 0, 0], [200, 200, 50, 50])
    assert (len(val), val.images.shape) == (0, (0, 32, 32, 3))


@pytest.mark.parametrize(("train_on", "images"), [("train", 200), ("all", 250)])
def test_a_number_of_them_is_drawn_at_random_by_the_seed(train_on, images):
    chosen, val = choose(train_on, examples=60, seed=1)
    assert len(chosen) == len(set(zip(chosen.images[:, 0, 0, 0], chosen.labels, strict=True))) == 60
    assert len(val) == (50 if train_on == "train" else 0)
    assert chosen.labels[:30].max() > 100  # and not the first
    assert not np.array_equal(np.sort(chosen.labels), chosen.labels)
    again, other = (choose(train_on, examples=60, seed=seed)[0] for seed in (1, 2))
    np.testing.assert_array_equal(again.labels, chosen.labels)
    assert (other.labels != chosen.labels).any()
    assert len(choose(train_on, examples=images)[0]) == images
    with pytest.raises(
        InputError, match=rf"vgg16\.examples is {images + 1}, but there are only {images} training images"
    ):
        choose(train_on, examples=images + 1)
