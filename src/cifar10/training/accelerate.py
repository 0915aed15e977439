"""Faster layers and a faster Adam for training with TensorFlow on a CPU, where its standard kernels are slow.

Each computes the same as the standard one. Saved models are made of standard layers. On GPUs, and in JAX, the standard
layers are used in training, too, but for `Whitening`.
"""

import functools
import itertools
import math
from collections.abc import Callable
from typing import Any, ClassVar

import keras
import numpy as np
from keras import layers, ops

from cifar10.compute.device import uses_fast_layers
from cifar10.compute.layers import walk_layers

WHITENING = "whitening"
ALWAYS_FLOAT32 = (layers.InputLayer, layers.Rescaling, layers.Resizing, layers.Normalization)
# By name: the logits, and a whitening convolution, which magnifies differences of nearly equal pixels up to 40-fold. In
# bfloat16, of two to three digits, that leaves rounding errors of up to 5% of a standard deviation.
FLOAT32_NAMES = ("logits", WHITENING)


def accelerate(network: keras.Model, compute_dtype: str, accumulate: int = 1) -> keras.Model:
    """Return a copy of the network, layer for layer and weight for weight, that trains faster.

    Args:
        network: of standard layers, in float32.
        compute_dtype: `float32` or `bfloat16`, in which the layers compute. Weights, the preparation of the images and
            the logits stay float32, and so does a whitening convolution.
        accumulate: gradient accumulation steps. The momentum of batch norms is adapted, so that their running
            statistics follow as fast as with one large batch.

    Returns:
        A network with the same order of weights.
    """
    fused = uses_fast_layers()

    def copy(layer: keras.Operation) -> keras.Operation:
        kind, config = type(layer), layer.get_config()
        if (
            compute_dtype == "bfloat16"
            and isinstance(layer, layers.Layer)  # other operations compute in the dtype of their inputs
            and not isinstance(layer, ALWAYS_FLOAT32)
            and layer.name not in FLOAT32_NAMES
        ):
            config["dtype"] = "mixed_bfloat16"
        if kind is layers.BatchNormalization:
            config["momentum"] **= 1 / accumulate
        if kind is layers.Conv2D and layer.name == WHITENING:
            kind = Whitening
        elif fused and kind in FAST:
            kind = FAST[kind]
        return kind.from_config(config)

    copied = keras.models.clone_model(network, clone_function=copy, recursive=True)
    copied.set_weights(network.get_weights())
    for layer in walk_layers(copied):
        if isinstance(layer, layers.Normalization):
            layer.finalize_state()  # it computes with constants that it made of its weights before
    for ours, theirs in zip(copied.variables, network.variables, strict=True):
        ours.trainable = theirs.trainable  # Keras copies this for layers, but not for variables
    return copied


def copy_back(network: keras.Model, accelerated: keras.Model) -> None:
    """Copy the weights of the accelerated copy to the network, and which of its layers are trainable."""
    network.set_weights(accelerated.get_weights())
    # A nested model comes before its layers, because setting `trainable` on it changes theirs.
    for ours, theirs in zip(walk_layers(network), walk_layers(accelerated), strict=True):
        ours.trainable = theirs.trainable


class Whitening(layers.Conv2D):
    """The first convolution of a network, with a fixed kernel, and a bias that learns in the first epochs.

    Attributes:
        learns: whether the bias does. Where not, no gradient is computed down to it, which saves the way back through
            its outputs, the largest of the network.
    """

    learns = True

    def call(self, inputs: Any) -> Any:
        """Compute the same as the standard layer."""
        outputs = super().call(inputs)
        if self.learns:
            return outputs

        @ops.custom_gradient
        def constant(outputs: Any, bias: Any) -> Any:
            # Zeros instead of no gradient, of which Keras would warn.
            return outputs, lambda upstream, **_: (ops.zeros_like(upstream), ops.zeros_like(bias))

        return constant(ops.stop_gradient(outputs), ops.convert_to_tensor(self.bias))


