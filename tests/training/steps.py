"""One step of an optimizer, for tests."""

import keras


def one_step(optimizer, gradient):
    """Return the variables of a dense layer and a batch norm, by name, before and after a step."""
    network = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3), keras.layers.BatchNormalization()])
    variables = network.trainable_weights
    before = {each.name: keras.ops.convert_to_numpy(each) for each in variables}
    optimizer.apply([keras.ops.full(each.shape, gradient) for each in variables], variables)
    return before, {each.name: keras.ops.convert_to_numpy(each) for each in variables}
