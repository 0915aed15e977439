"""Measure networks one after the other, each in a process of its own."""

import logging
import statistics
from collections.abc import Callable
from typing import Annotated, Any, Literal

import pandas as pd
from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from cifar10.architectures import ARCHITECTURES
from cifar10.errors import InputError, did_you_mean
from cifar10.training.options import SIZE
from cifar10.training.recipe import RECIPES, Recipe, TransferRecipe

logger = logging.getLogger(__name__)

ALL = "all"
MAX_BATCH_SIZE = 4096


def _known(names: str) -> str:
    for name in names.split():
        if name not in ARCHITECTURES and names != ALL:
            raise ValueError(f"there is no architecture {name}; {did_you_mean(name, ARCHITECTURES)}")
    if not names.split():
        raise ValueError("name an architecture, or several, separated by spaces; or all")
    return names


def _batch_sizes(given: str | int) -> str | int:
    for size in str(given).split():
        if not size.isdecimal() or not 1 <= int(size) <= MAX_BATCH_SIZE:
            raise ValueError(f"{size} is not a batch size from 1 to {MAX_BATCH_SIZE:,}; separate several by spaces")
    return given


class Benchmark(BaseModel):
    """Parameters of this pipeline; `conf/base/parameters.yml` has their values and explains them."""

    model_config = ConfigDict(extra="forbid", strict=True)

    architectures: Annotated[str, AfterValidator(_known)]
    compute_dtype: Literal["auto", "float32", "bfloat16"]
    batch_size: Annotated[int, Field(ge=1, le=MAX_BATCH_SIZE)] | None
    inference_batch_sizes: Annotated[str | int, AfterValidator(_batch_sizes)]
    repeats: Annotated[int, Field(ge=1)]
    seconds: Annotated[float, Field(gt=0)]
    torch: str | None


def benchmarker(architectures: list[str]) -> Callable:
    """Return the node function that measures these architectures."""

    def measure(benchmark: dict[str, Any], *recipes: dict[str, Any]) -> pd.DataFrame:
        """Measure the networks that the parameters name.

        Args:
            benchmark: see `Benchmark`.
            recipes: one per architecture.

        Returns:
            One row per network: its `parameters`; `gflop_per_image` of a forward pass; `training` and `inference_N` (in
            batches of N, or of fewer where the network enlarges its images) in images per second, the former with
            minimum and maximum over the repeats; `overhead`, the share of the training time outside the compiled steps;
            `gflops`, the rate of training; `peak_mb`, the peak memory of its process; and `hours` that its recipe would
            take here. With PyTorch: its training images per second in `torch`, and the `ratio` of this project's to
            them; `torch_inference_N` and `ratio_inference_N` likewise. The row of a network without enough memory is
            empty.

        Raises:
            InputError: PyTorch cannot be run, or no network could be measured, for example for lack of memory.
        """
        from cifar10.pipelines.benchmark.throughput import EndedError

        options = Benchmark.model_validate(benchmark)
        blocks = dict(zip(architectures, recipes, strict=True))
        rows: list[dict[str, Any]] = []
        for name in architectures if options.architectures == ALL else options.architectures.split():
            try:
                rows.append(_measure(name, RECIPES[name].model_validate(blocks[name]), options))
            except EndedError as error:
                logger.warning("%s", error)
                rows.append({"architecture": name})
        table = pd.DataFrame(rows)
        if "training" not in table:
            raise InputError("No network could be measured; the reasons are above.")
        logger.info("Images per second:\n%s", table.to_string(index=False))
        for column in [column for column in map(str, table) if column.startswith("ratio")]:
            if len(known := table[column].dropna()) > 1:
                logger.info("Geometric mean of %s: %.2f", column, statistics.geometric_mean(known))
        return table

    return measure


def _measure(name: str, recipe: Recipe, benchmark: Benchmark) -> dict[str, Any]:
    from cifar10.pipelines.benchmark.throughput import measuring, torch_throughput

    batch_size = benchmark.batch_size or recipe.batch_size
    trained, overhead, torch = [], [], []
    inferred: dict[str, float] = {}
    python = None if isinstance(recipe, TransferRecipe) else benchmark.torch
    with measuring(name, recipe, benchmark.compute_dtype) as ask:
        described = ask("describe")
        for _ in range(benchmark.repeats):  # in turn, because the speed of a machine drifts
            speed, share = ask("train", batch_size, benchmark.seconds)
            trained.append(speed)
            overhead.append(share)
            if python:
                torch.append(torch_throughput(python, described, "train", batch_size, benchmark.seconds))
        # Those of lower resolution are measured once, because only `hours` needs them.
        sides = {side: ask("train", batch_size, benchmark.seconds, side)[0] for side in {*recipe.sides} - {SIZE}}
        sides[SIZE] = statistics.median(trained)
        memory = ask("memory")
        for size in map(int, str(benchmark.inference_batch_sizes).split()):
            ours, theirs = [], []
            for _ in range(benchmark.repeats):
                ours.append(ask("infer", size, benchmark.seconds))
                if python:
                    theirs.append(torch_throughput(python, described, "infer", size, benchmark.seconds))
            inferred[f"inference_{size}"] = statistics.median(ours)
            if python:
                inferred[f"torch_inference_{size}"] = statistics.median(theirs)
                inferred[f"ratio_inference_{size}"] = _ratio(ours, theirs)
    training = sides[SIZE]
    fastest = max((speed for key, speed in inferred.items() if key.startswith("inference_")), default=3 * training)
    row = {
        "architecture": name,
        "compute_dtype": described.compute_dtype,
        "batch_size": batch_size,
        "training": training,
        "training_min": min(trained),
        "training_max": max(trained),
        **inferred,
        "overhead": statistics.median(overhead),
        "gflop_per_image": described.flops / 1e9,
        "gflops": described.step_flops * training / 1e9,
        "peak_mb": memory / 1e6,
        "parameters": described.parameters,
        "hours": _hours(recipe, sides, fastest),
        "device": described.device,
    }
    if benchmark.torch:
        row["torch"] = statistics.median(torch) if torch else float("nan")
        row["ratio"] = _ratio(trained, torch) if torch else float("nan")
    logger.info("%s, %s: %.0f training images/s", name, described.compute_dtype, training)
    return row


def _ratio(ours: list[float], theirs: list[float]) -> float:
    """Return the median of the ratios of measurements that were made in turn."""
    return statistics.median(mine / other for mine, other in zip(ours, theirs, strict=True))


def _hours(recipe: Recipe, training: dict[int, float], inference: float) -> float:
    """Return the hours of a recipe, with validation; the epochs of a head take seconds.

    Args:
        recipe: whatever takes time in it.
        training: images per second, by their side in pixels.
        inference: images per second.
    """
    from cifar10.pipelines.benchmark.throughput import TRAIN_IMAGES, VAL_IMAGES

    train, val = recipe.examples or TRAIN_IMAGES, VAL_IMAGES
    if recipe.train_on == "all":
        train, val = recipe.examples or TRAIN_IMAGES + VAL_IMAGES, 0
    seconds = sum(train / training[side] + val / inference for side in recipe.sides)
    if isinstance(recipe, TransferRecipe):
        if (
            recipe.cache_gb
        ):  # the speeds of training are those of the trained layers, through which validation goes, too
            seconds = recipe.epochs * (train + val / 3) / training[SIZE]
        features = (recipe.copies * train + val) / inference
        seconds = features + (seconds if recipe.unfreeze else 0.0)
    return seconds / 3600