class FusedBatchNormalization(layers.BatchNormalization):
    """Batch norm as one kernel, instead of the dozen that Keras uses on TensorFlow."""

    def call(self, inputs: Any, training: bool | None = None, mask: Any = None) -> Any:
        """Compute the same as the standard layer."""
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
        biased = result.batch_variance * (values - 1) / values  # Keras divides by n, the kernel by n - 1
        self.moving_mean.assign(self.momentum * mean + (1 - self.momentum) * result.batch_mean)
        self.moving_variance.assign(self.momentum * variance + (1 - self.momentum) * biased)
        return result.y


class FastConv2D(layers.Conv2D):
    """A convolution whose kernel gradient is computed by matrix products where that is faster.

    For each of the k x k positions in the kernel (a tap), the gradient is the product of the inputs seen at that
    position, (channels, n x pixels), with the gradient of the outputs, (n x pixels, filters). oneDNN has a kernel for
    all taps at once, which is faster on large images with few channels, but up to eight times slower on small images
    with many channels; for 1x1 convolutions it is never faster.
    """

    # Use matrix products from this ratio of channels to pixels, at which both take about the same time.
    MIN_CHANNELS_PER_PIXEL: ClassVar = {"bfloat16": 3, "float32": 28}

    def convolution_op(self, inputs: Any, kernel: Any) -> Any:
        """Compute the same as the standard layer."""
        if not self._use_products(inputs.shape[1:]):
            return super().convolution_op(inputs, kernel)

        import tensorflow as tf

        @tf.custom_gradient
        def convolve(inputs: Any, kernel: Any) -> Any:
            return tf.nn.conv2d(inputs, kernel, 1, "SAME"), lambda upstream: _gradients(inputs, kernel, upstream)

        return convolve(inputs, tf.convert_to_tensor(kernel))

    def _use_products(self, shape: tuple[int | None, int | None, int]) -> bool:
        height, width, channels = shape
        size = self.kernel_size[0]
        if self.kernel_size != (size, size) or (self.strides, self.dilation_rate, self.groups) != ((1, 1), (1, 1), 1):
            return False
        if size == 1:
            return True
        if size % 2 == 0 or self.padding != "same" or height is None or width is None:
            return False
        return self.MIN_CHANNELS_PER_PIXEL[self.compute_dtype] * height * width <= math.sqrt(channels * self.filters)


def _gradients(inputs: Any, kernel: Any, upstream: Any) -> Any:
    """Return the gradients of a convolution with regard to its inputs and its kernel."""
    import tensorflow as tf

    of_inputs = tf.raw_ops.Conv2DBackpropInput(
        input_sizes=tf.shape(inputs), filter=kernel, out_backprop=upstream, strides=[1, 1, 1, 1], padding="SAME"
    )
    _, height, width, channels = inputs.shape
    size, margin = kernel.shape[0], kernel.shape[0] // 2
    seen = [inputs]  # at each tap
    if size > 1:
        padded = tf.pad(inputs, [[0, 0], [margin, margin], [margin, margin], [0, 0]])
        places = itertools.product(range(size), repeat=2)
        seen = [padded[:, row : row + height, column : column + width] for row, column in places]
    flat = tf.reshape(upstream, (-1, upstream.shape[-1]))
    taps = [tf.matmul(tf.reshape(each, (-1, channels)), flat, transpose_a=True) for each in seen]
    return of_inputs, tf.reshape(tf.stack(taps), kernel.shape)


class FastDepthwiseConv2D(layers.DepthwiseConv2D):
    """A depthwise convolution with a fast gradient of a kernel that is larger than the image.

    oneDNN has no kernel for that gradient, and instead computes many small matrix products, one per channel and image,
    in up to 25 times as long.
    """

    def call(self, inputs: Any) -> Any:
        """Compute the same as the standard layer."""
        if not _has_large_kernel(self, inputs):
            return super().call(inputs)
        return _depthwise(inputs, self.kernel, self.strides[0])


