"""Feed the arrays to Keras, a batch at a time."""

from collections.abc import Iterable

import keras
import numpy as np

from cifar10.contracts import Examples


def shuffled_batches(examples: Examples, num_classes: int, batch_size: int, seed: int) -> Iterable:
    """Batches of uint8 images and one-hot float32 labels, in a new order each epoch, the last one shorter.

    On TensorFlow, Keras would wrap the arrays in a `tf.data` pipeline whose autotuner holds up the end of an epoch
    until its timer runs out, at 5, 10, 20, 41 s ... : an epoch of 42 s was seen to take 85 s. A pipeline with the
    autotuner off does not wait.
    """
    labels = one_hot(examples.labels, num_classes)
    if keras.backend.backend() != "tensorflow":
        return _ShuffledBatches(examples.images, labels, batch_size, seed)

    import tensorflow as tf

    images, targets = tf.constant(examples.images), tf.constant(labels)
    options = tf.data.Options()
    options.autotune.enabled = False
    return (
        tf.data.Dataset.range(len(labels))
        .shuffle(len(labels), seed=seed, reshuffle_each_iteration=True)
        .batch(batch_size)
        .map(lambda index: (tf.gather(images, index), tf.gather(targets, index)))
        .prefetch(2)
        .with_options(options)
    )


def one_hot(labels: np.ndarray, num_classes: int) -> np.ndarray:
    """Labels (n,) to float32 (n, num_classes)."""
    return np.eye(num_classes, dtype="float32")[labels]


class _ShuffledBatches(keras.utils.PyDataset):
    def __init__(self, images: np.ndarray, labels: np.ndarray, batch_size: int, seed: int) -> None:
        super().__init__()
        self.images, self.labels, self.batch_size = images, labels, batch_size
        self.generator = np.random.default_rng(seed)
        self.on_epoch_end()

    def __len__(self) -> int:
        return -(-len(self.labels) // self.batch_size)

    def __getitem__(self, step: int) -> tuple[np.ndarray, np.ndarray]:
        index = self.order[step * self.batch_size : (step + 1) * self.batch_size]
        return self.images[index], self.labels[index]

    def on_epoch_end(self) -> None:
        self.order = self.generator.permutation(len(self.labels))
