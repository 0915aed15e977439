"""How fast a network trains and answers on this machine, measured in a process of its own."""

import json
import multiprocessing
import resource
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
PICTURES, VALIDATION = 45_000, 5_000  # that a recipe trains on and is judged by, as a rule
SETTLE = 2  # steps before the clock starts


class EndedError(InputError):
    """The measurement of a network was ended by the system, so nothing is known of it; others can go on."""


class Description(NamedTuple):
    """What is measured.

    Attributes:
        parameters: of the network.
        flops: of a forward pass of one picture.
        precision: `float32` or `bfloat16`, in training.
        graph: of the network, for a peer to build the same; empty for those from ImageNet.
        device: it is measured on.
    """

    parameters: int
    flops: int
    precision: str
    graph: list[dict[str, Any]]
    device: str


@contextmanager
def measuring(name: str, recipe: Recipe, precision: str) -> Iterator[Callable[..., Any]]:
    """Build the network in a process of its own, and give a function that asks that process.

    `ask("describe")` gives a `Description`; `ask("train", batch_size, seconds)` (pictures a second, the share of the
    time outside the compiled step); `ask("infer", batch_size, seconds)` pictures a second, in batches no larger than
    the project makes for pictures of that size; `ask("memory")` the most memory that the process has had, in bytes,
    on the host.

    Args:
        name: the architecture.
        recipe: its; what takes time of it counts: augmentation, optimizer, image size.
        precision: as a recipe's.
    """
    ours, theirs = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(
        target=_answer, args=(theirs, name, recipe, precision), daemon=True
    )
    process.start()
    theirs.close()

    def ask(*question: Any) -> Any:
        try:
            ours.send(question)
            return ours.recv()
        except (EOFError, ConnectionError):  # the latter if it has not even read the question
            process.join()
            raise EndedError(
                f"{name}: its measurement was ended by the system (exit code {process.exitcode}), most likely for want "
                "of memory. Give it smaller batch sizes."
            ) from None

    try:
        yield ask
        ours.close()
        process.join(timeout=30)
    finally:
        process.kill()


def torch_throughput(python: str, description: Description, batch_size: int, seconds: float) -> float:
    """Training pictures a second of the same network in PyTorch.

    Args:
        python: an interpreter that has PyTorch.
        description: of the network.
        batch_size: pictures a step.
        seconds: to measure for, about.

    Raises:
        InputError: it cannot be run, or fails.
    """
    script = Path(__file__).with_name("torch_peer.py")
    with tempfile.NamedTemporaryFile("w", suffix=".json") as graph:
        json.dump(description.graph, graph)
        graph.flush()
        command = [python, str(script), graph.name, description.precision, str(batch_size), str(seconds)]
        try:
            result = subprocess.run(command, capture_output=True, text=True, check=True)  # noqa: S603  the user's choice
        except OSError as error:
            raise InputError(f"benchmark.torch: {python} cannot be run ({error.strerror}).") from error
        except subprocess.CalledProcessError as error:
            reason = (error.stderr.strip().splitlines() or ["no message"])[-1]
            raise InputError(f"benchmark.torch: {python} could not train the network in PyTorch: {reason}") from error
    return float(result.stdout)


def peak_memory() -> int:
    """The most memory that this process has had, in bytes, on the host.

    Linux tells it of the process alone; `getrusage` counts there what the process that started this one had by then.
    """
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else peak * 1024
    return 1024 * int(next(line for line in lines if line.startswith("VmHWM:")).split()[1])