class FastSeparableConv2D(layers.SeparableConv2D):
    """A separable convolution, whose first half is computed as `FastDepthwiseConv2D` does it."""

    def call(self, inputs: Any) -> Any:
        """Compute the same as the standard layer."""
        if not _has_large_kernel(self, inputs):
            return super().call(inputs)

        import tensorflow as tf

        filtered = _depthwise(inputs, self.depthwise_kernel, self.strides[0])
        return tf.nn.conv2d(filtered, tf.convert_to_tensor(self.pointwise_kernel), 1, "SAME")


def _has_large_kernel(layer: layers.DepthwiseConv2D | layers.SeparableConv2D, inputs: Any) -> bool:
    """Whether the kernel is larger than the image, and the layer of the kind that `_depthwise` computes."""
    _, height, width, _ = inputs.shape
    size, stride = layer.kernel_size[0], layer.strides[0]
    if layer.kernel_size != (size, size) or layer.strides != (stride, stride) or layer.dilation_rate != (1, 1):
        return False
    if layer.padding != "same" or layer.depth_multiplier != 1 or height is None or width is None:
        return False
    return size > min(height, width) and not layer.use_bias and layer.activation is keras.activations.linear


def _depthwise(inputs: Any, kernel: Any, stride: int) -> Any:
    """Return a depthwise convolution, (n, height, width, c), whose kernel gradient is computed by matrix products.

    For each channel, all pixels of the inputs are multiplied with all those of the gradient of the outputs, summed over
    the images. Each of these products belongs to the tap by which the two pixels are connected, if there is one.
    """
    import tensorflow as tf

    _, height, width, channels = inputs.shape
    size, strides = kernel.shape[0], [1, stride, stride, 1]
    rows, columns = (_taps(side, size, stride) for side in (height, width))
    taps = np.einsum("yia,xjb->yxijab", rows, columns).reshape(-1, size**2)

    @tf.custom_gradient
    def convolve(inputs: Any, kernel: Any) -> Any:
        def gradients(upstream: Any) -> Any:
            of_inputs = tf.raw_ops.DepthwiseConv2dNativeBackpropInput(
                input_sizes=tf.shape(inputs), filter=kernel, out_backprop=upstream, strides=strides, padding="SAME"
            )
            seen = tf.transpose(tf.reshape(inputs, (-1, height * width, channels)), (2, 1, 0))
            changes = tf.transpose(tf.reshape(upstream, (-1, math.prod(upstream.shape[1:3]), channels)), (2, 0, 1))
            products = tf.reshape(tf.matmul(seen, changes), (channels, -1))
            of_kernel = tf.matmul(taps, tf.cast(products, "float32"), transpose_a=True, transpose_b=True)
            return of_inputs, tf.cast(tf.reshape(of_kernel, kernel.shape), kernel.dtype)

        return tf.nn.depthwise_conv2d(inputs, kernel, strides, "SAME"), gradients

    return convolve(inputs, tf.convert_to_tensor(kernel))


