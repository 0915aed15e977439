"""Fit one architecture by its recipe, and keep the epoch with the best validation accuracy."""

import logging
import math
from collections.abc import Callable
from typing import Any, Literal

import keras
import pandas as pd

from cifar10.architectures import build
from cifar10.compute import parallel
from cifar10.compute.batches import one_hot
from cifar10.compute.device import choose_compute_dtype, cores, describe, has_gpu, set_deterministic, uses_xla
from cifar10.compute.portable import OLDEST_KERAS
from cifar10.compute.provenance import provenance, sources
from cifar10.contracts import (
    Epoch,
    Examples,
    LayerSummary,
    Phase,
    Record,
    Statistics,
    TrainedModel,
    check_labels,
    verify,
)
from cifar10.errors import InputError
from cifar10.training.accelerate import accelerate, copy_back
from cifar10.training.augmentation import Augmentation, flip_half, make_mixing
from cifar10.training.checkpoint import Checkpoint, Checkpoints, FollowedCheckpoints
from cifar10.training.cost import recipe_seconds
from cifar10.training.identity import fingerprint, identify
from cifar10.training.model import TrainingModel
from cifar10.training.phase import optimise
from cifar10.training.progress import Progress
from cifar10.training.recipe import Recipe, TransferRecipe, check_optimizer
from cifar10.training.subset import training_images
from cifar10.training.transfer import train_backbone

logger = logging.getLogger(__name__)


def fit(
    name: str,
    train: Examples,
    val: Examples,
    statistics: Statistics,
    class_names: list[str],
    recipe: Recipe,
    checkpoints: Checkpoints,
    report: Callable[[Epoch], None] = lambda row: None,
    devices: Literal["one", "all"] = "one",
) -> tuple[TrainedModel, pd.DataFrame]:
    """Fit, and restore the epoch with the best validation accuracy.

    An interrupted training resumes after its last complete epoch, with the same result as an uninterrupted one. Its
    checkpoints are left for whoever saves the model to clear.

    Args:
        name: the architecture.
        train: the train split.
        val: the val split, which chooses the epoch (and, with `schedule: plateau`, the learning rate).
        statistics: of `train`, and the version of the data.
        class_names: in the order of the labels.
        recipe: everything else. With `train_on: all` the val split is trained on too, and the last epoch kept.
        checkpoints: of this architecture.
        report: called with each epoch once it is saved, and when a training is resumed, first with those before. What
            it raises ends the training, which can be resumed.
        devices: `all` shares each batch among all devices, with the same result within rounding.

    Returns:
        The trained model, and its history: one row per epoch, with the fields of `Epoch`.

    Raises:
        InputError: the splits are not those of `statistics`, a label has no name, there are fewer examples than the
            recipe asks for, the weights of a backbone are not available, another run trains the same, a checkpoint
            cannot be resumed here, the disk is full, or other processes that are to train together with this one train
            something else.
        RecipeError: the loss is not finite, there is not enough memory, the network refuses the resolutions, or the
            optimizer would destroy pretrained weights.
    """
    check_optimizer(name, recipe)
    verify(statistics.digests, train=train, val=val)
    for kind, examples in (("training", train), ("validation", val)):
        check_labels(examples, kind, class_names)
    train, val = training_images(name, train, val, train_on=recipe.train_on, examples=recipe.examples, seed=recipe.seed)
    set_deterministic(recipe.deterministic)
    keras.utils.set_random_seed(recipe.seed)
    network = build(name, len(class_names), statistics, **recipe.builder_options())
    identity = identify(name, recipe, statistics.data_version, class_names, fingerprint(network))
    if not parallel.is_first():
        checkpoints = FollowedCheckpoints(checkpoints.folder)
    with checkpoints.lock(identity), parallel.on_devices(devices):  # the network itself stays on one
        checkpoint = checkpoints.latest(identity)
        facts = _facts(name, recipe, checkpoint)
        epochs = len(checkpoint.facts["history"]) if checkpoint else 0
        parallel.check_same(code=sources(), training=identity, epochs=epochs, compute_dtype=facts["compute_dtype"])
        _announce(network, recipe, len(train), facts["compute_dtype"])

        progress = Progress(
            accelerate(network, facts["compute_dtype"], recipe.accumulate), checkpoints, identity, facts, report
        )
        if checkpoint:
            progress.resume(checkpoint)
        for row in progress.history:
            report(row)
        try:
            _run_phases(train, val, statistics, len(class_names), recipe, progress)
        except KeyboardInterrupt as error:
            raise KeyboardInterrupt(_interruption(progress)) from error
        copy_back(network, progress.network)

        trained = _with_softmax(network)
        record = _record(trained, recipe, statistics, progress, train)
        _log_result(record)
        return TrainedModel(record, lambda: trained), pd.DataFrame(progress.history)


