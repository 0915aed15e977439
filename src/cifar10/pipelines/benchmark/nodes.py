"""Measure networks, one after the other, each in a process of its own."""

import logging
import statistics
from collections.abc import Callable
from typing import Annotated, Any, Literal

import pandas as pd
from matplotlib.figure import Figure
from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from cifar10 import figures
from cifar10.architectures import ARCHITECTURES
from cifar10.training.recipe import RECIPES, Recipe, TransferRecipe

logger = logging.getLogger(__name__)

ALL = "all"
BatchSize = Annotated[int, Field(ge=1, le=4096)]


def _known(names: str) -> str:
    for name in names.split():
        if name not in ARCHITECTURES and names != ALL:
            raise ValueError(f"there is no architecture {name}")
    return names


class Benchmark(BaseModel):
    """What to measure. The values live in `conf/base/parameters.yml`, which explains them."""

    model_config = ConfigDict(extra="forbid", strict=True)

    architectures: Annotated[str, AfterValidator(_known)]
    precision: Literal["auto", "float32", "bfloat16"]
    batch_size: BatchSize | None
    inference_batch_sizes: list[BatchSize]
    repeats: Annotated[int, Field(ge=1)]
    seconds: Annotated[float, Field(gt=0)]
    torch: str | None


def benchmarker(architectures: list[str]) -> Callable:
    """The node function that measures: it takes the parameters, and the recipe of each architecture."""

    def measure(benchmark: Benchmark, *recipes: dict[str, Any]) -> pd.DataFrame:
        """Measure the networks that are asked for.

        Returns:
            A row a network: its parameters, `gflop_per_picture` of a forward pass,
            `training` and `inference_N` in pictures a second, the smallest and largest of the repeats of the first,
            `outside` the share of the training's time that is not inside the compiled steps, `gflops` of the training,
            `peak_mb` of its process, and the `hours` that its recipe would take here. With PyTorch beside it, its
            pictures a second, and how many times as fast this project is. The row of a network that there was no
            memory for is empty.

        Raises:
            InputError: PyTorch cannot be run, or there was no memory for any network.
        """
        from cifar10.pipelines.benchmark.throughput import EndedError

        blocks = dict(zip(architectures, recipes, strict=True))
        rows: list[dict[str, Any]] = []
        for name in architectures if benchmark.architectures == ALL else benchmark.architectures.split():
            try:
                rows.append(_measure(name, RECIPES[name].model_validate(blocks[name]), benchmark))
            except EndedError as error:
                logger.warning("%s", error)
                rows.append({"architecture": name})
        table = pd.DataFrame(rows)
        if "training" not in table:
            raise EndedError("No network could be measured, for want of memory. Give smaller batch sizes.")
        logger.info("Pictures a second:\n%s", table.to_string(index=False))
        if "ratio" in table and len(table) > 1:
            logger.info("Geometric mean of the ratios: %.2f", statistics.geometric_mean(table.ratio.dropna()))
        return table

    return measure


def _measure(name: str, recipe: Recipe, benchmark: Benchmark) -> dict[str, Any]:
    from cifar10.pipelines.benchmark.throughput import measuring, torch_throughput

    batch_size = benchmark.batch_size or recipe.batch_size
    trained, outside, torch = [], [], []
    with measuring(name, recipe, benchmark.precision) as ask:
        described = ask("describe")
        for _ in range(benchmark.repeats):  # in turn, for the speed of a machine drifts
            speed, share = ask("train", batch_size, benchmark.seconds)
            trained.append(speed)
            outside.append(share)
            if benchmark.torch and not isinstance(recipe, TransferRecipe):
                torch.append(torch_throughput(benchmark.torch, described, batch_size, benchmark.seconds))
        memory = ask("memory")
        inferred = {
            f"inference_{size}": statistics.median(
                ask("infer", size, benchmark.seconds) for _ in range(benchmark.repeats)
            )
            for size in benchmark.inference_batch_sizes
        }
    training = statistics.median(trained)
    row = {
        "architecture": name,
        "precision": described.precision,
        "batch_size": batch_size,
        "training": training,
        "training_min": min(trained),
        "training_max": max(trained),
        **inferred,
        "outside": statistics.median(outside),
        "gflop_per_picture": described.flops / 1e9,
        "gflops": 3 * described.flops * training / 1e9,
        "peak_mb": memory / 1e6,
        "parameters": described.parameters,
        "hours": _hours(recipe, training, max(inferred.values(), default=3 * training)),
        "device": described.device,
    }
    if benchmark.torch:
        ratios = [ours / theirs for ours, theirs in zip(trained, torch, strict=False)]
        row["torch"], row["ratio"] = (statistics.median(each) if each else float("nan") for each in (torch, ratios))
    logger.info("%s, %s: %.0f pictures a second in training", name, described.precision, training)
    return row


def _hours(recipe: Recipe, training: float, inference: float) -> float:
    """Of the whole recipe at these pictures a second, validation included; the epochs of a head alone take seconds."""
    from cifar10.pipelines.benchmark.throughput import PICTURES, VALIDATION

    pictures, judged = recipe.examples or PICTURES, VALIDATION
    if recipe.train_on == "all":
        pictures, judged = recipe.examples or PICTURES + VALIDATION, 0
    seconds = recipe.epochs * (pictures / training + judged / inference)
    if isinstance(recipe, TransferRecipe):
        features = (recipe.feature_copies * pictures + judged) / inference
        seconds = features + (seconds if recipe.unfreeze else 0.0)
    return seconds / 3600


def draw_benchmark(benchmark: pd.DataFrame) -> Figure:
    """Pictures a second in training, beside PyTorch's where it was measured."""
    return figures.benchmark(benchmark)
