"""Settings of Keras that results depend on: the backend is the user's choice, the others are not.

Keras takes all of them from `keras.json` in the home folder, which other projects change, too.
"""

import importlib.util
import os
from collections.abc import Iterator
from contextlib import contextmanager

from cifar10.errors import InputError, did_you_mean, reason

BACKEND = "KERAS_BACKEND"  # environment variable
BACKENDS = ("tensorflow", "jax")


def choose_backend() -> None:
    """Use TensorFlow unless the environment variable names another backend."""
    if not os.environ.get(BACKEND):
        os.environ[BACKEND] = BACKENDS[0]


def check_backend() -> None:
    """Check the backend without importing Keras.

    Raises:
        InputError: this project does not run on it, or it is not installed.
    """
    backend = os.environ.get(BACKEND, BACKENDS[0])
    if backend not in BACKENDS:
        raise InputError(
            f"{BACKEND} is {backend}, on which this project does not run; {did_you_mean(backend, BACKENDS)} Set the "
            "variable to one of these, or unset it to use TensorFlow."
        )
    if backend == "jax" and importlib.util.find_spec("jax") is None:
        raise InputError(
            f"{BACKEND} is jax, but JAX is not installed: pip install -c constraints.txt -e '.[jax]', or unset the "
            "variable to use TensorFlow."
        )


@contextmanager
def own_settings() -> Iterator[None]:
    """Set what is not the user's to choose after Keras has been imported in this context.

    Raises:
        InputError: Keras refuses the settings that it finds.
    """
    os.environ["KERAS_NNX_ENABLED"] = "false"  # which would need another package
    try:
        yield
    except ValueError as error:
        raise InputError(
            f"Keras cannot be imported: {reason(error)}. Correct ~/.keras/keras.json, or the environment variables "
            "whose names begin with KERAS_."
        ) from error
    from keras import config

    config.set_image_data_format("channels_last")
    config.set_floatx("float32")
    config.set_epsilon(1e-7)
    config.set_max_epochs(None)  # limits that Keras applies without a word
    config.set_max_steps_per_epoch(None)