def _facts(name: str, recipe: Recipe, checkpoint: Checkpoint | None) -> dict[str, Any]:
    """Return compute dtype and provenance: those of the run that is resumed, else those of this one.

    Read before the training, because the code may be edited while it runs.
    """
    facts: dict[str, Any] = {
        "compute_dtype": choose_compute_dtype(recipe.compute_dtype, recipe.cpu_compute_dtype),
        "provenance": provenance(),
    }
    if checkpoint is None:
        return facts
    before = {key: checkpoint.facts[key] for key in facts}
    if before["compute_dtype"] == "bfloat16" != choose_compute_dtype(recipe.compute_dtype, "bfloat16"):
        raise InputError(
            f"{name}: its checkpoint was computed in bfloat16, for which this processor has no instructions: resume it "
            f"on one that has, or start from scratch with --params={name}.compute_dtype=float32."
        )
    if before["provenance"] != facts["provenance"]:
        logger.warning(
            "%s: its checkpoint was created by another version of the code or on another machine; the record will name "
            "the version and machine that started the training",
            name,
        )
    return before


def _announce(network: keras.Model, recipe: Recipe, images: int, compute_dtype: str) -> None:
    """Log what is trained on what; without a GPU, also roughly how long it will take."""
    name = network.name
    logger.info("%s: on %s", name, describe(compute_dtype))
    if not has_gpu():
        logger.info(
            "%s: no GPU found: on this CPU, the recipe takes %s if nothing else runs "
            "(kedro run --pipelines=benchmark measures it)",
            name,
            _duration(recipe_seconds(network, recipe, images, compute_dtype, cores())),
        )
    if uses_xla():
        when = "at each resolution" if recipe.resolutions else "in training"
        logger.info("%s: XLA compiles before the first steps %s, which can take minutes", name, when)
    logger.info("%s: %s parameters, %s training images", name, f"{network.count_params():,}", f"{images:,}")
    if recipe.mixup or recipe.cutmix:
        logger.info("%s: two images are mixed into one, of which the train accuracy below counts the first alone", name)


def _duration(seconds: float) -> str:
    """Return a rough duration."""
    if seconds < 45:
        return "less than a minute"
    return f"very roughly {f'{math.ceil(seconds / 60)} min' if seconds < 5400 else f'{seconds / 3600:.0f} h'}"


def _run_phases(
    train: Examples, val: Examples, statistics: Statistics, num_classes: int, recipe: Recipe, progress: Progress
) -> None:
    """Run all phases in turn; the network then has the weights of the best epoch of all."""
    if recipe.flip == "alternating":
        train = Examples(flip_half(train.images, recipe.seed), train.labels)
    augmentation = Augmentation(recipe, fill=statistics.mean)
    if isinstance(recipe, TransferRecipe):
        train_backbone(train, val, augmentation, recipe, progress)
        return
    mixing = make_mixing(recipe)
    model = TrainingModel(
        progress.network,
        train.images,
        val.images,
        augmentation,
        mixing,
        sides=recipe.sides,
        whitening_epochs=_whitening_epochs(recipe, len(train)),
    )
    targets, val_targets = (one_hot(split.labels, num_classes) for split in (train, val))
    optimise(model, targets, val_targets, recipe, progress, phase="training")


