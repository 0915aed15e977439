"""Feed the arrays to Keras, a batch at a time.

On TensorFlow, Keras would wrap the arrays in a `tf.data` pipeline whose autotuner holds up the end of an epoch until
its timer runs out, at 5, 10, 20, 41 s ... : an epoch of 42 s was seen to take 85 s. A pipeline with the autotuner off
does not wait.
"""

from typing import Any

import keras
import numpy as np


def shuffled_batches(inputs: np.ndarray, targets: np.ndarray, batch_size: int, seed: int) -> Any:
    """Batches of inputs and targets, in a new order each epoch, the last one shorter."""
    return _batches((inputs, targets), batch_size, seed)


def ordered_batches(*arrays: np.ndarray, batch_size: int) -> Any:
    """Batches of each of the arrays, in their order, the last one shorter."""
    return _batches(arrays, batch_size, None)


def inference_batch_size(image_size: int) -> int:
    """How many pictures of that side go through a network at once where nothing is trained: 500 of 32, 63 of 224."""
    return max(1, min(500, 3_200_000 // image_size**2))


def one_hot(labels: np.ndarray, num_classes: int) -> np.ndarray:
    """Labels (n,) to float32 (n, num_classes)."""
    return np.eye(num_classes, dtype="float32")[labels]


def _batches(arrays: tuple[np.ndarray, ...], batch_size: int, seed: int | None) -> Any:
    """Without a seed, in their order."""
    if keras.backend.backend() != "tensorflow":
        return _Batches(arrays, batch_size, seed)

    import tensorflow as tf

    tensors = tuple(tf.constant(array) for array in arrays)
    options = tf.data.Options()
    options.autotune.enabled = False
    index = tf.data.Dataset.range(len(arrays[0]))
    if seed is not None:
        index = index.shuffle(len(arrays[0]), seed=seed, reshuffle_each_iteration=True)
    return (
        index.batch(batch_size)
        .map(lambda index: tuple(tf.gather(tensor, index) for tensor in tensors))
        .prefetch(2)
        .with_options(options)
    )


class _Batches(keras.utils.PyDataset):
    def __init__(self, arrays: tuple[np.ndarray, ...], batch_size: int, seed: int | None) -> None:
        super().__init__()
        self.arrays, self.batch_size = arrays, batch_size
        self.order = np.arange(len(arrays[0]))
        self.generator = None if seed is None else np.random.default_rng(seed)
        self.on_epoch_end()

    def __len__(self) -> int:
        return -(-len(self.order) // self.batch_size)

    def __getitem__(self, step: int) -> tuple[np.ndarray, ...]:
        index = self.order[step * self.batch_size : (step + 1) * self.batch_size]
        return tuple(array[index] for array in self.arrays)

    def on_epoch_end(self) -> None:
        if self.generator:
            self.order = self.generator.permutation(len(self.order))
