"""The benchmark, and the processes that measure for it."""

import math
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from cifar10.architectures import ARCHITECTURES, build
from cifar10.architectures.imagenet import BACKBONE
from cifar10.compute.flops import layer_flops
from cifar10.errors import InputError
from cifar10.figures import benchmark as draw_benchmark
from cifar10.pipelines.benchmark import nodes
from cifar10.pipelines.benchmark.nodes import _hours, benchmarker
from cifar10.pipelines.benchmark.throughput import (
    Description,
    EndedError,
    _Subject,
    graph,
    measuring,
    peak_memory,
    torch_throughput,
)
from cifar10.training.recipe import RECIPES
from tests.helpers import PROJECT

BLOCKS = yaml.safe_load((PROJECT / "conf/base/parameters_architectures.yml").read_text())


OPTIONS = {
    "architectures": "simple_cnn",
    "compute_dtype": "float32",
    "batch_size": 16,
    "inference_batch_sizes": 1,
    "repeats": 1,
    "seconds": 0.1,
    "torch": None,
}


@pytest.fixture(scope="module")
def table():
    return benchmarker(list(ARCHITECTURES))(OPTIONS, *(BLOCKS[name] for name in ARCHITECTURES))


def test_benchmark_measures_the_named_network(table):
    assert list(table.architecture) == ["simple_cnn"]
    assert (table.training > 1).all()
    assert (table.inference_1 > 1).all()
    assert table.overhead.between(0, 1).all()
    assert table.peak_mb.between(200, 4000).all()
    (row,) = table.itertuples()
    assert row.hours == pytest.approx(30 * (45_000 / row.training + 5_000 / row.inference_1) / 3600)
    assert row.gflops == pytest.approx(3 * row.gflop_per_image * row.training)


def test_hours_count_each_epoch_at_its_resolution():
    recipe = RECIPES["resnet50"](**{**BLOCKS["resnet50"], "epochs": 6, "resolutions": "16 24 32"})
    training = {16: 400.0, 24: 200.0, 32: 100.0}
    expected = 2 * (45_000 / 400 + 45_000 / 200 + 45_000 / 100) + 6 * 5_000 / 1000
    assert _hours(recipe, training, 1000.0) == pytest.approx(expected / 3600)


@pytest.mark.parametrize("cache_gb", [None, 4.0])
def test_hours_count_the_frozen_layers_as_often_as_they_are_computed(cache_gb):
    block = {**BLOCKS["mobilenetv2_imagenet"], "epochs": 10, "feature_copies": 2, "cache_gb": cache_gb}
    recipe = RECIPES["mobilenetv2_imagenet"](**block)
    epoch = 45_000 / 300 + 5_000 / (900 if cache_gb else 100)  # a third of a training step is a forward pass
    expected = (2 * 45_000 + 5_000) / 100 + 10 * epoch
    assert _hours(recipe, {32: 300.0}, 100.0) == pytest.approx(expected / 3600)


def test_benchmark_trains_on_reduced_images_and_on_what_enters_the_trained_layers():
    recipes = [
        RECIPES["airbench94"](**{**BLOCKS["airbench94"], "resolutions": "26 32"}),
        RECIPES["mobilenetv2_imagenet"](
            **{**BLOCKS["mobilenetv2_imagenet"], "image_size": 32, "unfreeze": 20, "cache_gb": 1.0}
        ),
    ]
    for recipe, name in zip(recipes, ("airbench94", "mobilenetv2_imagenet"), strict=True):
        subject = _Subject(name, recipe, "float32")  # in this process, which has imported everything already
        for side in set(recipe.sides):
            assert subject.train(8, 0.1, side)[0] > 1


@pytest.mark.parametrize(("cache_gb", "unfreeze"), [(None, 20), (1.0, 20), (1.0, 0)])
def test_what_transfer_learning_leaves_as_it_is_costs_no_backward_pass(cache_gb, unfreeze):
    block = {**BLOCKS["mobilenetv2_imagenet"], "image_size": 32, "unfreeze": unfreeze, "cache_gb": cache_gb}
    subject = _Subject("mobilenetv2_imagenet", RECIPES["mobilenetv2_imagenet"](**block), "float32")
    layers = subject.network.get_layer(BACKBONE).layers
    frozen = sum(map(layer_flops, layers[: len(layers) - unfreeze]))
    described = subject.describe()
    trained = described.flops - frozen
    assert described.step_flops == pytest.approx(3 * trained if cache_gb else frozen + 3 * trained)
    assert frozen > trained > 0


def test_peak_memory_is_that_of_the_process_alone():
    """It does not include the memory of the parent process, and does include memory that has been freed."""
    program = "from cifar10.pipelines.benchmark.throughput import peak_memory; b'1' * 300_000_000; print(peak_memory())"
    ballast = np.ones(1_000_000_000, np.uint8)
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert 300 < int(result.stdout) / 1e6 < ballast.nbytes / 1e6 < peak_memory() / 1e6


