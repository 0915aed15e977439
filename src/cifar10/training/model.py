"""A network as it is trained: on the device, on pictures that are never quite the same."""

import keras
import numpy as np
from keras import ops

from cifar10.training.augmentation import SIZE, Augmentation, grid
from cifar10.training.recipe import Recipe


class Training(keras.Model):
    """The network, fed with numbers of examples that lie on the device: those to train on in `fit`, others elsewhere.

    So an epoch copies nothing but indices and targets to the device. In `fit` the network sees augmented and mixed
    pictures, elsewhere the pictures as they are.

    With mixup (Zhang et al. 2017, arXiv 1710.09412) or cutmix (Yun et al. 2019, arXiv 1905.04899) each picture of a
    batch is mixed with another one of it, and so are their targets. The share of the first is drawn from
    Beta(alpha, alpha), `alpha` being the recipe's number, once a batch as in the code of both papers. The accuracy
    reported meanwhile counts the first picture's class alone.
    """

    def __init__(
        self,
        network: keras.Model,
        train_inputs: np.ndarray,
        val_inputs: np.ndarray,
        augmentation: Augmentation | None,
        recipe: Recipe,
    ) -> None:
        """Take the recipe's `mixup`, `cutmix` and `seed`.

        Args:
            network: gives logits.
            train_inputs: what `fit` trains on: uint8 pictures (n, 32, 32, 3), or features, float32 (n, d).
            val_inputs: what `evaluate` judges by, of the same kind.
            augmentation: of the pictures; None leaves the inputs as they are, and unmixed.
            recipe: how to mix.
        """
        super().__init__(name=f"{network.name}_training")
        self.network = network
        self.augmentation = augmentation
        self.recipe = recipe
        self.alpha = (recipe.mixup or recipe.cutmix) if augmentation else 0.0
        self.generator = keras.random.SeedGenerator(recipe.seed + 1)
        if self.alpha:
            # Drawn in advance: XLA cannot draw from TensorFlow's beta distribution.
            self.shares = np.random.default_rng(recipe.seed).beta(self.alpha, self.alpha, 4096).astype("float32")
        # Written by `call` and read by `compute_loss`, in the same step.
        self.share = self.add_weight(shape=(), initializer="ones", trainable=False, name="share")
        # `int` is 64 bits on TensorFlow, for a variable of 32 stays on the host there, where XLA cannot reach it.
        self.steps = self.add_weight(shape=(), initializer="zeros", dtype="int", trainable=False, name="steps")
        # The first step, from 1, whose loss was no number; 0: none.
        self.bad_step = self.add_weight(shape=(), initializer="zeros", dtype="int", trainable=False, name="bad_step")
        self.train_inputs = _on_device(train_inputs, "train_inputs")
        # Never none at all: JAX traces a call on them before `fit`, and nothing can be taken out of nothing.
        self.val_inputs = _on_device(val_inputs if len(val_inputs) else train_inputs[:1], "val_inputs")

    def state(self) -> list[keras.Variable]:
        """Everything that a step changes besides the optimizer: weights, counters, random state."""
        data = {id(self.train_inputs), id(self.val_inputs)}
        return [variable for variable in self.variables if id(variable) not in data]

    def build(self, input_shape):
        """Nothing is left to build: the network comes built, and the augmentation has no weights of its input's."""
        self.built = True

    def call(self, index, training=False):
        """Numbers of examples, int (n,), to logits."""
        inputs = ops.take(self.train_inputs if training else self.val_inputs, index, axis=0)
        if training and self.augmentation:
            inputs = self.augmentation(inputs)
        if training and self.alpha:
            inputs = self._mix(inputs)
        return self.network(ops.cast(inputs, "float32"), training=training)

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        """The loss against the targets, mixed as the pictures were."""
        if training and self.alpha:
            y = self.share * y + (1 - self.share) * ops.flip(y, axis=0)
        loss = super().compute_loss(x, y, y_pred, sample_weight, training)
        if training:
            step, bad_step = self.steps + 1, ops.convert_to_tensor(self.bad_step)
            first_bad = ops.logical_and(bad_step == 0, ops.logical_not(ops.isfinite(loss)))
            self.steps.assign(step)
            self.bad_step.assign(ops.where(first_bad, step, bad_step))
        return loss

    def _mix(self, images):
        """Each picture with its counterpart from the other end of the batch, which comes shuffled."""
        others = ops.flip(images, axis=0)
        draw = keras.random.randint((), 0, len(self.shares), seed=self.generator)
        share = ops.take(self.shares, draw)
        if self.recipe.mixup:
            self.share.assign(share)
            return share * images + (1 - share) * others
        rows, columns = grid()
        half = ops.sqrt(1 - share) * SIZE / 2
        centre = keras.random.uniform((2,), 0, SIZE, seed=self.generator)
        inside = (ops.abs(rows + 0.5 - centre[0]) < half) & (ops.abs(columns + 0.5 - centre[1]) < half)
        self.share.assign(1 - ops.mean(ops.cast(inside, "float32")))  # the patch may be cut off at the border
        return ops.where(inside[..., None], others, images)


def _on_device(array: np.ndarray, name: str) -> keras.Variable:
    return keras.Variable(array, dtype=str(array.dtype), trainable=False, name=name)
