"""Train a tiny network on one of two devices, then on both, interrupted and resumed; print each result as JSON."""

import json
import tempfile
from contextlib import suppress
from pathlib import Path
from unittest import mock

import jax
import numpy as np

from cifar10.compute import parallel
from cifar10.training.progress import Progress
from tests.training import test_kept

# Seven batches of 7 and one of 6 images, neither of which two devices can halve.
RECIPE = test_kept.RECIPE.model_copy(update={"batch_size": 7, "examples": 55})


def add_and_stop(progress, row, variables, add=Progress.add):
    add(progress, row, variables)
    raise KeyboardInterrupt


def show(devices, *, interrupted):
    with tempfile.TemporaryDirectory() as folder:
        if interrupted:
            with mock.patch.object(Progress, "add", add_and_stop), suppress(KeyboardInterrupt):
                test_kept.train(Path(folder), RECIPE, devices=devices)
        trained, history = test_kept.train(Path(folder), RECIPE, devices=devices)
    with parallel.on_devices(devices):
        shared = jax.jit(lambda images: parallel.share(images))(np.zeros((8, 3)))  # a new function, without a cache
    network = trained.load_network()
    result = {
        "devices": trained.record.devices,
        "shares": [len(share.data) for share in shared.addressable_shards],
        "history": history.to_dict("list"),
        "weights": np.concatenate([weight.ravel() for weight in network.get_weights()]).tolist(),
        "predictions": network.predict(test_kept.VAL.images, verbose=0).ravel().tolist(),
    }
    print(json.dumps(result))


if __name__ == "__main__":
    show("one", interrupted=False)
    show("all", interrupted=True)
