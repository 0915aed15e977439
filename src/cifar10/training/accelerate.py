"""The same network, made of faster layers: for training alone, for what is saved is of standard ones.

On a CPU, TensorFlow's kernels leave some time on the table that other ways of saying the same thing win back. XLA, on
GPUs and in JAX, needs none of this.
"""

import functools
import itertools
import math
from typing import Any, ClassVar

import keras
from keras import layers

from cifar10.compute.device import jit_compile

KEPT_AS_THEY_ARE = (layers.InputLayer, layers.Rescaling, layers.Resizing, layers.Normalization)


def accelerate(network: keras.Model, precision: str, accumulate: int = 1) -> keras.Model:
    """A copy of the network, layer for layer and weight for weight, that trains faster.

    Args:
        network: of standard layers, in float32.
        precision: `float32`, or `bfloat16` for what its convolutions compute in; weights stay float32, and so do the
            preparation of the pictures and the logits.
        accumulate: batches to a step. The running statistics of batch norms follow as fast as with one large batch.

    Returns:
        A network whose `get_weights` are those of the given one.
    """
    fused = not jit_compile()

    def copy(layer: keras.Operation) -> keras.Operation:
        kind, config = type(layer), layer.get_config()
        if (
            precision == "bfloat16"
            and isinstance(layer, layers.Layer)  # the others compute in what they are given
            and not isinstance(layer, KEPT_AS_THEY_ARE)
            and layer.name != "logits"
        ):
            config["dtype"] = "mixed_bfloat16"
        if kind is layers.BatchNormalization:
            config["momentum"] **= 1 / accumulate
        if fused and kind in FAST:
            kind = FAST[kind]
        return kind.from_config(config)

    copied = keras.models.clone_model(network, clone_function=copy, recursive=True)
    copied.set_weights(network.get_weights())
    for ours, theirs in zip(copied.variables, network.variables, strict=True):
        ours.trainable = theirs.trainable  # which Keras copies for layers, not for single variables
    return copied


def take_over(network: keras.Model, accelerated: keras.Model) -> None:
    """Give a network the weights of its accelerated copy, and say of its layers which of them were trained."""
    network.set_weights(accelerated.get_weights())
    layers_of_both = zip(network._flatten_layers(), accelerated._flatten_layers(), strict=True)
    for ours, theirs in layers_of_both:  # what holds others comes before them, and passes on what it is set to
        ours.trainable = theirs.trainable


