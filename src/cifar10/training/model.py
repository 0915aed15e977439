"""A network as it is trained: on the device, on pictures that are never quite the same."""

import keras
import numpy as np
from keras import ops

from cifar10.training.augmentation import SIZE, Augmentation, grid
from cifar10.training.recipe import Recipe


class AugmentedTraining(keras.Model):
    """The network sees augmented and mixed pictures in `fit`, and the pictures as they are elsewhere.

    With mixup (Zhang et al. 2017, arXiv 1710.09412) or cutmix (Yun et al. 2019, arXiv 1905.04899) each picture of a
    batch is mixed with another one of it, and so are their targets. The share of the first is drawn from
    Beta(alpha, alpha), `alpha` being the recipe's number, once a batch as in the code of both papers. The accuracy
    reported meanwhile counts the first picture's class alone.
    """

    def __init__(self, network: keras.Model, augmentation: Augmentation, recipe: Recipe) -> None:
        """Take the recipe's `mixup`, `cutmix` and `seed`."""
        super().__init__(name=f"{network.name}_training")
        self.network = network
        self.augmentation = augmentation
        self.recipe = recipe
        self.alpha = recipe.mixup or recipe.cutmix
        self.generator = keras.random.SeedGenerator(recipe.seed + 1)
        if self.alpha:
            # Drawn in advance: XLA cannot draw from TensorFlow's beta distribution.
            self.shares = np.random.default_rng(recipe.seed).beta(self.alpha, self.alpha, 4096).astype("float32")
        # Written by `call` and read by `compute_loss`, in the same step.
        self.share = self.add_weight(shape=(), initializer="ones", trainable=False, name="share")

    def build(self, input_shape):
        """Nothing is left to build: the network comes built, and the augmentation has no weights."""
        self.built = True

    def call(self, images, training=False):
        """Raw RGB 0-255, uint8 or float (n, 32, 32, 3), to logits."""
        images = self.augmentation(images) if training else ops.cast(images, "float32")
        if training and self.alpha:
            images = self._mix(images)
        return self.network(images, training=training)

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        """The loss against the targets, mixed as the pictures were."""
        if training and self.alpha:
            y = self.share * y + (1 - self.share) * ops.flip(y, axis=0)
        return super().compute_loss(x, y, y_pred, sample_weight, training)

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