def _answer(connection: Connection, name: str, recipe: Recipe, precision: str) -> None:
    """Build the network, and answer questions about it until nobody asks."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # who asks has Ctrl-C, too, and ends this
    subject = _Subject(name, recipe, precision)
    while True:
        try:
            question, *arguments = connection.recv()
        except EOFError:
            return
        connection.send(getattr(subject, question)(*arguments))


class _Subject:
    """A network as it is trained, on pictures of noise."""

    def __init__(self, name: str, recipe: Recipe, precision: str) -> None:
        import keras

        from cifar10.architectures import build
        from cifar10.compute.device import choose_precision

        self.recipe = recipe.model_copy(update={"precision": precision})
        self.precision = choose_precision(self.recipe)
        knobs = {**recipe.knobs(), "weights": None} if isinstance(recipe, TransferRecipe) else {}
        statistics = Statistics((125.0,) * 3, (63.0,) * 3, tuple(map(tuple, (3969 * np.eye(12)).tolist())), {}, "noise")
        keras.utils.set_random_seed(0)
        self.network = build(name, NUM_CLASSES, statistics, **knobs)
        self.compiled_for: int | None = None
        self.step_seconds: dict[int, float] = {}  # by batch size
        self.answer_seconds: dict[int, float] = {}

    def describe(self) -> Description:
        from cifar10.compute.device import hardware
        from cifar10.compute.flops import flops

        layers = [] if isinstance(self.recipe, TransferRecipe) else graph(self.network)
        return Description(self.network.count_params(), flops(self.network), self.precision, layers, hardware())

    def train(self, batch_size: int, seconds: float) -> tuple[float, float]:
        from cifar10.compute.batches import batches, one_hot

        model = self._compiled(batch_size)

        def fit(steps: int) -> float:
            index = np.resize(np.arange(PICTURES, dtype="int32"), steps * batch_size)
            given = batches(index, one_hot(index % NUM_CLASSES, NUM_CLASSES), batch_size=batch_size)
            started = time.perf_counter()
            model.fit(given, shuffle=False, verbose=0, callbacks=[clock])
            return time.perf_counter() - started

        clock = _clock()
        if batch_size not in self.step_seconds:  # the first steps compile, and are not what is measured
            fit(SETTLE)
            self.step_seconds[batch_size] = fit(SETTLE) / SETTLE
        steps = max(SETTLE, round(seconds / self.step_seconds[batch_size]))
        clock.seconds = 0.0
        whole = fit(steps)
        return steps * batch_size / whole, 1 - clock.seconds / whole

    def _compiled(self, batch_size: int) -> Any:
        """Give the training model for that batch size, made once."""
        from cifar10.training.accelerate import accelerate
        from cifar10.training.augmentation import Augmentation
        from cifar10.training.model import Training
        from cifar10.training.phase import compile_by
        from cifar10.training.transfer import unfreeze

        if self.compiled_for != batch_size:
            network = accelerate(self.network, self.precision)
            if isinstance(self.recipe, TransferRecipe):
                unfreeze(network, self.recipe.unfreeze)
            images = np.random.default_rng(0).integers(0, 256, (PICTURES, 32, 32, 3), dtype=np.uint8)
            augmentation = Augmentation(self.recipe, (125.0,) * 3)
            self.compiled = Training(network, images, images[:1], augmentation, self.recipe)
            compile_by(self.recipe, self.compiled, PICTURES, self.precision)
            self.compiled_for = batch_size
        return self.compiled

    def infer(self, batch_size: int, seconds: float) -> float:
        from cifar10.compute.batches import batches, inference_batch_size
        from cifar10.compute.device import jit_compile

        if isinstance(self.recipe, TransferRecipe):
            batch_size = min(batch_size, inference_batch_size(self.recipe.image_size))
        if not self.answer_seconds:
            self.network.compile(jit_compile=jit_compile())

        def predict(steps: int) -> float:
            images = np.random.default_rng(0).integers(0, 256, (steps * batch_size, 32, 32, 3), dtype=np.uint8)
            given = batches(images, batch_size=batch_size)
            started = time.perf_counter()
            self.network.predict(given, verbose=0)
            return time.perf_counter() - started

        if batch_size not in self.answer_seconds:
            predict(SETTLE)
            self.answer_seconds[batch_size] = predict(SETTLE) / SETTLE
        steps = max(SETTLE, round(seconds / self.answer_seconds[batch_size]))
        return steps * batch_size / predict(steps)

    def memory(self) -> int:
        return peak_memory()


def _clock() -> Any:
    """A callback that adds up the time inside the training steps."""
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
    """The layers of a network in the order of their computation, as plain values.

    Each has `name`, `kind`, the options that matter, the names of its `inputs`, and channels and size of the first of
    them. What goes into the network is called `picture`.
    """
    nodes = []
    for layer in network.layers:
        if type(layer).__name__ == "InputLayer":
            continue
        config = layer.get_config()
        inputs = [tensor._keras_history.operation for tensor in layer._inbound_nodes[0].input_tensors]
        options = {
            option: config[option]
            for option in ("filters", "kernel_size", "strides", "padding", "use_bias", "activation", "units", "groups",
                           "pool_size", "rate", "epsilon", "momentum", "scale", "offset", "axis", "negative_slope",
                           "max_value", "dilation_rate", "cropping", "keepdims")
            if option in config
        }  # fmt: skip
        node = {"name": layer.name, "kind": type(layer).__name__, "inputs": [each.name for each in inputs], **options}
        shape = layer._inbound_nodes[0].input_tensors[0].shape
        nodes.append({**node, "channels": shape[-1], "size": list(shape[1:-1])})
    return nodes
