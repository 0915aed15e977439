import keras
import numpy as np
import pytest

from cifar10.architectures import ARCHITECTURES, build
from cifar10.training.fit import _with_softmax

every_architecture = pytest.mark.parametrize("name", ARCHITECTURES)


@pytest.fixture(scope="module")
def pictures():
    return np.random.default_rng(0).integers(0, 256, (4, 32, 32, 3), dtype=np.uint8)


@every_architecture
def test_raw_pictures_in_logits_out(name, statistics, pictures):
    network = build(name, 7, statistics)
    logits = keras.ops.convert_to_numpy(network(pictures))
    assert network.name == name
    assert network.input_shape == (None, 32, 32, 3)
    assert logits.shape == (4, 7)
    assert (logits < 0).any()  # logits, not probabilities
    assert network.get_layer("features").output.shape[1:] == network.get_layer("logits").input.shape[1:]


@every_architecture
def test_scaling_is_inside(name, statistics, pictures):
    network = build(name, 10, statistics)
    standardised = network.get_layer("standardise")(pictures.astype("float32"))
    expected = (pictures - np.array(statistics.mean)) / np.array(statistics.std)
    np.testing.assert_allclose(keras.ops.convert_to_numpy(standardised), expected, atol=1e-5)


@every_architecture
def test_predicting_changes_no_variable(name, statistics, pictures):
    network = build(name, 10, statistics)
    before = [keras.ops.convert_to_numpy(variable) for variable in network.variables]
    network(pictures)
    for variable, value in zip(network.variables, before, strict=True):
        np.testing.assert_array_equal(keras.ops.convert_to_numpy(variable), value)


@every_architecture
def test_saved_model_is_plain_keras_and_answers_the_same(name, statistics, pictures, tmp_path):
    model = _with_softmax(build(name, 10, statistics))
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras", compile=False)
    probabilities = loaded.predict(pictures, verbose=0)

    np.testing.assert_allclose(probabilities, model.predict(pictures, verbose=0), atol=1e-6)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=1e-5)
    assert loaded.compute_dtype == "float32"
    assert all(type(layer).__module__.startswith("keras.") for layer in loaded.layers)
    assert not any("Lambda" in type(layer).__name__ or "Random" in type(layer).__name__ for layer in loaded.layers)


@every_architecture
def test_learns_a_small_batch(name, statistics, drawn):
    keras.utils.set_random_seed(0)
    images, labels = drawn[0].images[:32], drawn[0].labels[:32]
    network = build(name, 10, statistics)
    network.compile(
        keras.optimizers.Adam(3e-3), keras.losses.SparseCategoricalCrossentropy(from_logits=True), jit_compile=False
    )
    losses = [network.train_on_batch(images, labels) for _ in range(25)]
    assert min(losses[-3:]) < losses[0] / 2


def test_vgg16_is_column_d(statistics):
    """Its convolutions hold what those of keras.applications.VGG16 do (14,714,688 with `include_top=False`), less
    their biases, which batch norm replaces."""
    network = build("vgg16", 10, statistics)
    convolutions = [layer for layer in network.layers if isinstance(layer, keras.layers.Conv2D)]
    filters = [layer.filters for layer in convolutions]
    assert filters == [64] * 2 + [128] * 2 + [256] * 3 + [512] * 6
    assert sum(layer.count_params() for layer in convolutions) == 14_714_688 - sum(filters)
    head = 512 * 10 + 10
    assert network.count_params() == 14_714_688 - sum(filters) + 4 * sum(filters) + head
    pools = [layer.output.shape[1] for layer in network.layers if isinstance(layer, keras.layers.MaxPooling2D)]
    assert pools == [16, 8, 4, 2, 1]


def test_batchnorm_cnn_has_the_three_blocks(statistics):
    layers = build("batchnorm_cnn", 10, statistics).layers
    assert [type(layer).__name__ for layer in layers[1:13:4]] == ["Conv2D"] * 3
    assert [layer.rate for layer in layers if isinstance(layer, keras.layers.Dropout)] == [0.25, 0.4, 0.5]
    assert sum(isinstance(layer, keras.layers.BatchNormalization) for layer in layers) == 3


def test_simple_cnn_is_sequential(statistics):
    network = build("simple_cnn", 10, statistics)
    assert isinstance(network, keras.Sequential)
    assert {type(layer).__name__ for layer in network.layers[1:]} == {
        "Conv2D",
        "MaxPooling2D",
        "Flatten",
        "Dense",
        "Dropout",
    }
