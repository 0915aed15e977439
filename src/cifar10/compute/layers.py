"""Visit the layers of a network, and apply them to images of another size."""

from collections.abc import Callable, Iterator

import keras
from keras import layers

from cifar10.errors import RecipeError


def walk_layers(network: keras.Model) -> Iterator[keras.Layer]:
    """Yield every layer, and after a nested model its layers."""
    for layer in network.layers:
        yield layer
        if isinstance(layer, keras.Model):
            yield from walk_layers(layer)


def matrices(network: keras.Model) -> dict[str, int]:
    """Return the paths of kernels that consist of matrices, and of how many: one per group of a convolution.

    A row of such a matrix is a position and channel that the filters see, a column is a filter. A depthwise kernel is
    no matrix, because each of its filters sees a channel of its own. The layer `logits` is left out.
    """
    found = {}
    for layer in walk_layers(network):
        if isinstance(layer, layers.Conv2D):
            found[layer.kernel.path] = layer.groups
        elif isinstance(layer, layers.SeparableConv2D):
            found[layer.pointwise_kernel.path] = 1
        elif isinstance(layer, layers.Dense) and layer.name != "logits":
            found[layer.kernel.path] = 1
    return found


def at_resolution(
    network: keras.Model, size: int, layer: Callable[[keras.Operation], keras.Operation] = lambda layer: layer
) -> keras.Model:
    """Return the network for images of another size.

    Args:
        network: for images of 32 pixels.
        size: side of the images in pixels.
        layer: from a layer of the network to its counterpart; by default the same layer, with the same weights.

    Raises:
        RecipeError: pooling leaves nothing of images of that size, or a dense layer needs others.
    """
    inputs = keras.Input((size, size, network.input_shape[-1]))
    functional = keras.Model(network.inputs[0], network.outputs[0], name=network.name)  # it may be sequential
    try:
        return keras.models.clone_model(functional, input_tensors=inputs, clone_function=layer)
    except ValueError as error:
        raise RecipeError(
            f"{network.name}: it cannot be trained on images of {size} pixels, because its pooling or dense layers "
            f"need more of them. Remove {size} from its resolutions, or set {network.name}.resolutions=null."
        ) from error
