import keras
import numpy as np
import pytest

from cifar10.architectures import ARCHITECTURES, build
from cifar10.errors import InputError
from cifar10.pipelines.export.formats import FORMATS, KERAS, LITERT_INT8, ONNX, SAVED_MODEL, convert, runner
from cifar10.training.fit import _with_softmax

ON_TENSORFLOW = pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="only TensorFlow exports")
# A plain one, one with GELU, one with depthwise convolutions, one with a network inside the network.
FAST = ("simple_cnn", "airbench94", "mobilenetv2", "efficientnetb0_imagenet")
IMAGES = np.random.default_rng(0).integers(0, 256, (5, 32, 32, 3), dtype=np.uint8)


def settled(network):
    """With batch norms that fit and logits of the size of 1, or deep networks would magnify what rounding does."""
    for layer in network._flatten_layers():
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = 0.0
    x = np.random.default_rng(1).integers(0, 256, (32, 32, 32, 3)).astype("float32")
    network(x, training=True)
    if any(isinstance(layer, keras.Model) for layer in network.layers):  # a frozen backbone settles when asked itself
        for layer in network.layers[1:]:
            if isinstance(layer, keras.Model):
                layer(x, training=True)
                break
            x = layer(x)
    kernel = network.get_layer("logits").kernel
    kernel.assign(kernel / network.predict(IMAGES, verbose=0).std())
    return network


@ON_TENSORFLOW
@pytest.mark.parametrize(
    "name", [name if name in FAST else pytest.param(name, marks=pytest.mark.slow) for name in ARCHITECTURES]
)
def test_every_float_format_answers_as_keras_does(name, statistics, builder_options):
    keras.utils.set_random_seed(0)
    network = _with_softmax(settled(build(name, 10, statistics, **builder_options(name))))
    expected = network.predict(IMAGES, verbose=0)
    assert np.ptp(expected, axis=0).max() > 1e-3  # it does not answer the same to everything
    kinds = (SAVED_MODEL, ONNX) if name in FAST[2:] else FORMATS  # the others take long
    formats = convert(network, IMAGES, kinds)
    assert list(formats) == list(kinds)
    for kind, files in formats.items():
        assert FORMATS[kind] in files
        answer = runner(kind, files)
        whole, parts = answer(IMAGES), np.concatenate([answer(IMAGES[:3]), answer(IMAGES[3:])])  # any number at once
        if kind == LITERT_INT8:
            assert sum(map(len, files.values())) < 0.4 * sum(map(len, formats[KERAS].values()))
            np.testing.assert_allclose(whole.sum(axis=1), 1, atol=0.05)
            continue
        np.testing.assert_allclose(whole, expected, atol=1e-4, err_msg=kind)
        np.testing.assert_allclose(parts, expected, atol=1e-4, err_msg=kind)
    if name == "simple_cnn":  # the weights are in there once
        assert sum(map(len, formats[SAVED_MODEL].values())) < 1.2 * sum(map(len, formats[ONNX].values()))


def test_other_backends_are_refused(monkeypatch, statistics):
    monkeypatch.setattr(keras.backend, "backend", lambda: "torch")
    with pytest.raises(InputError, match="Keras runs on torch: run the same command without KERAS_BACKEND"):
        convert(keras.Sequential([keras.Input((32, 32, 3))]), IMAGES)