def _taps(side: int, size: int, stride: int) -> np.ndarray:
    """Return which tap connects an input with an output along one axis: float32 (inputs, outputs, taps), 0 or 1."""
    outputs = -(-side // stride)
    padding = max((outputs - 1) * stride + size - side, 0) // 2
    tap = np.arange(side)[:, None] + padding - stride * np.arange(outputs)
    return (tap[..., None] == np.arange(size)).astype("float32")


class FastActivation(layers.Activation):
    """GELU as one kernel compiled by XLA instead of five; the gradients of GELU and SiLU instead of ten and four."""

    def call(self, inputs: Any) -> Any:
        """Compute the same as the standard layer."""
        compiled = {keras.activations.gelu: _gelu, keras.activations.silu: _silu}.get(self.activation)
        return compiled()(inputs) if compiled else super().call(inputs)


@functools.cache
def _gelu() -> Any:
    """Return the exact GELU (Hendrycks and Gimpel 2016, arXiv 1606.08415)."""
    import tensorflow as tf

    def distribution(x: Any) -> Any:
        return 0.5 * (1 + tf.math.erf(x * 0.5**0.5))

    def derivative(x: Any) -> Any:
        density = tf.exp(-0.5 * x * x) * 0.3989422804014327  # 1 / sqrt(2 pi)
        return distribution(x) + x * density

    @tf.function(jit_compile=True)
    def value(inputs: Any) -> Any:
        x = tf.cast(inputs, "float32")
        return tf.cast(x * distribution(x), inputs.dtype)

    return _with_derivative(value, derivative)


@functools.cache
def _silu() -> Any:
    """Return SiLU (Elfwing et al. 2017, arXiv 1702.03118), for which oneDNN has a kernel, but not for its gradient."""
    import tensorflow as tf

    def derivative(x: Any) -> Any:
        gate = tf.sigmoid(x)
        return gate * (1 + x * (1 - gate))

    return _with_derivative(tf.nn.silu, derivative)


def _with_derivative(value: Callable[[Any], Any], derivative: Callable[[Any], Any]) -> Any:
    """Return a function with that derivative, whose gradient is compiled to one kernel that computes in float32."""
    import tensorflow as tf

    @tf.function(jit_compile=True)
    def gradient(inputs: Any, upstream: Any) -> Any:
        return tf.cast(tf.cast(upstream, "float32") * derivative(tf.cast(inputs, "float32")), inputs.dtype)

    @tf.custom_gradient
    def function(inputs: Any) -> Any:
        return value(inputs), lambda upstream: gradient(inputs, upstream)

    return function


class FastDropout(layers.Dropout):
    """Dropout from 16 random bits per value instead of 32, so that the rate is exact to 1 in 65,536."""

    def call(self, inputs: Any, training: bool = False) -> Any:
        """Compute the same as the standard layer."""
        if not training or self.rate == 0 or self.noise_shape is not None or inputs.shape[-1] % 2:
            return super().call(inputs, training)

        import tensorflow as tf

        shape = tf.shape(inputs)
        halved = tf.concat([shape[:-1], shape[-1:] // 2], 0)
        seed = tf.cast(self.seed_generator.next(), "int32")
        bits = tf.bitcast(tf.random.stateless_uniform(halved, seed, None, None, "uint32"), "uint16")
        kept = tf.reshape(bits, shape) >= tf.constant(min(round(self.rate * 2**16), 2**16 - 1), "uint16")
        return inputs * (tf.cast(kept, inputs.dtype) * tf.cast(1 / (1 - self.rate), inputs.dtype))


# What each adds to the training speed, in batches of 64, on two cores of an AMD EPYC (Turin); medians of three. In
# bfloat16: batch norm 39% for batchnorm_cnn and 16% for vgg16, convolution 14% for vgg16, GELU 22% for airbench94,
# dropout 9% for batchnorm_cnn. Limited to AVX2, in float32: 6, 2, 2, 4 and 1%. None is slower than its standard layer
# on either, so the processor decides the compute dtype alone (`device.choose_compute_dtype`), and the dtype the
# threshold of `FastConv2D`.
FAST = {
    layers.BatchNormalization: FusedBatchNormalization,
    layers.Conv2D: FastConv2D,
    layers.DepthwiseConv2D: FastDepthwiseConv2D,
    layers.SeparableConv2D: FastSeparableConv2D,
    layers.Activation: FastActivation,
    layers.Dropout: FastDropout,
}


class FusedAdam(keras.optimizers.Adam):
    """Adam as one TensorFlow kernel per variable, instead of ten that each read and write all of it."""

    def update_step(self, gradient, variable, learning_rate):
        """Update one variable."""
        import tensorflow as tf

        index = self._get_variable_index(variable)
        step = ops.cast(self.iterations + 1, "float32")
        tf.raw_ops.ResourceApplyAdam(
            var=variable.handle,
            m=self._momentums[index].value.handle,
            v=self._velocities[index].value.handle,
            beta1_power=ops.power(self.beta_1, step),
            beta2_power=ops.power(self.beta_2, step),
            lr=ops.cast(learning_rate, "float32"),
            beta1=self.beta_1,
            beta2=self.beta_2,
            epsilon=self.epsilon,
            grad=gradient,
        )
