"""Feed arrays to Keras in batches.

On TensorFlow, Keras would wrap the arrays in a `tf.data` pipeline whose autotuner delays the end of an epoch until its
timer expires, after 5, 10, 20, 41 s and so on: an epoch of 42 s has been seen to take 85 s. A pipeline without the
autotuner does not wait.
"""

from typing import Any

import keras
import numpy as np


def shuffled(count: int, seed: int, epoch: int) -> np.ndarray:
    """Return the order of the examples in an epoch, which depends on seed and epoch alone and so needs no state."""
    return np.random.default_rng((seed, epoch)).permutation(count).astype("int32")


def batches(*arrays: np.ndarray, batch_size: int) -> Any:
    """Return the batches of the arrays, in their order; the last one may be shorter."""
    if keras.backend.backend() != "tensorflow":
        return _Batches(arrays, batch_size)

    import tensorflow as tf

    tensors = tuple(tf.constant(array) for array in arrays)
    options = tf.data.Options()
    options.autotune.enabled = False
    return (
        tf.data.Dataset.range(len(arrays[0]))
        .batch(batch_size)
        .map(lambda index: tuple(tf.gather(tensor, index) for tensor in tensors))
        .prefetch(2)
        .with_options(options)
    )


def inference_batch_size(image_size: int) -> int:
    """Return the batch size for inference on images of that side: 500 at 32 pixels, 63 at 224."""
    return max(1, min(500, 3_200_000 // image_size**2))


def one_hot(labels: np.ndarray, num_classes: int) -> np.ndarray:
    """Convert labels (n,) to float32 (n, num_classes)."""
    return np.eye(num_classes, dtype="float32")[labels]


class _Batches(keras.utils.PyDataset):
    def __init__(self, arrays: tuple[np.ndarray, ...], batch_size: int) -> None:
        super().__init__()
        self.arrays, self.batch_size = arrays, batch_size

    def __len__(self) -> int:
        return -(-len(self.arrays[0]) // self.batch_size)

    def __getitem__(self, step: int) -> tuple[np.ndarray, ...]:
        return tuple(array[step * self.batch_size : (step + 1) * self.batch_size] for array in self.arrays)