class FusedBatchNormalization(layers.BatchNormalization):
    """One kernel instead of a dozen, of which Keras makes it on TensorFlow."""

    def call(self, inputs: Any, training: bool | None = None, mask: Any = None) -> Any:
        """As the standard layer."""
        if len(inputs.shape) != 4:
            return super().call(inputs, training, mask)

        import tensorflow as tf

        channels = self.moving_mean.shape
        fused = functools.partial(
            tf.raw_ops.FusedBatchNormV3,
            x=tf.cast(inputs, self.compute_dtype),
            scale=tf.convert_to_tensor(self.gamma) if self.scale else tf.ones(channels),
            offset=tf.convert_to_tensor(self.beta) if self.center else tf.zeros(channels),
            epsilon=self.epsilon,
        )
        mean, variance = tf.convert_to_tensor(self.moving_mean), tf.convert_to_tensor(self.moving_variance)
        if not (training and self.trainable):
            return fused(mean=mean, variance=variance, is_training=False).y

        result = fused(mean=tf.zeros(0), variance=tf.zeros(0), is_training=True)
        values = tf.cast(tf.size(inputs) // channels[0], "float32")
        biased = result.batch_variance * (values - 1) / values  # as Keras counts; the kernel divides by one value less
        self.moving_mean.assign(self.momentum * mean + (1 - self.momentum) * result.batch_mean)
        self.moving_variance.assign(self.momentum * variance + (1 - self.momentum) * biased)
        return result.y


class FastConv2D(layers.Conv2D):
    """Where there are many channels to a pixel, the gradient of the filters is products of matrices, one a tap.

    oneDNN's kernel for the purpose is the faster one on large pictures with few channels, but takes up to eight times
    as long on small ones with many; and with one tap, it is not the faster one anywhere.
    """

    LEAST: ClassVar = {"bfloat16": 3, "float32": 28}  # channels to a pixel, where the two are about equal

    def convolution_op(self, inputs: Any, kernel: Any) -> Any:
        """As the standard layer."""
        if not self._by_products(inputs.shape[1:]):
            return super().convolution_op(inputs, kernel)

        import tensorflow as tf

        @tf.custom_gradient
        def convolve(inputs: Any, kernel: Any) -> Any:
            return tf.nn.conv2d(inputs, kernel, 1, "SAME"), lambda upstream: _gradients(inputs, kernel, upstream)

        return convolve(inputs, tf.convert_to_tensor(kernel))

    def _by_products(self, shape: tuple[int | None, int | None, int]) -> bool:
        height, width, channels = shape
        size = self.kernel_size[0]
        if self.kernel_size != (size, size) or (self.strides, self.dilation_rate, self.groups) != ((1, 1), (1, 1), 1):
            return False
        if size == 1:
            return True
        if size % 2 == 0 or self.padding != "same" or height is None or width is None:
            return False
        return self.LEAST[self.compute_dtype] * height * width <= math.sqrt(channels * self.filters)


def _gradients(inputs: Any, kernel: Any, upstream: Any) -> Any:
    """Of a convolution's inputs and of its kernel."""
    import tensorflow as tf

    of_inputs = tf.raw_ops.Conv2DBackpropInput(
        input_sizes=tf.shape(inputs), filter=kernel, out_backprop=upstream, strides=[1, 1, 1, 1], padding="SAME"
    )
    _, height, width, channels = inputs.shape
    size, margin = kernel.shape[0], kernel.shape[0] // 2
    seen = [inputs]  # by each tap
    if size > 1:
        padded = tf.pad(inputs, [[0, 0], [margin, margin], [margin, margin], [0, 0]])
        places = itertools.product(range(size), repeat=2)
        seen = [padded[:, row : row + height, column : column + width] for row, column in places]
    flat = tf.reshape(upstream, (-1, upstream.shape[-1]))
    taps = [tf.matmul(tf.reshape(each, (-1, channels)), flat, transpose_a=True) for each in seen]
    return of_inputs, tf.reshape(tf.stack(taps), kernel.shape)


class FastActivation(layers.Activation):
    """GELU as one kernel, compiled by XLA, and its gradient as another, instead of five and ten."""

    def call(self, inputs: Any) -> Any:
        """As the standard layer."""
        return _gelu()(inputs) if self.activation is keras.activations.gelu else super().call(inputs)


@functools.cache
def _gelu() -> Any:
    """Give the exact GELU (Hendrycks and Gimpel 2016, arXiv 1606.08415), computed in float32."""
    import tensorflow as tf

    def distribution(x: Any) -> Any:
        return 0.5 * (1 + tf.math.erf(x * 0.5**0.5))

    @tf.function(jit_compile=True)
    def value(inputs: Any) -> Any:
        x = tf.cast(inputs, "float32")
        return tf.cast(x * distribution(x), inputs.dtype)

    @tf.function(jit_compile=True)
    def gradient(inputs: Any, upstream: Any) -> Any:
        x = tf.cast(inputs, "float32")
        density = tf.exp(-0.5 * x * x) * 0.3989422804014327  # 1 / sqrt(2 pi)
        return tf.cast(tf.cast(upstream, "float32") * (distribution(x) + x * density), inputs.dtype)

    @tf.custom_gradient
    def gelu(inputs: Any) -> Any:
        return value(inputs), lambda upstream: gradient(inputs, upstream)

    return gelu


class FastDropout(layers.Dropout):
    """Dropout by 16 random bits a value, instead of 32 made into a float; the rate is kept to 1 in 65,536."""

    def call(self, inputs: Any, training: bool = False) -> Any:
        """As the standard layer."""
        if not training or self.rate == 0 or self.noise_shape is not None or inputs.shape[-1] % 2:
            return super().call(inputs, training)

        import tensorflow as tf

        shape = tf.shape(inputs)
        halved = tf.concat([shape[:-1], shape[-1:] // 2], 0)
        seed = tf.cast(self.seed_generator.next(), "int32")
        bits = tf.bitcast(tf.random.stateless_uniform(halved, seed, None, None, "uint32"), "uint16")
        kept = tf.reshape(bits, shape) >= tf.constant(min(round(self.rate * 2**16), 2**16 - 1), "uint16")
        return inputs * (tf.cast(kept, inputs.dtype) * tf.cast(1 / (1 - self.rate), inputs.dtype))


FAST = {
    layers.BatchNormalization: FusedBatchNormalization,
    layers.Conv2D: FastConv2D,
    layers.Activation: FastActivation,
    layers.Dropout: FastDropout,
}
