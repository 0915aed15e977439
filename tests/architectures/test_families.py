"""Each network is the one it is named after: parameters, stages, tables."""

import math

import keras
import numpy as np
import pytest

from cifar10.architectures import build
from cifar10.pipelines.preprocessing.nodes import measure
from tests.helpers import LARGE, slow

# Parameters of keras.applications with `include_top=False`.
PUBLISHED = {
    "vgg16": 14_714_688,
    "vgg19": 20_024_384,
    "resnet50": 23_587_712,
    "resnet101": 42_658_176,
    "densenet121": 7_037_504,
    "efficientnetb0": 4_049_571,
    "nasnetmobile": 4_269_716,
    "mobilenetv2": 2_257_984,
}


def count(layers):
    return sum(layer.count_params() for layer in layers)


def convolutions(network):
    return [layer for layer in network.layers if isinstance(layer, keras.layers.Conv2D)]


def without_biases(theirs):
    """Ours have no bias before a batch norm."""
    return -sum(layer.filters for layer in convolutions(theirs) if layer.use_bias)


def small_stem(theirs, name, channels=3):
    """Ours have a 3x3 stem instead of a 7x7 one."""
    filters = theirs.get_layer(name).filters
    return (3 * 3 - 7 * 7) * channels * filters


def vgg(theirs):
    """Batch norm after every convolution has four numbers per filter."""
    return without_biases(theirs) + 4 * sum(layer.filters for layer in convolutions(theirs))


def resnet(theirs):
    return without_biases(theirs) + small_stem(theirs, "conv1_conv")


def densenet(theirs):
    """No batch norm between the stem and the first block, which begins with one."""
    return small_stem(theirs, "conv1_conv") - theirs.get_layer("conv1_bn").count_params()


def efficientnet(theirs):
    """Images are standardised with constants, so mean, variance and count are not weights."""
    normalization = next(layer for layer in theirs.layers if isinstance(layer, keras.layers.Normalization))
    return -normalization.count_params()


def nasnet(theirs):
    """Without reduction cells in the stem, the first two cells have inputs of 32 channels instead of 44 and 88."""
    stem_cells = count(layer for layer in theirs.layers if "stem_1" in layer.name or "stem_2" in layer.name)
    filters, stem = 44, 32
    first_cell = (stem - 2 * filters) * filters  # its input: the second stem cell has four times 22 output channels
    first_previous = (stem - filters) * filters  # the first stem cell has four times 11 output channels
    second_previous = (stem - 2 * filters) * filters
    return -stem_cells + first_cell + first_previous + second_previous


DIFFERENCES = {
    "vgg16": vgg,
    "vgg19": vgg,
    "resnet50": resnet,
    "resnet101": resnet,
    "densenet121": densenet,
    "efficientnetb0": efficientnet,
    "nasnetmobile": nasnet,
    "mobilenetv2": lambda theirs: 0,
}


@pytest.fixture(scope="module")
def network(request, statistics):
    """The network of that name, built once for all tests of it; parametrized by them."""
    keras.utils.set_random_seed(0)
    return build(request.param, 10, statistics)


@pytest.mark.parametrize("network", slow(LARGE, PUBLISHED), indirect=True)
def test_parameters_are_the_published_ones_except_for_named_differences(network, reference):
    name = network.name
    theirs = reference(name)
    assert theirs.count_params() == PUBLISHED[name]
    head = network.get_layer("logits").count_params()
    assert network.count_params() - head == PUBLISHED[name] + DIFFERENCES[name](theirs)


@pytest.mark.parametrize(
    "network",
    ["deep_cnn", "vgg16", "densenet121", "efficientnetb0", "nasnetmobile", "mobilenetv2"],
    indirect=True,
)
def test_kernels_before_a_batch_norm_start_as_by_he(network):
    """With a variance of 2 by the number of inputs of an output, which for a depthwise kernel is that of its pixels."""
    found = 0
    for layer in network.layers:
        for weight in layer.weights:
            if "kernel" not in weight.name or len(weight.shape) != 4 or getattr(layer, "use_bias", False):
                continue
            depthwise = weight.name == "depthwise_kernel" or isinstance(layer, keras.layers.DepthwiseConv2D)
            inputs = math.prod(weight.shape[:2] if depthwise else weight.shape[:3])
            values = keras.ops.convert_to_numpy(weight)
            assert values.std() == pytest.approx((2 / inputs) ** 0.5, rel=max(0.05, 4 / values.size**0.5)), weight.path
            found += 1
    assert found > 5


