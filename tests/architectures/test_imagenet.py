"""Networks with ImageNet weights: the right preprocessing, the right weights, or one clear error."""

import keras
import numpy as np
import pytest

from cifar10.architectures import ARCHITECTURES, build
from cifar10.errors import InputError, RecipeError
from tests.helpers import DEEPER, REFERENCES, preprocessed, slow

OPTIONS = {"weights": None, "image_size": 32, "head_units": 16, "head_l2": 0.0, "head_dropout": 0.0}
NAMES = [name for name, module in ARCHITECTURES.items() if module == "imagenet"]


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3)).astype("float32")


@pytest.fixture
def mobilenet(builder_options):
    """Return the options of the smallest backbone."""
    return builder_options("mobilenetv2_imagenet")


def features(network, images):
    network = keras.Model(network.input, network.get_layer("features").output)
    return keras.ops.convert_to_numpy(network(images, training=False))


@pytest.fixture
def without_backbones(monkeypatch):
    """In place of every backbone, a network that returns its input."""

    def make(*, input_shape, name, **_):
        inputs = keras.Input(input_shape)
        return keras.Model(inputs, keras.layers.Identity()(inputs), name=name)

    for _, constructor in REFERENCES.values():
        monkeypatch.setattr(keras.applications, constructor, make)


@pytest.mark.usefixtures("without_backbones")
@pytest.mark.parametrize("name", [name for name in NAMES if name != "efficientnetb0_imagenet"])
def test_images_are_prepared_as_the_backbone_expects_them(name, statistics, images):
    width = {"alpha": 1.0} if name == "mobilenetv2_imagenet" else {}
    ours = features(build(name, 10, statistics, **OPTIONS, **width), images)
    np.testing.assert_allclose(ours, preprocessed(name, images).mean(axis=(1, 2)), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("name", slow(DEEPER, [name for name in NAMES if name != "efficientnetb0_imagenet"]))
def test_features_are_those_of_keras_applications_used_as_documented(
    name, statistics, builder_options, reference, images
):
    ours = features(build(name, 10, statistics, **builder_options(name)), images)
    theirs = keras.ops.convert_to_numpy(reference(name)(preprocessed(name, images), training=False)).mean(axis=(1, 2))
    np.testing.assert_allclose(ours, theirs, rtol=1e-3, atol=1e-3 * np.abs(theirs).max())


def test_efficientnet_from_a_file_is_the_one_that_keras_downloads(
    statistics, builder_options, images, tmp_path, monkeypatch
):
    """Keras adds a layer when it downloads weights; here, its download is replaced by our file."""
    file = {**builder_options("efficientnetb0_imagenet"), "weights": str(tmp_path / "efficientnet.weights.h5")}
    weights = keras.applications.EfficientNetB0(include_top=False, weights=None, input_shape=(32, 32, 3))
    weights.layers[2].adapt_mean.assign([0.485, 0.456, 0.406])
    weights.layers[2].adapt_variance.assign([0.229, 0.224, 0.225])
    weights.layers[2].finalize_state()
    weights.save_weights(file["weights"])
    from_file = build("efficientnetb0_imagenet", 10, statistics, **file)

    from keras.src.utils import file_utils

    monkeypatch.setattr(file_utils, "get_file", lambda *_, **__: file["weights"])
    downloaded = build("efficientnetb0_imagenet", 10, statistics, **{**file, "weights": "imagenet"})
    np.testing.assert_allclose(features(from_file, images), features(downloaded, images), rtol=1e-3, atol=1e-6)
    standardised = np.array(from_file.get_layer("rescale")(images)) / 255 - [0.485, 0.456, 0.406]
    expected = (images / 255 - [0.485, 0.456, 0.406]) / np.sqrt([0.229, 0.224, 0.225])
    np.testing.assert_allclose(standardised, expected, atol=1e-5)


@pytest.mark.usefixtures("without_backbones")
def test_images_are_enlarged_inside(statistics, images):
    network = build("vgg16_imagenet", 10, statistics, **{**OPTIONS, "image_size": 96})
    assert network.get_layer("backbone").input_shape == (None, 96, 96, 3)
    assert network(images).shape == (2, 10)


@pytest.mark.usefixtures("without_backbones")
def test_head_has_the_penalty_and_the_dropout_of_the_recipe(statistics):
    network = build("vgg16_imagenet", 10, statistics, **{**OPTIONS, "head_l2": 0.5, "head_dropout": 0.3})
    kernel = np.array(network.get_layer("head_dense").kernel)
    assert [float(loss) for loss in network.losses] == pytest.approx([0.5 * (kernel**2).sum()], rel=1e-5)
    ones = np.ones((100, 16), "float32")
    dropped = np.array(network.get_layer("head_dropout")(ones, training=True)) == 0
    assert dropped.mean() == pytest.approx(0.3, abs=0.05)
    assert network.get_layer("head_dense").units == 16
    assert [layer.name for layer in network.layers[-5:]] == [
        "features", "head_dense", "head_norm", "head_dropout", "logits"
    ]  # fmt: skip


def test_weights_may_be_a_whole_saved_backbone(statistics, mobilenet, reference, images, tmp_path):
    reference("mobilenetv2_imagenet").save(tmp_path / "backbone.keras")
    options = {**mobilenet, "weights": str(tmp_path / "backbone.keras")}
    expected = features(build("mobilenetv2_imagenet", 10, statistics, **mobilenet), images)
    np.testing.assert_array_equal(features(build("mobilenetv2_imagenet", 10, statistics, **options), images), expected)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"weights": "nowhere.weights.h5"}, "there is no file nowhere.weights.h5. Set mobilenetv2_imagenet.weights"),
        ({"weights": __file__}, "is not a weights file"),
        ({"alpha": 0.35}, "does not contain the weights of this backbone, of this width"),
    ],
)
def test_unavailable_weights_raise_one_clear_error(mobilenet, changes, message):
    """One of the recipe, unless the file is missing, which it may not be any more when a study goes on."""
    with pytest.raises(InputError, match=message) as error:
        build("mobilenetv2_imagenet", 2, None, **{**mobilenet, **changes})
    assert "\n" not in str(error.value)
    assert isinstance(error.value, RecipeError) == ("there is no file" not in message)


def test_weights_of_another_backbone_and_damaged_ones_are_rejected(builder_options, tmp_path):
    vgg16, vgg19 = builder_options("vgg16_imagenet"), builder_options("vgg19_imagenet")
    damaged = tmp_path / "damaged.weights.h5"
    damaged.write_bytes(b"\x89HDF" + bytes(100))
    for weights in (vgg16["weights"], str(damaged)):
        with pytest.raises(InputError, match="does not contain the weights of this backbone"):
            build("vgg19_imagenet", 2, None, **{**vgg19, "weights": weights})
    with pytest.raises(InputError, match="does not contain the weights of this backbone"):
        build("vgg16_imagenet", 2, None, **{**vgg16, "weights": vgg19["weights"]})


def test_failed_download_says_what_to_do(mobilenet, monkeypatch):
    from keras.src.utils import file_utils

    def get_file(*_, **__):
        raise Exception("URL fetch failure on https://example.org: None -- no route to host")

    monkeypatch.setattr(file_utils, "get_file", get_file)
    with pytest.raises(InputError, match=r"not available \(URL fetch failure.* Connect .*set mobilenetv2_ima"):
        build("mobilenetv2_imagenet", 2, None, **{**mobilenet, "weights": "imagenet"})
