"""Accelerated layers compute what the standard ones compute."""

import keras
import numpy as np
import pytest

from cifar10.architectures import build
from cifar10.compute.layers import at_resolution, walk_layers
from cifar10.contracts import Examples
from cifar10.pipelines.preprocessing.nodes import measure
from cifar10.training import accelerate as accelerate_module
from cifar10.training.accelerate import (
    FAST,
    FastActivation,
    FastConv2D,
    FastDropout,
    FusedBatchNormalization,
    accelerate,
    copy_back,
)
from cifar10.training.transfer import unfreeze

IMAGES = np.random.default_rng(0).integers(0, 256, (6, 32, 32, 3)).astype("float32")
ON_TENSORFLOW = pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="the layers are for TensorFlow")


@pytest.fixture(scope="module", params=["airbench94", "vgg16", "mobilenetv2_imagenet"])
def network(request, statistics, builder_options):
    """A network whose batch norms have the statistics of some training."""
    keras.utils.set_random_seed(0)
    network = build(request.param, 10, statistics, **builder_options(request.param))
    network(IMAGES, training=True)
    return network


def step(network, images):
    """Return loss and gradients of a step in training mode, and all weights after it."""
    import tensorflow as tf

    with tf.GradientTape() as tape:
        loss = keras.ops.mean(keras.ops.cast(network(images, training=True), "float32") ** 2)
    gradients = tape.gradient(loss, [variable.value for variable in network.trainable_variables])
    return float(loss), [np.array(each) for each in gradients], network.get_weights()


@ON_TENSORFLOW
@pytest.mark.parametrize(("compute_dtype", "tolerance"), [("float32", 2e-3), ("bfloat16", 0.1)])
def test_accelerated_network_computes_the_same(network, compute_dtype, tolerance):
    if (network.name, compute_dtype) == ("mobilenetv2_imagenet", "bfloat16"):
        pytest.skip("a network this deep with random weights magnifies rounding errors")
    fast = accelerate(network, compute_dtype)
    kinds = {type(layer) for layer in walk_layers(fast)}
    assert not kinds & {keras.layers.BatchNormalization, keras.layers.Conv2D, keras.layers.Activation}
    plain, other = (keras.ops.convert_to_numpy(each(IMAGES)) for each in (network, fast))
    assert other.dtype == np.float32
    np.testing.assert_allclose(other, plain, atol=tolerance * abs(plain).max())
    assert [each.trainable for each in fast.variables] == [each.trainable for each in network.variables]


@ON_TENSORFLOW
@pytest.mark.parametrize(("size", "side", "channels"), [(1, 8, 5), (3, 2, 15), (5, 2, 15), (3, 8, 200)])
def test_kernel_gradient_in_bfloat16_is_that_of_float32_up_to_rounding(size, side, channels):
    import tensorflow as tf

    generator = np.random.default_rng(0)
    inputs, upstream = (
        tf.constant(generator.normal(size=(50, side, side, count)), tf.bfloat16) for count in (channels, channels + 1)
    )
    layer = FastConv2D(channels + 1, size, padding="same", use_bias=False, dtype="mixed_bfloat16")
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(tf.cast(layer(inputs) * upstream, "float32"))
    assert layer._use_products(inputs.shape[1:])
    gradient = np.array(tape.gradient(loss, layer.kernel.value))
    expected = np.array(
        tf.raw_ops.Conv2DBackpropFilter(
            input=tf.cast(inputs, "float32"), filter_sizes=layer.kernel.shape, strides=[1] * 4, padding="SAME",
            out_backprop=tf.cast(upstream, "float32"),
        )
    )  # fmt: skip
    assert gradient.dtype == np.float32
    np.testing.assert_allclose(gradient, expected, atol=0.01 * abs(expected).max())


def test_statistics_of_a_normalization_are_used():
    """EfficientNetB0's, which come with its weights."""
    normalization = keras.layers.Normalization()
    normalization.adapt(IMAGES)
    inputs = keras.Input(IMAGES.shape[1:])
    network = keras.Model(inputs, normalization(inputs))
    expected = keras.ops.convert_to_numpy(network(IMAGES))
    assert abs(expected.mean()) < 0.01
    np.testing.assert_allclose(keras.ops.convert_to_numpy(accelerate(network, "float32")(IMAGES)), expected, atol=1e-5)


@ON_TENSORFLOW
@pytest.mark.parametrize("side", [32, 28])
def test_accelerated_layers_learn_the_same(statistics, side):
    network = build("airbench94", 10, statistics)
    before = network.get_weights()
    fast = accelerate(network, "float32")
    (loss, gradients, after), (other_loss, other_gradients, other_after) = (
        step(at_resolution(each, side), IMAGES[:, :side, :side]) for each in (network, fast)
    )
    assert FastConv2D in {type(layer) for layer in at_resolution(fast, side).layers}
    assert other_loss == pytest.approx(loss, rel=1e-4)
    for one, other in zip(gradients, other_gradients, strict=True):
        np.testing.assert_allclose(other, one, atol=2e-3 * abs(one).max())
    moved = [(one, other) for was, one, other in zip(before, after, other_after, strict=True) if (was != one).any()]
    assert len(moved) == 12  # the mean and the variance of six batch norms
    for one, other in moved:
        np.testing.assert_allclose(other, one, rtol=1e-3, atol=1e-4)


