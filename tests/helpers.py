"""What tests share besides fixtures: small raw data of the real layout, and the project as its users run it."""

import contextlib
import functools
import http.server
import io
import json
import os
import pickle
import signal
import struct
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from kedro.framework.session import KedroSession
from kedro.framework.startup import bootstrap_project
from PIL import Image

from cifar10.contracts import (
    Costs,
    Evaluation,
    Evaluations,
    Examples,
    Metrics,
    Pair,
    Record,
    Row,
    Statistics,
    Trial,
    Trials,
)
from cifar10.datasets.arrays import ExamplesDataset
from cifar10.datasets.files import StatisticsDataset
from cifar10.pipelines.preprocessing.nodes import measure

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


# Tests of these are slow: deeper than others by the same builder, or the same head on another backbone.
DEEPER = {"vgg19", "resnet101"} | {
    f"{name}_imagenet" for name in ("vgg19", "resnet50", "resnet101", "densenet121", "nasnetmobile")
}
# And these are large. What their layers compute is pinned by test_blocks.py; the rest is proven by slow tests.
LARGE = DEEPER | {"resnet50", "googlenet", "densenet121", "nasnetmobile", "efficientnetb0_imagenet"}


class Python2Pickler(pickle._Pickler):
    """Writes bytes as Python 2 wrote its strings, in which the official batches were written."""

    dispatch = pickle._Pickler.dispatch.copy()

    def save_bytes(self, text):
        self.write(pickle.BINSTRING + struct.pack("<i", len(text)) + text)
        self.memoize(text)

    dispatch[bytes] = save_bytes


def slow(chosen, names):
    """Return names of architectures to parametrize a test with, which is slow for those of `DEEPER` or `LARGE`."""
    return [pytest.param(name, marks=pytest.mark.slow) if name in chosen else name for name in names]


def write_batch(path, pixels, labels, **entries):
    """Write a pickle batch in the official layout."""
    with path.open("wb") as file:
        batch = {b"batch_label": b"a batch", b"labels": labels, b"data": pixels, b"filenames": [b"image.png"]}
        Python2Pickler(file, protocol=2).dump({**batch, **{name.encode(): value for name, value in entries.items()}})
    # The module had another name when the official batches were pickled.
    path.write_bytes(path.read_bytes().replace(b"cnumpy._core.multiarray\n", b"cnumpy.core.multiarray\n"))


def write_parquet(path, pixels, labels, class_names=None):
    """Write images as the Hugging Face Hub has them, from pixels as in the batches; bytes are written as they are."""
    import pyarrow
    import pyarrow.parquet

    contents = [
        each if isinstance(each, bytes | None) else png(each.reshape(3, 32, 32).transpose(1, 2, 0)) for each in pixels
    ]
    img = pyarrow.struct([("bytes", pyarrow.binary()), ("path", pyarrow.string())])
    columns = {
        "img": pyarrow.array([{"bytes": content, "path": None} for content in contents], img),
        "label": pyarrow.array(labels, pyarrow.int64()),
    }
    features = {"img": {"_type": "Image"}, "label": {"names": class_names, "_type": "ClassLabel"}}
    metadata = {"huggingface": json.dumps({"info": {"features": features}})} if class_names else None
    path.parent.mkdir(parents=True, exist_ok=True)
    pyarrow.parquet.write_table(pyarrow.table(columns).replace_schema_metadata(metadata), path, row_group_size=5)


def png(image, **options):
    """Return an image as a PNG."""
    file = io.BytesIO()
    Image.fromarray(image).save(file, "PNG", **options)
    return file.getvalue()


