"""Saved networks that earlier versions of Keras can load."""

import json
import os
import subprocess
import sys
import zipfile

import keras
import numpy as np
import pytest

from cifar10.architectures import ARCHITECTURES, build
from cifar10.compute.portable import ADDED, OLDEST_KERAS, save
from cifar10.training.fit import _with_softmax
from cifar10.training.identity import fingerprint
from tests.helpers import PROJECT

IMAGES = np.random.default_rng(0).integers(0, 256, (4, 32, 32, 3)).astype("float32")

LOAD = """
import json, pathlib, sys
import keras, numpy as np
from cifar10.training.identity import fingerprint
folder = pathlib.Path(sys.argv[1])
images = np.load(folder / "images.npy")
prints = {}
for path in sorted(folder.glob("*.keras")):
    network = keras.saving.load_model(path, compile=False)
    prints[path.stem] = fingerprint(network)
    np.save(path.with_suffix(".npy"), np.asarray(network(images)))
print(json.dumps([keras.__version__, prints]))
"""


def options(config):
    """Yield every option of every object in a configuration."""
    if isinstance(config, dict):
        yield from config.items()
        config = list(config.values())
    if isinstance(config, list):
        for each in config:
            yield from options(each)


@pytest.mark.parametrize("name", ["batchnorm_cnn", "mobilenetv2_imagenet"])
def test_only_what_earlier_versions_know_is_saved(name, statistics, builder_options, tmp_path):
    network = _with_softmax(build(name, 10, statistics, **builder_options(name)))
    save(network, tmp_path / "network.keras")
    with zipfile.ZipFile(tmp_path / "network.keras") as archive:
        assert archive.testzip() is None
        assert set(archive.namelist()) == {"config.json", "metadata.json", "model.weights.h5"}
        saved = list(options(json.loads(archive.read("config.json"))))
    assert len(saved) > 50
    for option, value in saved:
        assert value is not None, option
        assert not option.endswith("_initializer")
        assert option not in ADDED
        assert value != "DTypePolicy"
    loaded = keras.saving.load_model(tmp_path / "network.keras", compile=False)
    np.testing.assert_allclose(loaded(IMAGES), network(IMAGES), atol=1e-6)
    assert fingerprint(loaded) == fingerprint(network)
    assert [each.trainable for each in loaded.variables] == [each.trainable for each in network.variables]


def test_an_option_that_earlier_versions_lack_is_kept_where_it_is_on(tmp_path):
    network = keras.Sequential([keras.Input((4, 4, 3)), keras.layers.BatchNormalization(renorm=True)])
    save(network, tmp_path / "network.keras")
    assert keras.saving.load_model(tmp_path / "network.keras").layers[0].renorm


@pytest.mark.slow
def test_oldest_keras_loads_every_network(statistics, builder_options, tmp_path):
    """In an environment of its own, with packages from the index that pip uses; on JAX, which is small."""
    saved = {}
    np.save(tmp_path / "images.npy", IMAGES)
    for name in ARCHITECTURES:
        keras.utils.set_random_seed(0)
        network = build(name, 10, statistics, **builder_options(name))
        network(IMAGES, training=True)  # for statistics of the batch norms
        network = _with_softmax(network)
        save(network, tmp_path / f"{name}.keras")
        saved[name] = fingerprint(network), np.array(network(IMAGES))
    python = tmp_path / "environment/bin/python"
    requirements = [f"keras=={OLDEST_KERAS}.*", "jax[cpu]", "packaging", "pydantic"]
    for command in (
        [sys.executable, "-m", "venv", str(tmp_path / "environment")],
        [str(python), "-m", "pip", "install", "--quiet", *requirements],
    ):
        subprocess.run(command, check=True)
    result = subprocess.run(
        [str(python), "-c", LOAD, str(tmp_path)],
        env={**os.environ, "KERAS_BACKEND": "jax", "PYTHONPATH": str(PROJECT / "src")},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr[-3000:]
    version, fingerprints = json.loads(result.stdout.splitlines()[-1])
    assert version.startswith(f"{OLDEST_KERAS}.")
    for name, (expected, probabilities) in saved.items():
        assert fingerprints[name] == expected, name
        np.testing.assert_allclose(np.load(tmp_path / f"{name}.npy"), probabilities, atol=2e-3, err_msg=name)