def _whitening_epochs(recipe: Recipe, examples: int) -> int | None:
    """Return after how many epochs no gradient of a whitening counts any more; None: it always does."""
    if not recipe.whitening_epochs or recipe.gradient_clip:  # the norm that is clipped is that of all gradients
        return None
    batches = recipe.whitening_epochs * math.ceil(examples / recipe.batch_size)
    return recipe.whitening_epochs if batches >= recipe.accumulate else None  # else the first step comes after them


def _record(
    network: keras.Model, recipe: Recipe, statistics: Statistics, progress: Progress, train: Examples
) -> Record:
    best, history = progress.best, pd.DataFrame(progress.history)
    return Record(
        architecture=network.name,
        class_names=progress.identity["class_names"],
        recipe=recipe.described(),
        recipe_hash=recipe.hash,
        fingerprint=progress.identity["fingerprint"],
        engine_version=progress.identity["engine_version"],
        image_size=recipe.image_size if isinstance(recipe, TransferRecipe) else network.input_shape[1],
        training_examples=len(train),
        training_digest=train.digest,
        data_version=statistics.data_version,
        digests=statistics.digests,
        parameters=network.count_params(),
        epochs=len(history),
        best_epoch=best["epoch"],
        val_accuracy=best["val_accuracy"],
        training_seconds=round(float(history.seconds.sum()), 1),
        training_joules=float(history.joules.sum()) if history.joules.notna().all() else None,
        phases={
            str(phase): Phase(
                epochs=len(rows),
                val_accuracy=None if best["val_accuracy"] is None else rows.val_accuracy.max(),
                seconds=round(float(rows.seconds.sum()), 1),
            )
            for phase, rows in history.groupby("phase", sort=False)
        },
        initial_weights=progress.identity["initial_weights"],
        compute_dtype=progress.facts["compute_dtype"],
        **progress.facts["provenance"],
        oldest_keras=OLDEST_KERAS,
        layers=_layers(network, progress.network),
        history=progress.history,
    )


def _layers(network: keras.Model, trained: keras.Model) -> list[LayerSummary]:
    """Return one row per layer of the network, which has forgotten what `trained` knows: which weights were trained."""
    trained_weights = {
        layer.name: sum(math.prod(weight.shape) for weight in layer.trainable_weights) for layer in trained.layers
    }
    return [
        LayerSummary(
            layer=layer.name,
            type=type(layer).__name__,
            output_shape="x".join(str(size) for size in layer.output.shape[1:]),
            parameters=layer.count_params(),
            trained=trained_weights.get(layer.name, 0),
        )
        for layer in network.layers
    ]


def _interruption(progress: Progress) -> str:
    """Say what an interruption leaves."""
    name, epochs = progress.network.name, progress.saved
    if not epochs:
        return f"{name} was interrupted in its first epoch, with which the same command begins again."
    return f"{name} was interrupted after epoch {epochs}, from which the same command resumes."


def _log_result(record: Record) -> None:
    val = ", the last one" if record.val_accuracy is None else f" with validation accuracy {record.val_accuracy:.2%}"
    if record.compute_dtype == "bfloat16":
        val += " (computed in bfloat16; evaluation does it again in float32)"
    logger.info(
        "%s: kept epoch %d of %d%s; trained for %.0f s",
        record.architecture,
        record.best_epoch,
        record.epochs,
        val,
        record.training_seconds,
    )


def _with_softmax(network: keras.Model) -> keras.Model:
    """Return the network for its users: raw images in, probabilities out."""
    probabilities = keras.layers.Softmax(name="probabilities")(network.outputs[0])
    return keras.Model(network.inputs[0], probabilities, name=network.name)