# Side of the feature maps at the end of each stage.
SIZES = {
    "deep_cnn": (32, 16, 8, 4),
    "airbench94": (15, 7, 3),
    "vgg16": (16, 8, 4, 2, 1),
    "vgg19": (16, 8, 4, 2, 1),
    "resnet50": (32, 16, 8, 4),
    "resnet101": (32, 16, 8, 4),
    "googlenet": (32, 16, 8),
    "densenet121": (32, 16, 8, 4),
    "efficientnetb0": (32, 32, 16, 8, 8, 4, 4),
    "nasnetmobile": (32, 16, 8),
    "mobilenetv2": (32, 32, 16, 8, 8, 4, 4),
}
DEPTHS = {
    "deep_cnn": (1, 2, 2, 2),
    "airbench94": (2, 2, 2),
    "vgg16": (2, 2, 3, 3, 3),
    "vgg19": (2, 2, 4, 4, 4),
    "resnet50": (3, 4, 6, 3),
    "resnet101": (3, 4, 23, 3),
    "googlenet": (2, 5, 2),
    "densenet121": (6, 12, 24, 16),
    "efficientnetb0": (1, 2, 2, 3, 3, 4, 1),
    "nasnetmobile": (4, 4, 4),
    "mobilenetv2": (1, 2, 3, 4, 3, 3, 1),
}


@pytest.mark.parametrize("network", slow(LARGE, SIZES), indirect=True)
def test_stages_have_their_blocks_and_sizes(network):
    sizes, blocks = {}, {}
    for layer in network.layers:
        stage, *rest = layer.name.split("_")
        if stage.startswith("stage"):
            if "squeeze" not in rest:  # its average has a size of 1x1
                sizes[stage] = layer.output.shape[1]
            blocks.setdefault(stage, set()).update(part for part in rest if part.startswith("block"))
    assert tuple(sizes.values()) == SIZES[network.name]
    assert tuple(map(len, blocks.values())) == DEPTHS[network.name]


# Table 1 of the paper, modules 3a to 5b: output channels, and the filters of the convolutions in `BRANCHES`.
GOOGLENET = {
    "stage1_block1": (256, (64, 96, 128, 16, 32, 32)),
    "stage1_block2": (480, (128, 128, 192, 32, 96, 64)),
    "stage2_block1": (512, (192, 96, 208, 16, 48, 64)),
    "stage2_block2": (512, (160, 112, 224, 24, 64, 64)),
    "stage2_block3": (512, (128, 128, 256, 24, 64, 64)),
    "stage2_block4": (528, (112, 144, 288, 32, 64, 64)),
    "stage2_block5": (832, (256, 160, 320, 32, 128, 128)),
    "stage3_block1": (832, (256, 160, 320, 32, 128, 128)),
    "stage3_block2": (1024, (384, 192, 384, 48, 128, 128)),
}
BRANCHES = {"1x1": 1, "3x3_reduce": 1, "3x3": 3, "5x5_reduce": 1, "5x5": 5, "pool_projection": 1}  # kernel sizes


def test_googlenet_is_that_of_the_papers_table(statistics):
    network = build("googlenet", 10, statistics)
    inputs = 192
    for module, (channels, filters) in GOOGLENET.items():
        concat = network.get_layer(f"{module}_concat")
        assert concat.output.shape[-1] == channels
        for (branch, size), number in zip(BRANCHES.items(), filters, strict=True):
            kernel = network.get_layer(f"{module}_{branch}_conv").kernel.shape
            assert (kernel[0], kernel[1], kernel[3]) == (size, size, number)
            assert kernel[2] == inputs or branch in ("3x3", "5x5")
        inputs = channels
    kernels = sum(math.prod(layer.kernel.shape) for layer in convolutions(network))
    norms = 2 * sum(2 * layer.filters for layer in convolutions(network))
    assert network.count_params() == kernels + norms + 1024 * 10 + 10