def test_measurement_that_is_ended_before_its_first_result_is_an_error():
    recipe = RECIPES["simple_cnn"](**BLOCKS["simple_cnn"])
    message = "^not an architecture: its measurement failed, see above"
    with measuring("not an architecture", recipe, "float32") as ask, pytest.raises(EndedError, match=message):
        ask("describe")
    message = "^simple_cnn: its measurement was ended by the system .* most likely because there was not enough memory"
    with measuring("simple_cnn", recipe, "float32") as ask:
        multiprocessing.active_children()[0].kill()
        with pytest.raises(EndedError, match=message):
            ask("describe")


@pytest.mark.slow
def test_ctrl_c_ends_a_benchmark_in_one_message(tmp_path):
    """A terminal sends the signal to all processes."""
    options = {"architectures": "simple_cnn resnet50", "compute_dtype": "float32", "batch_size": 16, "repeats": 50}
    params = ",".join([f"data_root={tmp_path}", *(f"benchmark.{name}={value}" for name, value in options.items())])
    process = subprocess.Popen(
        [sys.executable, "-m", "kedro", "run", "--pipelines=benchmark", f"--params={params}"],
        cwd=PROJECT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")

    def started():
        return any("spawn_main" in Path(f"/proc/{child}/cmdline").read_text() for child in children.read_text().split())

    while not started():
        assert process.poll() is None
        time.sleep(0.1)
    time.sleep(8)  # by then it is measuring
    os.killpg(process.pid, signal.SIGINT)
    output, _ = process.communicate(timeout=20)
    assert process.returncode == 1
    assert "Error: Interrupted." in output
    assert "Traceback" not in output


def test_network_without_enough_memory_has_an_empty_row(table, monkeypatch, caplog):
    def measure(name, recipe, benchmark):
        if name == "vgg16":
            raise EndedError("vgg16: its measurement was ended by the system.")
        return table.iloc[0].to_dict()

    monkeypatch.setattr("cifar10.pipelines.benchmark.nodes._measure", measure)
    names = ["simple_cnn", "vgg16"]
    measured = benchmarker(names)(OPTIONS | {"architectures": "all"}, *(BLOCKS[name] for name in names))
    assert measured.training.tolist() == pytest.approx([table.training[0], math.nan], nan_ok=True)
    assert "vgg16: its measurement was ended" in caplog.text
    assert draw_benchmark(measured).axes
    with pytest.raises(InputError, match="No network could be measured"):
        benchmarker(names)(OPTIONS | {"architectures": "vgg16"}, *(BLOCKS[name] for name in names))


def test_benchmark_is_drawn_with_and_without_pytorch(table):
    assert draw_benchmark(table).axes
    both = pd.concat([table, table])
    figure = draw_benchmark(both.assign(torch=[5.0, math.nan], ratio=[1.5, math.nan]))
    assert [text.get_text() for text in figure.axes[0].texts][2:] == ["5 (ratio 1.50)", ""]


@pytest.mark.parametrize(("python", "message"), [("/nowhere/python", "cannot be run"), ("false", "could not train")])
def test_pytorch_that_does_not_work_is_named(python, message):
    with pytest.raises(InputError, match=rf"benchmark.torch: {python} {message}"):
        torch_throughput(python, Description(1, 1, 3.0, "float32", [], "a machine"), "train", 1, 1.0)


def test_graph_says_what_a_layer_computes(statistics):
    """The first layer is a 3x3 convolution from 3 to 32 channels on 32x32 pixels."""
    first = next(node for node in graph(build("simple_cnn", 10, statistics)) if node["kind"] == "Conv2D")
    assert (first["kernel_size"], first["filters"], first["size"], first["channels"]) == ((3, 3), 32, [32, 32], 3)


def test_inputs_of_a_layer_come_before_it_in_the_graph(statistics):
    for name in ("googlenet", "efficientnetb0", "nasnetmobile"):
        known = {"image"}
        for node in graph(build(name, 10, statistics)):
            assert set(node["inputs"]) <= known
            known.add(node["name"])
    assert np.all([node["channels"] for node in graph(build("vgg16", 10, statistics))])


def test_networks_that_have_no_peer_have_no_mean_ratio(monkeypatch, caplog):
    monkeypatch.setattr(
        nodes, "_measure", lambda name, *_: {"architecture": name, "training": 1.0, "ratio": float("nan")}
    )
    names = ["vgg16_imagenet", "resnet50_imagenet"]
    benchmark = {**OPTIONS, "architectures": " ".join(names)}
    table = benchmarker(names)(benchmark, *(BLOCKS[name] for name in names))
    assert list(table.architecture) == names
    assert "Geometric mean" not in caplog.text