@ON_TENSORFLOW
@pytest.mark.parametrize(
    ("kernel_size", "side", "channels", "padding"),
    [(1, 4, 3, "same"), (1, 4, 3, "valid"), (3, 2, 120, "same"), (5, 2, 120, "same"), (3, 4, 450, "same")],
)
def test_kernel_gradient_by_matrix_products(kernel_size, side, channels, padding):
    import tensorflow as tf

    generator = np.random.default_rng(0)
    inputs = generator.normal(size=(5, side, side, channels)).astype("float32")
    weights = generator.normal(size=(5, side, side, channels + 1)).astype("float32")
    results = []
    for kind in (keras.layers.Conv2D, FastConv2D):
        layer = kind(channels + 1, kernel_size, padding=padding, kernel_initializer=keras.initializers.HeNormal(1))
        x = tf.constant(inputs)
        with tf.GradientTape() as tape:
            tape.watch(x)
            loss = keras.ops.sum(layer(x) * weights)
        results.append(tape.gradient(loss, [x, layer.kernel.value, layer.bias.value]))
    assert layer._use_products(x.shape[1:])
    for plain, fast in zip(*results, strict=True):
        np.testing.assert_allclose(fast, plain, rtol=1e-4, atol=1e-3)


@ON_TENSORFLOW
@pytest.mark.parametrize("kind", ["DepthwiseConv2D", "SeparableConv2D"])
@pytest.mark.parametrize(
    ("size", "shape", "stride", "options", "large"),
    [
        (5, (4, 4), 1, {}, True),
        (5, (4, 4), 2, {}, True),
        (5, (3, 3), 2, {}, True),
        (3, (2, 2), 1, {}, True),
        (7, (6, 9), 1, {}, True),
        (4, (3, 3), 1, {}, True),
        (5, (1, 1), 1, {}, True),
        (3, (3, 3), 1, {}, False),
        (5, (4, 4), 1, {"depth_multiplier": 2}, False),
        (3, (2, 2), 1, {"dilation_rate": 2}, False),
        (5, (4, 4), 1, {"use_bias": True}, False),
        (5, (4, 4), 1, {"activation": "relu"}, False),
    ],
)
def test_gradients_of_a_depthwise_convolution(kind, size, shape, stride, options, large, monkeypatch):
    import tensorflow as tf

    calls = []
    depthwise = accelerate_module._depthwise
    monkeypatch.setattr(accelerate_module, "_depthwise", lambda *args: calls.append(args) or depthwise(*args))
    inputs = np.random.default_rng(0).normal(size=(7, *shape, 6)).astype("float32")
    standard, filters = getattr(keras.layers, kind), (4,) if kind == "SeparableConv2D" else ()
    results, weights = [], None
    for layer in (
        each(*filters, size, stride, **{"padding": "same", "use_bias": False, **options})
        for each in (standard, FAST[standard])
    ):
        layer.build(inputs.shape)
        weights = weights or layer.get_weights()
        layer.set_weights(weights)
        x = tf.constant(inputs)
        with tf.GradientTape() as tape:
            tape.watch(x)
            outputs = layer(x)
            positions = tf.reshape(tf.range(tf.size(outputs)), outputs.shape)
            loss = tf.reduce_sum(outputs * tf.sin(tf.cast(positions, "float32")))
        results.append([outputs, *tape.gradient(loss, [x, *(each.value for each in layer.trainable_variables)])])
    assert bool(calls) == large
    for plain, fast in zip(*results, strict=True):
        np.testing.assert_allclose(fast, plain, rtol=1e-4, atol=1e-4)


@ON_TENSORFLOW
def test_frozen_and_flat_batch_norms_compute_the_same():
    for shape in ((4, 5, 5, 3), (4, 3)):
        inputs = np.random.default_rng(0).normal(2, 3, size=shape).astype("float32")
        plain, fast = keras.layers.BatchNormalization(), FusedBatchNormalization()
        for training in (True, False):
            np.testing.assert_allclose(fast(inputs, training=training), plain(inputs, training=training), atol=1e-4)
        fast.trainable = plain.trainable = False
        np.testing.assert_allclose(fast(inputs, training=True), plain(inputs, training=True), atol=1e-4)
        for one, other in zip(plain.get_weights(), fast.get_weights(), strict=True):
            np.testing.assert_allclose(other, one, rtol=1e-5)


@ON_TENSORFLOW
@pytest.mark.parametrize("activation", ["gelu", "silu"])
def test_fast_activations_and_their_gradients(activation):
    import tensorflow as tf

    values, gradients = [], []
    for kind in (keras.layers.Activation, FastActivation):
        x = tf.linspace(-6.0, 6.0, 101)
        with tf.GradientTape() as tape:
            tape.watch(x)
            values.append(kind(activation)(x))
        gradients.append(tape.gradient(values[-1], x))
    for plain, fast in (values, gradients):
        np.testing.assert_allclose(fast, plain, atol=1e-6)


