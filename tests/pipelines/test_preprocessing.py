import numpy as np
import pytest

from cifar10.contracts import Examples, digest, verify
from cifar10.errors import InputError
from cifar10.pipelines.preprocessing.nodes import describe, measure, split
from tests.conftest import CLASS_NAMES


def test_split_is_stratified_seeded_and_loses_nothing(drawn):
    examples = drawn[0]
    train, val = split(examples, 0.25, split_seed=1)
    assert (len(train.labels), len(val.labels)) == (300, 100)
    np.testing.assert_array_equal(np.bincount(val.labels), np.bincount(examples.labels) // 4)

    def key(part):
        return sorted(zip(part.images.reshape(len(part.images), -1).sum(axis=1), part.labels, strict=True))

    assert key(Examples(*(np.concatenate(arrays) for arrays in zip(train, val, strict=True)))) == key(examples)
    again, other = split(examples, 0.25, split_seed=1)[0], split(examples, 0.25, split_seed=2)[0]
    np.testing.assert_array_equal(train.images, again.images)
    assert (train.images != other.images).any()


def test_statistics_are_those_of_the_training_part(drawn):
    train, val = split(drawn[0], 0.25, split_seed=0)
    statistics = measure(train, val, drawn[1])
    np.testing.assert_allclose(statistics.mean, train.images.mean(axis=(0, 1, 2)), rtol=1e-9)
    np.testing.assert_allclose(statistics.std, train.images.std(axis=(0, 1, 2)), rtol=1e-9)
    assert statistics.digests == {"train": digest(train), "val": digest(val), "test": digest(drawn[1])}


def test_patch_covariance_is_over_every_2x2_patch_of_the_training_part(drawn):
    train, rest = drawn
    statistics = measure(train, rest, rest)
    windows = np.lib.stride_tricks.sliding_window_view(train.images, (2, 2), axis=(1, 2))  # (n, 31, 31, 3, 2, 2)
    patches = windows.transpose(0, 1, 2, 4, 5, 3).reshape(-1, 12) - np.tile(statistics.mean, 4)
    expected = patches.T @ patches / len(patches)
    np.testing.assert_allclose(statistics.patch_covariance, expected, rtol=1e-4)


@pytest.mark.parametrize("part", [0, 1, 2])
@pytest.mark.parametrize("field", ["images", "labels"])
def test_data_version_changes_with_any_byte(drawn, part, field):
    parts = [*split(drawn[0], 0.25, split_seed=0), drawn[1]]
    before = measure(*parts)
    array = getattr(parts[part], field).copy()
    array.flat[-1] ^= 1
    changed = [*parts]
    changed[part] = parts[part]._replace(**{field: array})
    assert measure(*parts).data_version == before.data_version != measure(*changed).data_version
    name = ("train", "val", "test")[part]
    verify(before.digests, **{name: parts[part]})
    with pytest.raises(InputError, match=f"The {name} pictures have changed"):
        verify(before.digests, **{name: changed[part]})


@pytest.mark.parametrize("val_fraction", [0.001, 0.999])
def test_too_few_pictures_for_every_class_in_both_parts(drawn, val_fraction):
    with pytest.raises(InputError, match=f"400 training .* rarest class 40, .*val_fraction {val_fraction}"):
        split(drawn[0], val_fraction, split_seed=0)


def test_data_card_counts_every_class_of_every_part(drawn):
    train, val = split(drawn[0], 0.25, split_seed=0)
    card = describe(train, val, drawn[1], measure(train, val, drawn[1]), CLASS_NAMES)
    assert card["pictures"] == {"train": 300, "val": 100, "test": 100}
    assert card["classes"] == {
        part: dict.fromkeys(CLASS_NAMES, count) for part, count in (("train", 30), ("val", 10), ("test", 10))
    }
    assert set(card["train_mean"]) == {"red", "green", "blue"}
