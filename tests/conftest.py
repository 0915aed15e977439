"""Small data of the real shapes, and the project as its users run it."""

import functools
import os
import pickle
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from kedro.framework.session import KedroSession
from kedro.framework.startup import bootstrap_project

from cifar10.contracts import Examples, Statistics
from cifar10.datasets.drawn import DrawnBatchesDataset
from cifar10.datasets.raw import TEST_BATCHES, TRAIN_BATCHES
from cifar10.pipelines.ingestion.nodes import read_batches

PROJECT = Path(__file__).parents[1]
CLASS_NAMES = ["disc", "ring", "square", "frame", "diamond", "triangle", "plus", "saltire", "bars", "posts"]
REFERENCES = {  # name -> module and constructor of keras.applications
    "vgg16": ("vgg16", "VGG16"),
    "vgg19": ("vgg19", "VGG19"),
    "resnet50": ("resnet", "ResNet50"),
    "resnet101": ("resnet", "ResNet101"),
    "densenet121": ("densenet", "DenseNet121"),
    "efficientnetb0": ("efficientnet", "EfficientNetB0"),
    "nasnetmobile": ("nasnet", "NASNetMobile"),
    "mobilenetv2": ("mobilenet_v2", "MobileNetV2"),
}


class Python2Pickler(pickle._Pickler):
    """Writes bytes as Python 2 wrote its strings, which is how the official batches were written."""

    dispatch = pickle._Pickler.dispatch.copy()

    def save_bytes(self, text):
        self.write(pickle.BINSTRING + struct.pack("<i", len(text)) + text)
        self.memoize(text)

    dispatch[bytes] = save_bytes


def write_batch(path, pixels, labels, **entries):
    with path.open("wb") as file:
        batch = {b"batch_label": b"a batch", b"labels": labels, b"data": pixels, b"filenames": [b"picture.png"]}
        Python2Pickler(file, protocol=2).dump({**batch, **{name.encode(): value for name, value in entries.items()}})
    # The module had another name when the official batches were pickled.
    path.write_bytes(path.read_bytes().replace(b"cnumpy._core.multiarray\n", b"cnumpy.core.multiarray\n"))


def raw_pictures(count, seed):
    generator = np.random.default_rng(seed)
    return generator.integers(0, 256, (count, 3072), dtype=np.uint8), (np.arange(count) * 7 % 10).tolist()


@pytest.fixture
def batches_folder(tmp_path):
    """The six batches, of 6 to 11 random pictures each."""
    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    for number, name in enumerate(TRAIN_BATCHES + TEST_BATCHES):
        write_batch(folder / name, *raw_pictures(6 + number, seed=number))
    return folder


@pytest.fixture(scope="session")
def drawn() -> tuple[Examples, Examples]:
    """400 training and 100 test pictures of the demo."""
    return read_batches(DrawnBatchesDataset(train=400, test=100, seed=1).load(), CLASS_NAMES)


@pytest.fixture(scope="session")
def statistics() -> Statistics:
    """Of no particular pictures."""
    covariance = 3000 * np.eye(12) + 600
    return Statistics(
        (125.0, 120.0, 110.0), (60.0, 62.0, 65.0), tuple(map(tuple, covariance.tolist())), {}, "a data version"
    )


@pytest.fixture(scope="session")
def reference():
    """Give the network of keras.applications that a name of ours is after: 32x32, without weights and without top."""

    @functools.cache
    def make(name):
        import keras

        keras.utils.set_random_seed(0)  # whatever was made before
        _, constructor = REFERENCES[name.removesuffix("_imagenet")]
        return getattr(keras.applications, constructor)(include_top=False, weights=None, input_shape=(32, 32, 3))

    return make


@pytest.fixture(scope="session")
def knobs(reference, tmp_path_factory):
    """Give what the builder of that name takes besides classes and statistics; weights from a file made for it."""

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


def preprocessed(name, pictures):
    """Pictures of 0-255 as the backbone of that name wants them."""
    import keras

    module, _ = REFERENCES[name.removesuffix("_imagenet")]
    return getattr(keras.applications, module).preprocess_input(pictures.astype("float32"))


def _scale(backbone, inputs) -> None:
    """Bring the activations of an untrained backbone to the scale they have in a trained one, whatever its depth."""
    norms = [layer for layer in backbone.layers if type(layer).__name__ == "BatchNormalization"]
    for norm in norms:
        norm.momentum = 0.0  # so that one batch makes its statistics
    backbone(inputs, training=True)
    for variable in () if norms else backbone.trainable_variables:
        variable.assign(variable * 2**0.5)  # from Glorot's initialisation to He's


def kedro(*arguments: str, input: str | None = None, **environment: str) -> subprocess.CompletedProcess[str]:
    """`kedro ...` as a user types it, in the project's folder."""
    return subprocess.run(
        [sys.executable, "-m", "kedro", *arguments],
        cwd=PROJECT,
        env={**os.environ, "COLUMNS": "200", **environment},
        input=input,
        capture_output=True,
        text=True,
        check=False,
    )


def run(data_root: Path, *pipelines: str, load_versions: dict[str, str] | None = None, **parameters: object) -> None:
    """The same in this process, which has Keras loaded already; in the demo's environment."""
    bootstrap_project(PROJECT)
    values = {"data_root": str(data_root), **parameters}
    with KedroSession.create(PROJECT, env="demo", runtime_params=values) as session:
        session.run(pipeline_names=list(pipelines) or None, load_versions=load_versions)
