"""Visit the layers of a network."""

from collections.abc import Iterator

import keras


def walk_layers(network: keras.Model) -> Iterator[keras.Layer]:
    """Yield every layer, and after a nested model its layers."""
    for layer in network.layers:
        yield layer
        if isinstance(layer, keras.Model):
            yield from walk_layers(layer)
