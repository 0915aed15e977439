import numpy as np
import pytest

from cifar10.contracts import Examples, verify
from cifar10.errors import InputError
from cifar10.pipelines.preprocessing.nodes import describe, measure, split
from tests.helpers import CLASS_NAMES


def test_split_is_stratified_seeded_and_loses_nothing(drawn):
    examples = drawn[0]
    train, val = split(examples, CLASS_NAMES, 0.25, split_seed=1)
    assert (len(train), len(val)) == (300, 100)
    np.testing.assert_array_equal(np.bincount(val.labels), np.bincount(examples.labels) // 4)

    def key(*splits):
        return sorted(
            key
            for split in splits
            for key in zip(split.images.reshape(len(split), -1).sum(axis=1), split.labels, strict=True)
        )

    assert key(train, val) == key(examples)
    again, other = (
        split(examples, CLASS_NAMES, 0.25, split_seed=1)[0],
        split(examples, CLASS_NAMES, 0.25, split_seed=2)[0],
    )
    np.testing.assert_array_equal(train.images, again.images)
    assert (train.images != other.images).any()


def test_statistics_are_those_of_the_train_split(drawn):
    train, val = split(drawn[0], CLASS_NAMES, 0.25, split_seed=0)
    statistics = measure(train, val, drawn[1])
    np.testing.assert_allclose(statistics.mean, train.images.mean(axis=(0, 1, 2)), rtol=1e-9)
    np.testing.assert_allclose(statistics.std, train.images.std(axis=(0, 1, 2)), rtol=1e-9)
    assert statistics.digests == {"train": train.digest, "val": val.digest, "test": drawn[1].digest}


def test_patch_covariance_is_over_every_2x2_patch_of_the_train_split(drawn):
    train, rest = drawn
    statistics = measure(train, rest, rest)
    windows = np.lib.stride_tricks.sliding_window_view(train.images, (2, 2), axis=(1, 2))  # (n, 31, 31, 3, 2, 2)
    patches = windows.transpose(0, 1, 2, 4, 5, 3).reshape(-1, 12) - np.tile(statistics.mean, 4)
    expected = patches.T @ patches / len(patches)
    np.testing.assert_allclose(statistics.patch_covariance, expected, rtol=1e-4)


@pytest.mark.parametrize("index", [0, 1, 2])
@pytest.mark.parametrize("field", ["images", "labels"])
def test_data_version_changes_with_any_byte(drawn, index, field):
    splits = [*split(drawn[0], CLASS_NAMES, 0.25, split_seed=0), drawn[1]]
    before = measure(*splits)
    arrays = {"images": splits[index].images.copy(), "labels": splits[index].labels.copy()}
    arrays[field].flat[-1] ^= 1
    changed = [*splits]
    changed[index] = Examples(**arrays)
    assert measure(*splits).data_version == before.data_version != measure(*changed).data_version
    name = ("train", "val", "test")[index]
    verify(before.digests, **{name: splits[index]})
    with pytest.raises(InputError, match=f"The {name} images have changed"):
        verify(before.digests, **{name: changed[index]})


@pytest.mark.parametrize("val_fraction", [0.001, 0.999])
def test_too_few_images_for_every_class_in_both_splits(drawn, val_fraction):
    with pytest.raises(InputError, match=f"400 training images, 40 of the rarest class, .*val_fraction {val_fraction}"):
        split(drawn[0], CLASS_NAMES, val_fraction, split_seed=0)


def test_images_with_a_constant_channel_are_refused(drawn):
    images = drawn[0].images.copy()
    images[..., 1] = 7
    constant = Examples(images, drawn[0].labels)
    with pytest.raises(InputError, match="The green channel of the training images is 7 in every pixel"):
        measure(constant, constant, constant)


def test_class_names_of_other_data_are_refused(drawn):
    """As where `--env=demo` was forgotten, with fewer names than the images have classes."""
    message = "images have labels up to 9, but class_names has only 3 names"
    with pytest.raises(InputError, match=f"The training {message}"):
        split(drawn[0], CLASS_NAMES[:3], 0.25, split_seed=0)
    few = drawn[0].take(drawn[0].labels < 3)
    train, val = split(few, CLASS_NAMES[:3], 0.25, split_seed=0)
    with pytest.raises(InputError, match=f"The test {message}"):
        describe(train, val, drawn[1], measure(train, val, drawn[1]), CLASS_NAMES[:3])


def test_data_card_counts_every_class_of_every_split(drawn):
    train, val = split(drawn[0], CLASS_NAMES, 0.25, split_seed=0)
    card = describe(train, val, drawn[1], measure(train, val, drawn[1]), CLASS_NAMES)
    assert card["images"] == {"train": 300, "val": 100, "test": 100}
    assert card["classes"] == {
        name: dict.fromkeys(CLASS_NAMES, count) for name, count in (("train", 30), ("val", 10), ("test", 10))
    }
    assert set(card["train_mean"]) == {"red", "green", "blue"}


def test_exact_duplicates_are_counted_and_logged(drawn, caplog):
    train, val = split(drawn[0], CLASS_NAMES, 0.25, split_seed=0)
    test = drawn[1]
    none = {"in train", "in val", "in test", "in train and val", "in train and test", "in val and test"}

    def count(train, val, test):
        caplog.clear()
        return describe(train, val, test, measure(train, val, test), CLASS_NAMES)["duplicates"]

    assert count(train, val, test) == dict.fromkeys(none, 0)
    assert not caplog.records

    train = train.take(np.array([*range(300), 0, 0, 1]))
    val = Examples(np.concatenate([val.images, train.images[:4]]), np.concatenate([val.labels, train.labels[:4]]))
    test = Examples(np.concatenate([test.images, val.images[-2:]]), np.concatenate([test.labels, 9 - val.labels[-2:]]))
    assert count(train, val, test) == {
        **dict.fromkeys(none, 0), "in train": 3, "in train and val": 4, "in train and test": 2, "in val and test": 2,
    }  # fmt: skip
    assert caplog.messages == [
        "Images that occur more than once: 3 in train, 4 in train and val, 2 in train and test, 2 in val and test."
    ]
