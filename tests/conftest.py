"""Fixtures that all tests share: small data, and the builder options of every architecture."""

import functools
import logging
import os
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from cifar10 import cli
from cifar10.contracts import Examples, Statistics
from cifar10.datasets.drawn import DrawnBatchesDataset
from cifar10.datasets.raw import TEST_BATCHES, TRAIN_BATCHES
from cifar10.pipelines.ingestion.nodes import read_batches
from cifar10.run_log import RUNNER_LOGGERS
from tests.helpers import (
    CLASS_NAMES,
    PROJECT,
    REFERENCES,
    bootstrap,
    draw_nothing,
    eagerly,
    preprocessed,
    raw_images,
    write_batch,
)

if "PYTEST_XDIST_WORKER" in os.environ:  # as many workers as cores: with more threads, they would wait for each other
    os.environ |= {"TF_NUM_INTRAOP_THREADS": "1", "TF_NUM_INTEROP_THREADS": "1", "OMP_NUM_THREADS": "1"}


# The files that take longest, which come first, so that both workers end together.
LONGEST = (
    "test_run.py",
    "training/test_fit.py",
    "test_damage.py",
    "pipelines/test_publish.py",
    "test_faults.py",
    "test_mistakes.py",
    "test_mixed_runs.py",
    "architectures/test_architectures.py",
    "test_extension.py",
    "training/test_transfer.py",
    "test_checkpoints.py",
    "pipelines/test_formats.py",
    "pipelines/test_throughput.py",
    "test_classes.py",
)


def pytest_collection_modifyitems(items):
    """Sort these files first, and leave the order otherwise."""
    places = {Path(__file__).parent / name: place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: places.get(item.path, len(places)))


@pytest.fixture(scope="module", autouse=True)
def _quickly(request):
    """Time few calls, and draw nothing, the latter but in modules that look at figures: `LOOKS_AT_FIGURES = True`."""
    with pytest.MonkeyPatch.context() as patch:
        if not getattr(request.module, "LOOKS_AT_FIGURES", False):
            draw_nothing(patch)
        patch.setattr("cifar10.pipelines.evaluation.nodes.THROUGHPUT_BATCH", 8)
        if "keras" in sys.modules:
            patch.setattr("cifar10.compute.inference.TIMED_SECONDS", 0.0)
        yield


@pytest.fixture(scope="module")
def eager():
    """Trace no function of TensorFlow in this module."""
    with eagerly():
        yield


@pytest.fixture
def in_project(monkeypatch):
    """Make this process one that a user has started in the project's folder."""
    monkeypatch.chdir(PROJECT)
    monkeypatch.delenv("KEDRO_ENV", raising=False)
    bootstrap()


@pytest.fixture
def kedro_run(in_project):
    """Return `kedro run` as a user types it, but in this process, which has imported everything already."""
    changed = [logging.getLogger(name) for name in ("kedro.pipeline.node", *RUNNER_LOGGERS)]
    filters = [logger.filters[:] for logger in changed]
    yield lambda *arguments: CliRunner().invoke(cli.run, arguments)
    for logger, before in zip(changed, filters, strict=True):
        logger.filters[:] = before


@pytest.fixture
def batches_folder(tmp_path):
    """The six batches, of 6 to 11 random images each."""
    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    for number, name in enumerate(TRAIN_BATCHES + TEST_BATCHES):
        write_batch(folder / name, *raw_images(6 + number, seed=number))
    return folder


@pytest.fixture(scope="session")
def browser():
    """Chromium (Debian's package), without a window."""
    playwright = pytest.importorskip(
        "playwright.sync_api", reason="playwright is not installed: pip install playwright"
    )
    chromium = shutil.which("chromium")
    if not chromium:
        pytest.skip("Chromium is not installed: apt-get install chromium")
    with playwright.sync_playwright() as library:
        # Chromium's sandbox does not run as root in a container.
        started = library.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        yield started
        started.close()


@pytest.fixture(scope="session")
def drawn() -> tuple[Examples, Examples]:
    """400 training and 100 test images of the demo."""
    return read_batches(DrawnBatchesDataset(train=400, test=100, seed=1).load(), CLASS_NAMES)


@pytest.fixture(scope="session")
def statistics() -> Statistics:
    """Statistics of no particular images."""
    covariance = tuple(map(tuple, (3000 * np.eye(12) + 600).tolist()))
    return Statistics(
        mean=(125.0, 120.0, 110.0),
        std=(60.0, 62.0, 65.0),
        patch_covariance=covariance,
        digests={},
        data_version="a data version",
    )


@pytest.fixture(scope="session")
def reference():
    """Return the network of keras.applications that an architecture follows: 32x32, without weights and top layers."""

    @functools.cache
    def make(name):
        import keras

        keras.utils.set_random_seed(0)  # whatever was made before
        _, constructor = REFERENCES[name]
        return getattr(keras.applications, constructor)(include_top=False, weights=None, input_shape=(32, 32, 3))

    return lambda name: make(name.removesuffix("_imagenet"))


@pytest.fixture(scope="session")
def builder_options(reference, tmp_path_factory):
    """Return what the builder of that name takes besides classes and statistics; weights from a file made for it."""

    @functools.cache
    def make(name):
        if not name.endswith("_imagenet"):
            return {}
        weights = tmp_path_factory.mktemp("weights") / f"{name}.weights.h5"
        _scale(reference(name), preprocessed(name, np.random.default_rng(0).integers(0, 256, (8, 32, 32, 3))))
        reference(name).save_weights(weights)
        width = {"alpha": 1.0} if name == "mobilenetv2_imagenet" else {}
        head = {"head_units": 16, "head_l2": 1e-4, "head_dropout": 0.1}
        return {"weights": str(weights), "image_size": 32, **head, **width}

    return make


def _scale(backbone, inputs) -> None:
    """Scale the activations of an untrained backbone as in a trained one, whatever its depth."""
    norms = [layer for layer in backbone.layers if type(layer).__name__ == "BatchNormalization"]
    for norm in norms:
        norm.momentum = 0.0  # so that one batch makes its statistics
    backbone(inputs, training=True)
    for variable in () if norms else backbone.trainable_variables:
        variable.assign(variable * 2**0.5)  # from Glorot's initialisation to He's
