"""The Keras model that is fitted: the network, fed from images on the device, with augmentation and mixing."""

from collections.abc import Sequence

import keras
import numpy as np
from keras import ops

from cifar10.compute.layers import at_resolution
from cifar10.compute.parallel import share
from cifar10.training.accelerate import Whitening
from cifar10.training.augmentation import Augmentation, Mixing, reduce_size
from cifar10.training.options import SIZE


class TrainingModel(keras.Model):
    """The network, fed with indices of examples on the device: those of the train split in `fit`, of val elsewhere.

    So an epoch copies nothing but indices and targets to the device. In `fit` the network gets augmented and mixed
    images, elsewhere the images unchanged. The accuracy reported while mixing counts only the class of the first image.
    """

    def __init__(
        self,
        network: keras.Model,
        train_inputs: np.ndarray,
        val_inputs: np.ndarray,
        augmentation: Augmentation | None = None,
        mixing: Mixing | None = None,
        *,
        sides: Sequence[int] = (),
        copies: np.ndarray | None = None,
        whitening_epochs: int | None = None,
    ) -> None:
        """Put the inputs on the device.

        Args:
            network: returns logits.
            train_inputs: what `fit` trains on: images, uint8 (n, 32, 32, 3), or features, float32 (n, d).
            val_inputs: what `evaluate` uses, of the same kind.
            augmentation: of the train inputs; None leaves them unchanged.
            mixing: of the train inputs, after augmentation; None leaves them unmixed.
            sides: in pixels, to which images are reduced in each epoch of `fit` as the last step; later epochs see them
                as they are. A network for each side is made of the same layers, so that every shape is static.
            copies: of the train inputs, (k, n, ...), of which each epoch of `fit` uses the next; None: always the same.
            whitening_epochs: after which no gradient of a `Whitening` layer is computed; None: never.

        Raises:
            InputError: the network cannot be trained on images of one of these sides.
        """
        super().__init__(name=f"{network.name}_training")
        self.network = network
        self.augmentation = augmentation
        self.mixing = mixing
        self.sides = tuple(sides)
        self.side = SIZE
        self.reduced = [at_resolution(network, side) for side in sorted({*sides} - {SIZE})]
        self.copies = copies
        self.whitening = [layer for layer in network.layers if isinstance(layer, Whitening)]
        self.whitening_epochs = whitening_epochs
        # Keras's `int` has 64 bits on TensorFlow, where 32-bit variables stay on the host, out of XLA's reach.
        self.steps = self.add_weight(shape=(), initializer="zeros", dtype="int", trainable=False, name="steps")
        # The first step, from 1, whose loss was not finite; 0: none.
        self.bad_step = self.add_weight(shape=(), initializer="zeros", dtype="int", trainable=False, name="bad_step")
        self.train_inputs = _on_device(train_inputs, "train_inputs")
        # Never empty, because JAX traces a call on them before `fit`, and cannot take from an empty array.
        self.val_inputs = _on_device(val_inputs if len(val_inputs) else train_inputs[:1], "val_inputs")

    def state(self) -> list[keras.Variable]:
        """Return everything that a step changes besides the optimizer: weights, counters, random state."""
        data = {id(self.train_inputs), id(self.val_inputs)}
        return [variable for variable in self.variables if id(variable) not in data]

    def start_epoch(self, epoch: int) -> None:
        """Prepare an epoch, counted from 0: flip, side and copy of the images, and whether whitening still learns."""
        if self.augmentation:
            self.augmentation.epoch.assign(epoch)
        if self.copies is not None:
            self.train_inputs.assign(self.copies[epoch % len(self.copies)])
        self.train_at(self.sides[epoch] if epoch < len(self.sides) else SIZE)
        learns = self.whitening_epochs is None or epoch < self.whitening_epochs
        for layer in self.whitening:
            if layer.learns != learns:
                layer.learns = learns
                self.train_function = None

    def train_at(self, side: int) -> None:
        """Train on images of that side from now on, one of `sides` or 32."""
        if side != self.side:
            self.side = side
            self.train_function = None  # `fit` then traces another one

    def build(self, input_shape):
        """Do nothing: the network comes built, and no other weights depend on the input."""
        self.built = True

    def call(self, index, training=False):
        """Map indices of examples, int (n,), to logits (n, classes)."""
        # Cast, because Keras averages a batch of indices into floats where it builds the metrics on one of them.
        inputs = ops.take(self.train_inputs if training else self.val_inputs, ops.cast(index, "int32"), axis=0)
        if training and self.augmentation:
            inputs = self.augmentation(inputs)
        if training and self.mixing:
            inputs = self.mixing(inputs)
        inputs, network = share(ops.cast(inputs, "float32")), self.network
        if training and self.side != SIZE:
            inputs = reduce_size(inputs, self.side)
            network = next(each for each in self.reduced if each.input_shape[1] == self.side)
        return network(inputs, training=training)

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        """Return the loss against the targets, which are mixed as the images were."""
        if training and self.mixing:
            y = self.mixing.mix_targets(y)
        loss = super().compute_loss(x, y, y_pred, sample_weight, training)
        if training:
            step, bad_step = self.steps + 1, ops.convert_to_tensor(self.bad_step)
            first_bad = ops.logical_and(bad_step == 0, ops.logical_not(ops.isfinite(loss)))
            self.steps.assign(step)
            self.bad_step.assign(ops.where(first_bad, step, bad_step))
        return loss


def _on_device(array: np.ndarray, name: str) -> keras.Variable:
    return keras.Variable(array, dtype=str(array.dtype), trainable=False, name=name)
