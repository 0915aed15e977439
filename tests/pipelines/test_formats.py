"""Export formats: each predicts what the Keras model predicts."""

import errno
import os
import tempfile

import keras
import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter

from cifar10.architectures import ARCHITECTURES, build
from cifar10.architectures.inverted_residual import inverted_residual
from cifar10.compute.layers import walk_layers
from cifar10.errors import InputError
from cifar10.pipelines.export.formats import (
    FORMATS,
    INPUT,
    KERAS,
    LITERT,
    LITERT_INT8,
    ONNX,
    OUTPUT,
    SAVED_MODEL,
    convert,
    runner,
)
from cifar10.training.fit import _with_softmax
from tests.helpers import slow

ON_TENSORFLOW = pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="only TensorFlow exports")
FLOAT = [kind for kind in FORMATS if kind != LITERT_INT8]
IMAGES = np.random.default_rng(0).integers(0, 256, (5, 32, 32, 3), dtype=np.uint8)


def calibrated(network):
    """Fit the batch norms to images and scale the logits to about 1; deep networks would magnify rounding errors."""
    for layer in walk_layers(network):
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = 0.0
    x = np.random.default_rng(1).integers(0, 256, (32, 32, 32, 3)).astype("float32")
    network(x, training=True)
    if any(isinstance(layer, keras.Model) for layer in network.layers):  # a frozen backbone has to be called itself
        for layer in network.layers[1:]:
            if isinstance(layer, keras.Model):
                layer(x, training=True)
                break
            x = layer(x)
    kernel = network.get_layer("logits").kernel
    kernel.assign(kernel / network.predict(IMAGES, verbose=0).std())
    return network


def small_network():
    """Return a network with whatever an export can fail on: a `Normalization`, GELU, depthwise and nested layers."""
    layers = keras.layers
    normalization = layers.Normalization()
    normalization.adapt(IMAGES)  # its statistics must not become inputs
    inner = keras.Input((16, 16, 8))
    block = inverted_residual(inner, 8, expansion=2, activation="relu", name="block")
    images = keras.Input((32, 32, 3))
    x = layers.Activation("gelu")(layers.Conv2D(8, 3, 2, padding="same")(normalization(images)))
    x = layers.GlobalAveragePooling2D(name="features")(keras.Model(inner, block, name="backbone")(x))
    return keras.Model(images, layers.Dense(10, name="logits")(x), name="small")


@ON_TENSORFLOW
@pytest.mark.parametrize(
    "name",
    ["small", *slow(ARCHITECTURES.keys() - {"simple_cnn"}, ARCHITECTURES)],
)
def test_every_float_format_predicts_like_keras(name, statistics, builder_options, recwarn, capfd):
    keras.utils.set_random_seed(0)
    network = small_network() if name == "small" else build(name, 10, statistics, **builder_options(name))
    network = _with_softmax(calibrated(network))
    expected = network.predict(IMAGES, verbose=0)
    assert np.ptp(expected, axis=0).max() > 1e-3  # predictions differ between images
    kinds = FLOAT if name == "small" else FORMATS
    formats = convert(network, IMAGES, kinds)
    assert list(formats) == list(kinds)
    for kind, files in formats.items():
        assert FORMATS[kind] in files
        predict = runner(kind, files)
        whole, parts = predict(IMAGES), np.concatenate([predict(IMAGES[:3]), predict(IMAGES[3:])])  # any batch size
        if kind == LITERT_INT8:
            assert sum(map(len, files.values())) < 0.4 * sum(map(len, formats[KERAS].values()))
            np.testing.assert_allclose(whole.sum(axis=1), 1, atol=0.05)
            continue
        np.testing.assert_allclose(whole, expected, atol=1e-4, err_msg=kind)
        np.testing.assert_allclose(parts, expected, atol=1e-4, err_msg=kind)
    noise = capfd.readouterr().err
    assert not [word for word in ("XNNPACK", "fully_quantize") if word in noise], noise
    for kind in {LITERT, LITERT_INT8} & formats.keys():
        signatures = Interpreter(model_content=formats[kind][FORMATS[kind]]).get_signature_list()
        assert signatures == {"serving_default": {"inputs": [INPUT], "outputs": [OUTPUT]}}
    assert not [each for each in recwarn if "Interpreter" in str(each.message)]
    if name == "simple_cnn":  # the weights are stored once
        assert sum(map(len, formats[SAVED_MODEL].values())) < 1.2 * sum(map(len, formats[ONNX].values()))


def test_other_backends_are_refused(monkeypatch, statistics):
    monkeypatch.setattr(keras.backend, "backend", lambda: "torch")
    with pytest.raises(InputError, match="KERAS_BACKEND is torch: run the same command without KERAS_BACKEND"):
        convert(keras.Sequential([keras.Input((32, 32, 3))]), IMAGES)


@ON_TENSORFLOW
def test_a_folder_for_temporary_files_that_tensorflow_takes_for_a_pattern_is_refused(monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", "/scratch/job[3]")
    with pytest.raises(
        InputError, match=r"Temporary files are in /scratch/job\[3\], .* Set the environment variable TMPDIR"
    ):
        convert(keras.Sequential([keras.Input((32, 32, 3))]), IMAGES)


@ON_TENSORFLOW
@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)),  # as Python raises it, and HDF5
        RuntimeError("tf2onnx failed: OSError: [Errno 28] No space left on device: 'model.onnx'"),
        Exception("part-00000-of-00001.data-00000; No space left on device"),  # TensorFlow's is a class of its own
    ],
    ids=lambda error: type(error).__name__,
)
def test_a_full_disk_for_temporary_files_is_named(monkeypatch, tmp_path, error):
    def fail(*_, **__):
        raise error

    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr("tensorflow.saved_model.save", fail)
    with pytest.raises(InputError, match=rf"The disk with the temporary files, in {tmp_path}, is full, .* TMPDIR"):
        convert(keras.Sequential([keras.Input((32, 32, 3)), keras.layers.Flatten()]), IMAGES)
    assert list(tmp_path.iterdir()) == []