def test_airbench94_whitens_patches_and_does_not_learn_to(drawn):
    """Over the training patches, the filters are uncorrelated with variance 1, except for the small epsilon."""
    train, rest = drawn
    network = build("airbench94", 10, measure(train, rest, rest))
    whitening = network.get_layer("whitening")
    white = keras.ops.convert_to_numpy(whitening(network.get_layer("standardise")(train.images.astype("float32"))))
    covariance = np.cov(white[..., :12].reshape(-1, 12), rowvar=False)
    np.testing.assert_allclose(covariance - np.diag(np.diag(covariance)), 0, atol=0.02)
    assert np.diag(covariance).max() == pytest.approx(1, abs=0.02)
    np.testing.assert_allclose(white[..., 12:], -white[..., :12], atol=1e-4)
    assert [variable.name for variable in whitening.trainable_variables] == ["bias"]


def test_airbench94_initially_passes_its_input_through(statistics):
    kernel = keras.ops.convert_to_numpy(build("airbench94", 10, statistics).get_layer("stage1_block1_conv").kernel)
    channels = kernel.shape[2]
    image = np.random.default_rng(0).normal(size=(1, 5, 5, channels)).astype("float32")
    passed = keras.ops.convert_to_numpy(keras.ops.conv(image, kernel, padding="same"))[..., :channels]
    np.testing.assert_allclose(passed, image, atol=1e-5)


def test_airbench94_has_the_constants_of_the_paper(statistics):
    """Small logits, fast batch norms without scale, and a head without bias."""
    network = build("airbench94", 10, statistics)
    norms = [layer for layer in network.layers if isinstance(layer, keras.layers.BatchNormalization)]
    assert {(each.momentum, each.epsilon, each.scale, each.center) for each in norms} == {(0.6, 1e-12, False, True)}
    features = np.random.default_rng(0).normal(size=(2, 256)).astype("float32")
    np.testing.assert_allclose(network.get_layer("features")(features), features / 9, rtol=1e-6)
    assert not network.get_layer("logits").use_bias
    assert abs(np.array(network.get_layer("logits").kernel)).max() <= 256**-0.5  # uniform, as PyTorch's default
    assert abs(np.array(network.get_layer("logits").kernel)).max() > 0.9 * 256**-0.5
    gelus = [layer for layer in network.layers if getattr(layer, "activation", None) is keras.activations.gelu]
    assert len(gelus) == 7
    assert network.get_layer("whitening").use_bias


def test_stochastic_depth_grows_to_its_rate(statistics):
    """Linearly over sixteen blocks; those that change the shape have no shortcut and cannot be skipped."""
    rates = [layer.rate for layer in build("efficientnetb0", 10, statistics).layers if layer.name.endswith("_drop")]
    assert rates == pytest.approx([0.2 * block / 16 for block in (2, 4, 6, 7, 9, 10, 12, 13, 14)])


def test_batchnorm_cnn_has_the_three_blocks(statistics):
    layers = build("batchnorm_cnn", 10, statistics).layers
    assert [type(layer).__name__ for layer in layers[1:13:4]] == ["Conv2D"] * 3
    assert [layer.rate for layer in layers if isinstance(layer, keras.layers.Dropout)] == [0.25, 0.4, 0.5]
    assert sum(isinstance(layer, keras.layers.BatchNormalization) for layer in layers) == 3


@pytest.mark.parametrize("name", ["simple_cnn", "batchnorm_cnn"])
def test_plain_networks_halve_the_image_three_times(name, statistics):
    pools = [layer for layer in build(name, 10, statistics).layers if isinstance(layer, keras.layers.MaxPooling2D)]
    assert [pool.output.shape[1] for pool in pools] == [16, 8, 4]


def test_simple_cnn_is_sequential(statistics):
    network = build("simple_cnn", 10, statistics)
    assert isinstance(network, keras.Sequential)
    kinds = {type(layer).__name__ for layer in network.layers[1:]}
    assert kinds == {"Conv2D", "MaxPooling2D", "Flatten", "Dense", "Dropout"}
