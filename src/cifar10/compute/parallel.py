"""Train one network on several devices, in one process or in several. Only JAX can do it.

Each device has all weights and all training images, and computes its share of each batch; XLA sums gradients and the
statistics of batch norms over the devices. So the result is that of one device, within rounding. All processes run the
same program on the same data: the first of them locks, saves and logs, and the others only compute.
"""

import hashlib
import json
import logging
import os
import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import keras
import numpy as np

from cifar10.errors import InputError, reason
from cifar10.keras_settings import ADDRESSES, PROCESS, PROCESSES, several_processes

logger = logging.getLogger(__name__)

LOST = re.compile("gloo|nccl|connection", re.IGNORECASE)  # in errors of the libraries that connect processes


class _DataParallel(keras.distribution.DataParallel):
    """Keras's own, except that each device gets all indices and targets of a batch; `share` divides its images.

    Keras would divide the indices, and so refuse the last batch of an epoch unless it is a multiple of the devices.
    """

    def get_data_layout(self, data_shape):
        """Return the layout of what a batch consists of."""
        return keras.distribution.TensorLayout([None] * len(data_shape), self.device_mesh)


@contextmanager
def on_devices(devices: str) -> Iterator[None]:
    """Keep the variables that Keras creates in this context on all devices (`all`), or on the first (`one`).

    Raises:
        InputError: another process of this training has ended.
    """
    if devices == "one":
        yield
        return
    available = keras.distribution.list_devices()
    if len(available) == 1:
        logger.info("devices is all, but there is only one, %s: training on that", available[0])
        yield
        return
    try:
        with _DataParallel(auto_shard_dataset=False).scope():
            yield
    except (RuntimeError, ValueError) as error:
        if not (several_processes() and LOST.search(str(error))):
            raise
        raise InputError(
            f"Another process of this training has ended, so this one ends, too ({reason(error)}). Start all of them "
            "again; they resume after the last complete epoch."
        ) from error


def count() -> int:
    """Return the number of devices that share each batch in this context."""
    distribution = keras.distribution.distribution()
    return distribution.num_model_replicas if distribution else 1


def share(batch: Any) -> Any:
    """Divide a batch, (n, ...), by its first axis among the devices of this context; n can be any number.

    XLA pads the last share, and leaves the padding out of every sum and mean.
    """
    distribution = keras.distribution.distribution()
    if distribution is None:
        return batch
    axes = [distribution.batch_dim_name, *[None] * (len(batch.shape) - 1)]
    return keras.distribution.distribute_tensor(batch, keras.distribution.TensorLayout(axes, distribution.device_mesh))


def join_processes() -> None:
    """Connect to the other processes of this training, before any other use of JAX.

    JAX aborts a process that waits for others for five minutes, and ends those that have done their work together.

    Raises:
        InputError: the address is not valid, or not free.
    """
    address, own, number = (os.environ[name] for name in (ADDRESSES, PROCESS, PROCESSES))
    logger.info("Connecting to %s, as process %s of %s, for up to five minutes", address, own, number)
    try:
        if int(own) == 0:  # JAX would crash if the port were not free
            port = address.split(",")[0].rpartition(":")[2]
            socket.create_server(("", int(port))).close()
        keras.distribution.initialize()
    except (OSError, OverflowError, RuntimeError, ValueError) as error:
        raise InputError(
            f"The processes of this training cannot connect: {reason(error)}. Set {ADDRESSES} to HOST:PORT, where HOST "
            "runs the first process and PORT is free on it."
        ) from error


def is_first() -> bool:
    """Return whether this process locks, saves and logs: it is the only one, or the first of several."""
    if not several_processes():
        return True
    import jax

    return jax.process_index() == 0


def check_same(**facts: Any) -> None:
    """Check that all processes are about to do the same; `facts` are JSON values.

    Raises:
        InputError: they are not, and it names the facts in which they differ.
    """
    if not several_processes():
        return
    from jax.experimental import multihost_utils

    texts = [json.dumps(fact, sort_keys=True) for fact in facts.values()]
    digests = np.array([list(hashlib.sha256(text.encode()).digest()) for text in texts], "uint8")
    same = (multihost_utils.process_allgather(digests) == digests).all(axis=(0, 2))
    if not same.all():
        different = ", ".join(name for name, equal in zip(facts, same, strict=True) if not equal)
        raise InputError(
            f"The processes of this training differ in {different}. Start all of them with the same command, code and "
            "data folder, on machines of one kind."
        )
