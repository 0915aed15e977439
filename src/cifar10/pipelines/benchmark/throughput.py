"""Measure how fast a network trains and predicts on this machine, in a process of its own."""

import json
import multiprocessing
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from cifar10.contracts import Statistics
from cifar10.errors import InputError
from cifar10.training.recipe import Recipe, TransferRecipe

NUM_CLASSES = 10
TRAIN_IMAGES, VAL_IMAGES = 45_000, 5_000  # of CIFAR-10 with the default split
WARM_UP = 2  # steps that are not timed


class EndedError(InputError):
    """The measurement of a network failed or was ended by the system; others can continue."""


class Description(NamedTuple):
    """A network that is measured.

    Attributes:
        parameters: the number of weights.
        flops: of a forward pass of one image.
        step_flops: of a training step, per image.
        compute_dtype: `float32` or `bfloat16`, in training.
        graph: of the network, from which PyTorch builds the same; empty for networks with ImageNet weights.
        device: on which it is measured.
    """

    parameters: int
    flops: int
    step_flops: float
    compute_dtype: str
    graph: list[dict[str, Any]]
    device: str


@contextmanager
def measuring(name: str, recipe: Recipe, compute_dtype: str) -> Iterator[Callable[..., Any]]:
    """Build the network in a process of its own, and give a function that asks that process.

    `ask("describe")` returns a `Description`; `ask("train", batch_size, seconds)` images per second, and the share of
    the time outside the compiled step (of the second phase with ImageNet weights), and with a fourth value the same for
    images of that side in pixels; `ask("infer", batch_size, seconds)` images per second, in batches that are at most as
    large as the project uses for images of that size; `ask("memory")` the peak memory of the process on the host, in
    bytes.

    Args:
        name: the architecture.
        recipe: of which everything that takes time is used: augmentation, optimizer, image size. A whitening learns as
            in the first epochs.
        compute_dtype: as in a recipe.
    """
    ours, theirs = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(
        target=_serve, args=(theirs, name, recipe, compute_dtype), daemon=True
    )
    process.start()
    theirs.close()

    def ask(*question: Any) -> Any:
        try:
            ours.send(question)
            return ours.recv()
        except (EOFError, ConnectionError):  # the latter if the process ended before it read the question
            process.join()
            if process.exitcode and process.exitcode > 0:  # it has printed why
                raise EndedError(f"{name}: its measurement failed, see above.") from None
            raise EndedError(
                f"{name}: its measurement was ended by the system (exit code {process.exitcode}), most likely because "
                "there was not enough memory. Use smaller batches."
            ) from None

    try:
        yield ask
        ours.close()
        process.join(timeout=30)
    finally:
        process.kill()


def torch_throughput(python: str, description: Description, mode: str, batch_size: int, seconds: float) -> float:
    """Return the images per second of the same network in PyTorch.

    Args:
        python: an interpreter that has PyTorch.
        description: of the network.
        mode: `train`, in the compute dtype of the description, or `infer`, in float32 as the saved models.
        batch_size: images per step.
        seconds: approximate duration of the measurement.

    Raises:
        InputError: the interpreter cannot be run, or fails.
    """
    script = Path(__file__).with_name("torch_peer.py")
    with tempfile.NamedTemporaryFile("w", suffix=".json", encoding="utf-8") as graph:
        json.dump(description.graph, graph)
        graph.flush()
        compute_dtype = description.compute_dtype if mode == "train" else "float32"
        command = [python, str(script), graph.name, mode, compute_dtype, str(batch_size), str(seconds)]
        try:
            result = subprocess.run(  # noqa: S603  chosen by the user
                command, capture_output=True, encoding="utf-8", errors="replace", check=True
            )
        except OSError as error:
            raise InputError(f"benchmark.torch: {python} cannot be run ({error.strerror}).") from error
        except subprocess.CalledProcessError as error:
            reason = (error.stderr.strip().splitlines() or ["no message"])[-1]
            raise InputError(
                f"benchmark.torch: {python} could not {mode} with the network in PyTorch: {reason}"
            ) from error
    return float(result.stdout)


