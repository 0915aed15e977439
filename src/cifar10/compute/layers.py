"""Visit the layers of a network."""

from collections.abc import Iterator

import keras
from keras import layers


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