@contextlib.contextmanager
def serve(folder):
    """Serve the files of a folder, and provide its URL."""

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

    handler = functools.partial(Quiet, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def raw_images(count, seed, classes=10):
    """Return the pixels of images of 4x4 random squares with some noise, uint8 (count, 3072), and labels."""
    generator = np.random.default_rng(seed)
    squares = generator.integers(0, 240, (count, 3, 4, 4), dtype=np.uint8).repeat(8, axis=2).repeat(8, axis=3)
    noise = generator.integers(0, 16, squares.shape, dtype=np.uint8)
    return (squares + noise).reshape(count, 3072), (np.arange(count) * 7 % classes).tolist()


def preprocessed(name, images):
    """Return images of 0-255 as the backbone of that name expects them."""
    import keras

    module, _ = REFERENCES[name.removesuffix("_imagenet")]
    return getattr(keras.applications, module).preprocess_input(images.astype("float32"))


def kedro(*arguments: str, input: str | None = None, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run `kedro ...` as a user types it, in the project's folder."""
    return subprocess.run(
        [sys.executable, "-m", "kedro", *arguments],
        cwd=PROJECT,
        env={**os.environ, "COLUMNS": "200", **environment},
        input=input,
        capture_output=True,
        text=True,
        check=False,
    )


@contextlib.contextmanager
def full_disk(size: int):
    """Let writes fail beyond that number of bytes of a file, as on a full disk."""
    resource = pytest.importorskip("resource", reason="only POSIX has such a limit")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def launch(*arguments: str, **environment: str) -> subprocess.Popen[str]:
    """Start `kedro ...` as a process of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "kedro", *arguments],
        cwd=PROJECT,
        env={**os.environ, "PYTHONUNBUFFERED": "1", **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
        # If a shell runs the tests in the background, their child processes ignore Ctrl-C.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


def kill(process: subprocess.Popen) -> None:
    """End a process and its children at once."""
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()


@functools.cache
def bootstrap() -> None:
    """Make this process one of the project's; only once, because Kedro takes half a second to read its settings."""
    bootstrap_project(PROJECT)


@contextlib.contextmanager
def eagerly(wanted: bool = True):
    """Trace no function of TensorFlow, which takes longer than a few steps of a small network; or trace them again.

    Rounding differs from that of traced functions.
    """
    import keras

    if keras.backend.backend() != "tensorflow":
        yield
        return
    import tensorflow as tf

    before = tf.config.functions_run_eagerly()
    tf.config.run_functions_eagerly(wanted)
    try:
        yield
    finally:
        tf.config.run_functions_eagerly(before)


def run(
    data_root: Path,
    *pipelines: str,
    nodes: list[str] | None = None,
    load_versions: dict[str, str] | None = None,
    env: str = "demo",
    only_missing_outputs: bool = False,
    eager: bool = False,
    **parameters: object,
) -> None:
    """Run pipelines as `kedro run` does, but in this process, which has Keras loaded already; `eagerly` or not."""
    bootstrap()
    values = {"data_root": str(data_root), **parameters}
    with (
        eagerly() if eager else contextlib.nullcontext(),
        KedroSession.create(PROJECT, env=env, runtime_params=values) as session,
    ):
        session.run(
            pipeline_names=list(pipelines) or None,
            node_names=nodes,
            load_versions=load_versions,
            only_missing_outputs=only_missing_outputs,
        )


def save_data(root: Path, train: Examples, val: Examples, test: Examples) -> Statistics:
    """Save splits in a data folder as ingestion and preprocessing do, and return their statistics."""
    for path, split in (("02_intermediate/test_examples", test), ("03_primary/train", train), ("03_primary/val", val)):
        ExamplesDataset(filepath=f"{root}/{path}.npz").save(split)
    statistics = measure(train, val, test)
    StatisticsDataset(filepath=f"{root}/03_primary/statistics.json").save(statistics)
    return statistics


def draw_plainly(patch) -> None:
    """Draw figures in low resolution and without a layout, which takes most of the time of a report."""
    from matplotlib.figure import Figure

    from cifar10 import figures

    patch.setattr(figures, "_figure", lambda height, title="": Figure((figures.WIDTH, height), dpi=50))


def draw_nothing(patch) -> None:
    """Save figures with nothing on them: their parts are made as usual, but drawing them takes most of the time."""
    from matplotlib.figure import Figure

    from cifar10 import figures

    class Blank(Figure):
        def draw(self, renderer):
            pass

    patch.setattr(figures, "_figure", lambda height, title="": Blank((figures.WIDTH, height), dpi=50))
    patch.setattr(figures, "SAMPLES", 1)
    patch.setattr("cifar10.pipelines.evaluation.nodes.EXAMPLES", 1)


HISTORY = [  # of a training of three epochs
    {"phase": "training", "epoch": epoch, "accuracy": 0.9 - 0.5 / epoch, "loss": 1 / epoch, "learning_rate": 0.1,
     "val_accuracy": 0.95 - 0.5 / epoch, "val_loss": 1 / epoch, "seconds": 30.0, "joules": None}
    for epoch in range(1, 4)
]  # fmt: skip


def make_record(**changes) -> Record:
    """Return the record of a small training, with changes."""
    recipe = {"seed": 0, "train_on": "train", "examples": None, "epochs": 3, **changes.pop("recipe", {})}
    values = {
        "architecture": "vgg16",
        "class_names": CLASS_NAMES,
        "recipe": recipe,
        "recipe_hash": "0123456789ab",
        "fingerprint": "0f1e2d3c4b5a",
        "engine_version": 1,
        "sources": "a hash",
        "image_size": 32,
        "training_examples": 8,
        "training_digest": "a digest",
        "data_version": "a data version",
        "digests": {},
        "parameters": 7,
        "epochs": 3,
        "best_epoch": 2,
        "val_accuracy": 0.9,
        "training_seconds": 90.0,
        "training_joules": None,
        "phases": {"training": {"epochs": 3, "val_accuracy": 0.9, "seconds": 90.0}},
        "initial_weights": "random",
        "compute_dtype": "float32",
        "versions": {"commit": "abc", "keras": "3"},
        "oldest_keras": "3.4",
        "hardware": "a machine",
        "onednn": True,
        "xla": False,
        "layers": [],
        "history": [],
    }
    return Record(**{**values, **changes})


def make_metrics(class_names=CLASS_NAMES, **changes) -> Metrics:
    """Return metrics of no particular predictions, with changes."""
    scores = {"precision": 0.8, "recall": 0.9, "f1": 0.85, "support": 100, "roc_auc": 0.99}
    one_bin = [{"images": 100, "confidence": 0.9, "accuracy": 0.8}]
    values = {
        "accuracy": 0.9,
        "accuracy_low": 0.88,
        "accuracy_high": 0.92,
        "top2_accuracy": 0.97,
        "loss": 0.3,
        "brier_score": 0.15,
        "calibration_error": 0.05,
        "temperature": 1.5,
        "calibrated_error": 0.01,
        "calibrated_loss": 0.28,
        "roc_auc": 0.99,
        **{f"{weighted}{name}": 0.9 for weighted in ("", "weighted_") for name in ("precision", "recall", "f1")},
        "train_accuracy": 0.95,
        "train_loss": 0.2,
        "val_accuracy": 0.91,
        "val_loss": 0.29,
        "views": "none",
        "averaged_accuracy": None,
        "averaged_loss": None,
        "averaged_val_accuracy": None,
        "test_examples": 1000,
        "classes": dict.fromkeys(class_names, scores),
        "confusion": (90 * np.eye(len(class_names), dtype=int)).tolist(),
        "reliability": one_bin,
        "calibrated_reliability": one_bin,
    }
    return Metrics(**{**values, **changes})


COSTS = Costs(flops=10**7, latency_ms=1.5, throughput=3000.0, measured_on="a machine")


def make_evaluation(architecture="vgg16", version="2026-01-01", record=None, costs=COSTS, **metrics) -> Evaluation:
    """Return the evaluation of a model with that record, and with metrics changed."""
    record = record or make_record(architecture=architecture)
    return Evaluation(
        version=version,
        identity=f"{record.architecture} {version}",
        megabytes=2.5,
        record=record,
        metrics=make_metrics(**metrics),
        costs=costs,
    )


def make_row(*seeds: Evaluation, name: str | None = None, older: tuple[Evaluation, ...] = ()) -> Row:
    """Return a row of these evaluations, the first of which has the lowest seed, named by its architecture."""
    return Row(name=name or seeds[0].record.architecture, seeds=list(seeds), older=list(older))


def make_pair(first, second, **changes) -> Pair:
    """Return a comparison of two models, with changes."""
    values = {
        "first_only": 30,
        "second_only": 10,
        "difference": 0.02,
        "low": 0.01,
        "high": 0.03,
        "p_value": 0.001,
        "p_holm": 0.001,
        "significant": True,
    }
    return Pair(first=first, second=second, **{**values, **changes})


def make_evaluations(*rows: Evaluation | Row, pairs=(), class_names=CLASS_NAMES) -> Evaluations:
    """Return the evaluations of these rows, or of these models in rows of their own, which are in their order."""
    return Evaluations(
        data_version="a data version",
        class_names=class_names,
        rows=[row if isinstance(row, Row) else make_row(row) for row in rows],
        pairs=list(pairs),
    )


def make_trial(number=0, state="complete", val_accuracy=0.8, options=None, **changes) -> Trial:
    """Return a trial with this result after each of two epochs, with changes."""
    values = {
        "number": number,
        "state": state,
        "options": options or {"learning_rate": 0.001 * (number + 1), "schedule": "cosine"},
        "val_accuracy": val_accuracy,
        "val_accuracies": [] if val_accuracy is None else [val_accuracy] * 2,
        "seconds": 60.0,
    }
    return Trial(**{**values, **changes})


def make_trials(*trials: Trial, **changes) -> Trials:
    """Return these trials of a study, with changes."""
    values = {
        "architecture": "simple_cnn",
        "recipe": make_record(architecture="simple_cnn").recipe,
        "data_version": "a data version",
        "fidelity": {"epochs": 2},
        "space": {
            "learning_rate": {"low": 0.0001, "high": 0.1, "log": True},
            "schedule": {"of": ["cosine", "plateau", None]},
            "shift": {"low": 0, "high": 4},
        },
        "trials": list(trials),
        "importance": {"learning_rate": 0.7, "schedule": 0.3},
    }
    return Trials(**{**values, **changes})