def peak_memory() -> int:
    """Return the peak memory of this process in bytes, on the host; 0 where the system does not report it.

    Linux reports it per process; `getrusage` there starts with the memory of the process that started this one.
    """
    try:
        lines = Path("/proc/self/status").read_text("utf-8", "replace").splitlines()
        return 1024 * int(next(line for line in lines if line.startswith("VmHWM:")).split()[1])
    except OSError:
        pass
    try:
        import resource  # not on Windows
    except ModuleNotFoundError:
        return 0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def _serve(connection: Connection, name: str, recipe: Recipe, compute_dtype: str) -> None:
    """Build the network, and answer questions about it until the connection is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent gets Ctrl-C, too, and ends this process
    subject = _Subject(name, recipe, compute_dtype)
    while True:
        try:
            question, *arguments = connection.recv()
        except EOFError:
            return
        connection.send(getattr(subject, question)(*arguments))


class _Subject:
    """A network as it is trained, on images of noise."""

    def __init__(self, name: str, recipe: Recipe, compute_dtype: str) -> None:
        import keras

        from cifar10.architectures import build
        from cifar10.compute.device import choose_compute_dtype

        self.recipe = recipe
        self.compute_dtype = choose_compute_dtype(compute_dtype, recipe.cpu_compute_dtype)
        options = {**recipe.builder_options(), "weights": None} if isinstance(recipe, TransferRecipe) else {}
        covariance = tuple(map(tuple, (3969 * np.eye(12)).tolist()))
        statistics = Statistics(
            mean=(125.0,) * 3, std=(63.0,) * 3, patch_covariance=covariance, digests={}, data_version="noise"
        )
        keras.utils.set_random_seed(0)
        self.network = build(name, NUM_CLASSES, statistics, **options)
        self.compiled_for: int | None = None
        self.step_seconds: dict[tuple[int, int], float] = {}  # by batch size, and side of the images
        self.inference_seconds: dict[int, float] = {}

    def describe(self) -> Description:
        from cifar10.compute.device import hardware
        from cifar10.compute.flops import flops
        from cifar10.training.cost import step_flops

        layers = [] if isinstance(self.recipe, TransferRecipe) else graph(self.network)
        costs = flops(self.network), step_flops(self.network, self.recipe)
        return Description(self.network.count_params(), *costs, self.compute_dtype, layers, hardware())

    def train(self, batch_size: int, seconds: float, side: int = 32) -> tuple[float, float]:
        from cifar10.compute.batches import batches, one_hot

        model = self._compiled(batch_size)
        model.train_at(side)

        def fit(steps: int) -> float:
            index = np.resize(np.arange(model.train_inputs.shape[0], dtype="int32"), steps * batch_size)
            given = batches(index, one_hot(index % NUM_CLASSES, NUM_CLASSES), batch_size=batch_size)
            started = time.perf_counter()
            model.fit(given, shuffle=False, verbose=0, callbacks=[clock])
            return time.perf_counter() - started

        clock = _clock()
        if (batch_size, side) not in self.step_seconds:  # the first steps compile
            fit(WARM_UP)
            self.step_seconds[batch_size, side] = fit(WARM_UP) / WARM_UP
        steps = max(WARM_UP, round(seconds / self.step_seconds[batch_size, side]))
        clock.seconds = 0.0
        whole = fit(steps)
        return steps * batch_size / whole, 1 - clock.seconds / whole

    def _compiled(self, batch_size: int) -> Any:
        """Return the training model for that batch size, made once."""
        from cifar10.training.accelerate import accelerate
        from cifar10.training.augmentation import Augmentation, make_mixing
        from cifar10.training.frozen import split
        from cifar10.training.model import TrainingModel
        from cifar10.training.phase import compile_by
        from cifar10.training.transfer import unfreeze

        if self.compiled_for != batch_size:
            network, parts = accelerate(self.network, self.compute_dtype), None
            if isinstance(self.recipe, TransferRecipe):
                unfreeze(network, self.recipe.unfreeze)
                parts = split(network, self.recipe.unfreeze) if self.recipe.cache_gb else None
            generator = np.random.default_rng(0)
            if parts:
                inputs = generator.random((batch_size, *parts.trained.input_shape[1:])).astype("float16")
                self.compiled = TrainingModel(parts.trained, inputs, inputs[:1])
            else:
                images = generator.integers(0, 256, (TRAIN_IMAGES, 32, 32, 3), dtype=np.uint8)
                augmentation, mixing = Augmentation(self.recipe, (125.0,) * 3), make_mixing(self.recipe)
                sides = self.recipe.sides
                self.compiled = TrainingModel(network, images, images[:1], augmentation, mixing, sides=sides)
            compile_by(self.recipe, self.compiled, TRAIN_IMAGES, self.compute_dtype)
            self.compiled_for = batch_size
        return self.compiled

    def infer(self, batch_size: int, seconds: float) -> float:
        from cifar10.compute.batches import batches, inference_batch_size
        from cifar10.compute.device import jit_compile

        if isinstance(self.recipe, TransferRecipe):
            batch_size = min(batch_size, inference_batch_size(self.recipe.image_size))
        if not self.inference_seconds:
            self.network.compile(jit_compile=jit_compile())

        def predict(steps: int) -> float:
            images = np.random.default_rng(0).integers(0, 256, (steps * batch_size, 32, 32, 3), dtype=np.uint8)
            given = batches(images, batch_size=batch_size)
            started = time.perf_counter()
            self.network.predict(given, verbose=0)
            return time.perf_counter() - started

        if batch_size not in self.inference_seconds:
            predict(WARM_UP)
            self.inference_seconds[batch_size] = predict(WARM_UP) / WARM_UP
        steps = max(WARM_UP, round(seconds / self.inference_seconds[batch_size]))
        return steps * batch_size / predict(steps)

    def memory(self) -> int:
        return peak_memory()


def _clock() -> Any:
    """Return a callback that adds up the time inside the training steps."""
    import keras

    class Clock(keras.callbacks.Callback):
        seconds = 0.0

        def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
            self.started = time.perf_counter()

        def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
            float(np.asarray(logs["loss"]))  # wait for it
            self.seconds += time.perf_counter() - self.started

    return Clock()


def graph(network: Any) -> list[dict[str, Any]]:
    """Return the layers of a network in the order of their computation, as plain values.

    Each has `name`, `kind`, the options that matter, the names of its `inputs`, and channels and size of the first of
    them.
    """
    import keras

    # The configuration of a functional model says what each layer is called on; that of a Sequential does not.
    functional = keras.Model(network.inputs, network.outputs)
    nodes = []
    for config in functional.get_config()["layers"]:
        if config["class_name"] == "InputLayer":
            continue
        layer = functional.get_layer(config["name"])
        options = {
            option: config["config"][option]
            for option in ("filters", "kernel_size", "strides", "padding", "use_bias", "activation", "units", "groups",
                           "pool_size", "rate", "epsilon", "momentum", "scale", "offset", "cropping", "keepdims")
            if option in config["config"]
        }  # fmt: skip
        (call,) = config["inbound_nodes"]
        shape = layer.input[0].shape if isinstance(layer.input, list) else layer.input.shape
        node = {"name": layer.name, "kind": config["class_name"], "inputs": _called_on(call["args"]), **options}
        nodes.append({**node, "channels": shape[-1], "size": list(shape[1:-1])})
    return nodes


def _called_on(arguments: Any) -> list[str]:
    """Return the names of the layers whose outputs are among the serialised arguments of a call."""
    if isinstance(arguments, dict):
        if arguments.get("class_name") == "__keras_tensor__":
            return [arguments["config"]["keras_history"][0]]
        arguments = list(arguments.values())
    return [name for each in arguments for name in _called_on(each)] if isinstance(arguments, list | tuple) else []
