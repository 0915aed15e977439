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
# Environment variables of one of several processes that train together, as `keras.distribution.initialize` reads them.
ADDRESSES, PROCESSES, PROCESS = (
    f"KERAS_DISTRIBUTION_{name}" for name in ("JOB_ADDRESSES", "NUM_PROCESSES", "PROCESS_ID")
)


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


def several_processes() -> bool:
    """Return whether this process is one of several that train together."""
    return any(os.environ.get(name) for name in (ADDRESSES, PROCESSES, PROCESS))


def check_devices(devices: str, *, only_trains: bool, only_missing_outputs: bool) -> None:
    """Check on how many devices, and in how many processes, a network is to be trained, without importing Keras.

    Args:
        devices: the parameter, `one` or `all`.
        only_trains: whether the run does nothing else.
        only_missing_outputs: whether the run leaves out what exists already.

    Raises:
        InputError: the backend trains on one device only, or the variables of several processes do not fit this run.
    """
    if devices == "all" and os.environ.get(BACKEND, BACKENDS[0]) != "jax":
        raise InputError(
            f"devices=all needs the JAX backend: set {BACKEND}=jax (docs/devices.md says how to install it, and why "
            "TensorFlow cannot do it), or leave devices at one."
        )
    if not several_processes():
        return
    address, count, own = (os.environ.get(name, "") for name in (ADDRESSES, PROCESSES, PROCESS))
    if not (":" in address and count.isdecimal() and own.isdecimal() and int(own) < int(count)):
        raise InputError(
            f"{ADDRESSES}={address} {PROCESSES}={count} {PROCESS}={own} does not describe one of several processes. "
            "Set HOST:PORT of the first process, the number of processes, and the number of this one, from 0; or none."
        )
    if not only_trains or only_missing_outputs:
        raise InputError(
            f"{PROCESSES} is set, and several processes can only train: run --pipelines=train_NAME with it, without "
            "--only-missing-outputs, and everything else without the variable."
        )
    if devices != "all":
        raise InputError(f"{PROCESSES} is set, but devices is one: add --params=devices=all, or unset the variable.")


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
