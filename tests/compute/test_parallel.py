"""What of several devices and processes needs no JAX; the rest is in `tests/training/test_parallel.py`."""

import socket

import keras
import numpy as np
import pytest

from cifar10.compute import parallel
from cifar10.errors import InputError
from cifar10.keras_settings import ADDRESSES, PROCESS, PROCESSES


@pytest.mark.parametrize("devices", ["one", "all"])
def test_one_device_shares_nothing(devices):
    if len(keras.distribution.list_devices()) > 1:
        pytest.skip("there are several devices")
    batch = np.zeros((3, 2))
    with parallel.on_devices(devices):
        assert parallel.count() == 1
        assert parallel.share(batch) is batch


@pytest.mark.parametrize(
    ("address", "reason"),
    [("127.0.0.1:{port}", "Address already in use"), ("127.0.0.1:99999", "port"), ("127.0.0.1:ssh", "invalid literal")],
)
def test_an_address_that_the_first_process_cannot_use_is_refused(monkeypatch, address, reason):
    with socket.create_server(("", 0)) as used:
        port = used.getsockname()[1]
        for name, value in ((ADDRESSES, address.format(port=port)), (PROCESS, "0"), (PROCESSES, "2")):
            monkeypatch.setenv(name, value)
        with pytest.raises(InputError, match=f"The processes of this training cannot connect: .*{reason}.* Set "):
            parallel.join_processes()