@ON_TENSORFLOW
@pytest.mark.parametrize("dtype", ["float32", "mixed_bfloat16"])
def test_dropout_keeps_its_rate_and_the_mean(dtype):
    import tensorflow as tf

    layer = FastDropout(0.4, seed=1, dtype=dtype)
    x = tf.ones((50, 20, 20, 6))
    with tf.GradientTape() as tape:
        tape.watch(x)
        first = layer(x, training=True)
    gradient = np.array(tape.gradient(first, x))
    first, second = (np.array(each, "float32") for each in (first, layer(x, training=True)))
    assert (first > 0).mean() == pytest.approx(0.6, abs=0.005)
    assert first.max() == pytest.approx(1 / 0.6, rel=0.005)
    np.testing.assert_allclose(gradient, first)
    assert ((first > 0) == (second > 0)).mean() == pytest.approx(0.52, abs=0.01)  # drawn independently
    assert (first > 0).reshape(-1, 2).all(axis=1).mean() == pytest.approx(
        0.36, abs=0.01
    )  # as are both halves of a draw
    np.testing.assert_array_equal(layer(x, training=False), x)


def test_copy_back_copies_weights_and_which_layers_are_trainable(statistics, builder_options):
    network = build("mobilenetv2_imagenet", 10, statistics, **builder_options("mobilenetv2_imagenet"))
    fast = accelerate(network, "float32")
    fast.set_weights([value + 1 for value in fast.get_weights()])
    unfreeze(fast, 20)
    copy_back(network, fast)
    for value, other in zip(network.get_weights(), fast.get_weights(), strict=True):
        np.testing.assert_array_equal(value, other)
    trained = [[weight.path for weight in each.trainable_weights] for each in (network, fast)]
    assert trained[0] == trained[1]
    assert 0 < len(trained[0]) < len(network.weights) / 4


@ON_TENSORFLOW
def test_batch_norms_follow_as_fast_whatever_is_accumulated(statistics):
    """Four small batches in a row move the running statistics as far as one large batch."""
    network = build("batchnorm_cnn", 10, statistics)
    means = []
    for accumulate in (1, 4):
        fast = accelerate(network, "float32", accumulate)
        for _ in range(accumulate):
            fast(IMAGES, training=True)
        norms = [layer for layer in fast.layers if isinstance(layer, keras.layers.BatchNormalization)]
        assert len(norms) == 3
        assert all(norm.momentum**accumulate == pytest.approx(0.9) for norm in norms)
        means.append(keras.ops.convert_to_numpy(norms[0].moving_mean))
    assert abs(means[0]).max() > 0.01
    np.testing.assert_allclose(means[1], means[0], rtol=1e-4, atol=1e-6)


def test_images_are_whitened_in_float32():
    """In bfloat16, rounding the pixels would be noise that whitening magnifies."""
    rng, place = np.random.default_rng(0), np.linspace(-1, 1, 32)
    colours, rows, columns = rng.uniform(-1, 1, (3, 64, 1, 1, 3))
    smooth = colours + rows * place[:, None, None] + columns * place[:, None]
    images = np.clip(128 + 40 * smooth + rng.normal(0, 2, smooth.shape), 0, 255).astype("uint8")
    examples = Examples(images, np.zeros(len(images), "uint8"))
    network = build("airbench94", 10, measure(examples, examples, examples))
    fast = accelerate(network, "bfloat16")
    outputs = [keras.Model(each.inputs, each.get_layer("whitening").output) for each in (network, fast)]
    plain, other = (keras.ops.convert_to_numpy(each(images.astype("float32"))) for each in outputs)
    np.testing.assert_allclose(other, plain, atol=1e-4)


@ON_TENSORFLOW
def test_whitening_that_does_not_learn_has_no_gradient_and_leaves_the_others_as_they_are(statistics):
    fast = accelerate(build("airbench94", 10, statistics), "float32")
    names = [variable.path for variable in fast.trainable_variables]
    (whitening,) = (number for number, path in enumerate(names) if "whitening" in path)
    loss, gradients, _ = step(fast, IMAGES)
    assert abs(gradients[whitening]).max() > 0
    fast.get_layer("whitening").learns = False
    constant_loss, constant, _ = step(fast, IMAGES)
    assert constant_loss == pytest.approx(loss)
    assert (constant.pop(whitening) == 0).all()
    del gradients[whitening]
    for gradient, other in zip(gradients, constant, strict=True):
        np.testing.assert_allclose(other, gradient, rtol=1e-4, atol=1e-7)


def test_copy_has_weights_of_its_own(statistics):
    network = build("simple_cnn", 10, statistics)
    before = network.get_weights()
    fast = accelerate(network, "bfloat16")
    fast.set_weights([value + 1 for value in before])
    for value, kept in zip(network.get_weights(), before, strict=True):
        np.testing.assert_array_equal(value, kept)
