"""Convert a model to other formats, compare them with it, and pack them with a model card."""

import importlib.resources
import io
import json
import logging
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Annotated, Any

import jinja2
import numpy as np
import pandas as pd
import yaml
from PIL import Image
from pydantic import BaseModel, ConfigDict, Field

from cifar10.architectures.descriptions import describe
from cifar10.confidence import UNSURE_SHARE, describe_unsure, unsure_threshold
from cifar10.contracts import (
    NESTED_METRICS,
    Evaluation,
    Evaluations,
    Examples,
    Export,
    Metrics,
    Record,
    Statistics,
    TrainedModel,
    verify,
)
from cifar10.datasets.arrays import PredictionStore
from cifar10.datasets.model import Models
from cifar10.errors import InputError
from cifar10.metrics import accuracy
from cifar10.pipelines.selection import WinnerOrKnown, choose, ranked_rows

logger = logging.getLogger(__name__)

MAX_DIFFERENCE = 1e-4  # of any probability between a float format and the Keras model
MAX_ACCURACY_LOSS = 0.01  # of the int8 format
REPRESENTATIVE = 200  # training images, from which the int8 ranges are taken
BATCH = 32  # images, whose latency is measured beside that of one
MAX_MISTAKES = 3  # equally frequent ones that the card names
COLUMNS = ["format", "file", "megabytes", "latency_1_ms", f"latency_{BATCH}_ms", "max_difference", "val_accuracy",
           "val_images", "shipped"]  # fmt: skip


class ExportOptions(BaseModel):
    """Parameters of this pipeline; `conf/base/parameters.yml` has their values and explains them."""

    model_config = ConfigDict(extra="forbid", strict=True)

    architecture: WinnerOrKnown
    images: Annotated[int, Field(ge=1000)]  # on fewer, a point of accuracy would be a matter of chance


def choose_for_export(
    models: Models,
    leaderboard: pd.DataFrame | None,
    evaluations: Evaluations,
    predictions: PredictionStore,
    statistics: Statistics,
    class_names: list[str],
    export: dict[str, Any],
) -> tuple[TrainedModel, Evaluation, np.ndarray]:
    """Return the winner, or the architecture that is asked for, its evaluation, and its probabilities on the val split.

    Raises:
        InputError: there is no such model, its class names are not the current ones, it is not in the latest
            evaluation, the leaderboard is not that of this evaluation (unless a version is asked for), or the
            predictions of the model are missing.
    """
    options = ExportOptions.model_validate(export)
    stale = any(row["evaluations"] != evaluations.digest for row in ranked_rows(leaderboard))
    if stale and ":" not in options.architecture:  # a version is the same, whatever is best
        raise InputError(
            "The leaderboard is not of the latest evaluation, so it may have another winner. Create it again: "
            "kedro run --pipelines=reporting (with the same --env and --params)"
        )
    model = choose(models, leaderboard, statistics, class_names, options.architecture, "export.architecture")
    if evaluation := evaluations.find(model.identity):
        return model, evaluation, predictions.load(evaluation).val
    raise InputError(
        f"{model.record.architecture}, version {model.version}, is not in the latest evaluation, so its model card "
        "would have no metrics. Run kedro run --pipelines=evaluation,reporting first (with the same --env and "
        "--params; an older version of the same recipe and seed needs --params=evaluate_versions=all, too)."
    )


def convert_model(model: TrainedModel, train: Examples) -> dict[str, dict[str, bytes]]:
    """Return the files of the model in every format."""
    from cifar10.pipelines.export.formats import FORMATS, convert

    verify(model.record.digests, train=train)
    chosen = np.random.default_rng(0).permutation(len(train))[:REPRESENTATIVE]
    name = model.record.architecture
    logger.info("%s: converting to %s, which can take minutes", name, ", ".join(FORMATS))
    return convert(model.load_network(), train.images[np.sort(chosen)])


def compare_formats(
    model: TrainedModel, formats: dict[str, dict[str, bytes]], val: Examples, export: dict[str, Any]
) -> pd.DataFrame:
    """Compare each format with the Keras model on validation images, and measure its latency on this machine.

    Returns:
        One row per format: its file, its size, its latency (median, for batches of 1 and 32 images), the largest
        difference of a probability, its accuracy, the number of images, and whether it is shipped: int8 is not if it
        loses more than a point of accuracy.

    Raises:
        InputError: the predictions of a float format differ.
    """
    from cifar10.compute.inference import infer, median_seconds
    from cifar10.compute.live import live
    from cifar10.pipelines.export.formats import FORMATS, KERAS, LITERT_INT8, runner

    verify(model.record.digests, val=val)
    count = min(ExportOptions.model_validate(export).images, len(val))
    images, labels = val.images[:count], val.labels[:count]
    expected = infer(model.load_network(), images, model.record.image_size)

    def milliseconds(predict: Callable[[np.ndarray], np.ndarray], batch: int) -> float:
        return 1000 * median_seconds(lambda: predict(images[:batch]))

    rows = []
    for kind, file in FORMATS.items():
        predict = runner(kind, formats[kind])
        batches: list[np.ndarray] = []
        with live(f"{model.record.architecture}, predicting with {kind}", count) as show:
            for at in range(0, count, BATCH):
                batches.append(predict(images[at : at + BATCH]))
                show(min(at + BATCH, count), "")
        predicted = np.concatenate(batches)
        difference = float(abs(predicted - expected).max())
        if kind not in (KERAS, LITERT_INT8) and not difference <= MAX_DIFFERENCE:  # also refuses NaN
            raise InputError(
                f"{model.record.architecture} as {kind} differs from the Keras model by up to {difference:.2g} in a "
                f"probability, where {MAX_DIFFERENCE:g} is allowed. Nothing was exported. This is an error of the "
                "conversion: please report it with the versions of your packages (pip freeze)."
            )
        rows.append(
            (kind, file, sum(map(len, formats[kind].values())) / 1e6, milliseconds(predict, 1),
             milliseconds(predict, BATCH), difference, accuracy(labels, predicted), count, True)
        )  # fmt: skip
        logger.info(
            "%s: %.1f MB, latency %.2f ms%s",
            kind,
            *rows[-1][2:4],
            "" if kind == KERAS else f", probabilities differ from Keras's by at most {difference:.2g}",
        )
    table = pd.DataFrame(rows, columns=COLUMNS)
    int8 = table.format == LITERT_INT8
    loss = accuracy(labels, expected) - float(table.val_accuracy[int8].iloc[0])
    if round(loss, 6) > MAX_ACCURACY_LOSS:  # rounded, because 2 of 200 are exactly a point, but not in floats
        table.loc[int8, "shipped"] = False
        logger.warning(
            "int8 loses %.1f points of accuracy on %s validation images, so %s is left out; all other formats are "
            "exported",
            100 * loss, f"{count:,}", FORMATS[LITERT_INT8],
        )  # fmt: skip
    return table


def describe_model(
    model: TrainedModel,
    evaluation: Evaluation,
    formats: pd.DataFrame,
    probabilities: np.ndarray,
    data_description: str,
    hub_dataset: str | None,
) -> tuple[dict[str, Any], str]:
    """Return the model card as JSON values and as Markdown; `probabilities` are those on the val split.

    The Markdown begins with the metadata that the Hugging Face Hub reads.
    """
    from cifar10.compute.device import hardware
    from cifar10.pipelines.export.formats import INPUT, OUTPUT

    record, scores = model.record, evaluation.metrics
    temperature = scores.temperature or 1.0  # none is fitted if the model was trained on the val split
    recall = {name: each["recall"] for name, each in scores.classes.items()}
    card = {
        "name": record.architecture,
        "description": describe(record.architecture),
        "model_version": model.version,
        "identity": model.identity,
        "exported_at": datetime.now(UTC).isoformat(),
        "class_names": record.class_names,
        "input": {"name": INPUT, "shape": [None, 32, 32, 3], "dtype": "float32", "pixels": "RGB, 0 to 255"},
        "output": {"name": OUTPUT, "shape": [None, len(record.class_names)], "dtype": "float32"},
        "temperature": temperature,
        "unsure_below": unsure_threshold(probabilities, temperature),
        "unsure_share": UNSURE_SHARE,
        "data": data_description,
        "parameters": record.parameters,
        "metrics": scores.model_dump(exclude=NESTED_METRICS),
        "recall": recall,
        "limits": _limits(record, scores, recall),
        "formats": formats.to_dict("records"),
        "measured_on": hardware(),
        "training": record.model_dump(exclude={"history", "layers", "digests"}),
        "licence": _licence(record),
    }
    source = importlib.resources.files("cifar10.pipelines.export").joinpath("model_card.md.jinja").read_text("utf-8")
    environment = jinja2.Environment(trim_blocks=True, lstrip_blocks=True, autoescape=False, keep_trailing_newline=True)  # noqa: S701  Markdown
    text = environment.from_string(source).render(
        card=card,
        record=record,
        scores=scores,
        unsure=describe_unsure(),
        batch=BATCH,
        max_accuracy_loss=MAX_ACCURACY_LOSS,
    )
    return card, f"---\n{yaml.safe_dump(_metadata(record, scores, hub_dataset), sort_keys=False)}---\n\n{text}"


def _metadata(record: Record, scores: Metrics, dataset: str | None) -> dict[str, Any]:
    """Return the metadata of a model card (https://huggingface.co/docs/hub/model-cards).

    They have no licence, because that of the weights is not known, and a result only if the Hub has the data.
    """
    task = "image-classification"
    general = {"library_name": "keras", "pipeline_tag": task, "tags": ["onnx", "tflite"], "metrics": ["accuracy"]}
    if dataset is None:
        return general
    result = {
        "task": {"type": task},
        "dataset": {"type": dataset, "name": dataset, "split": "test"},
        "metrics": [{"type": "accuracy", "name": "Test accuracy", "value": scores.accuracy, "verified": False}],
    }
    return general | {"datasets": [dataset], "model-index": [{"name": record.architecture, "results": [result]}]}


def _limits(record: Record, scores: Metrics, recall: dict[str, float]) -> list[str]:
    """Return what the model does badly, in sentences."""
    class_names = list(recall)
    lowest = min(recall.values())
    worst = [name for name in class_names if recall[name] == lowest]
    sentences = [
        f"It knows {len(class_names)} classes and always predicts one of them, whatever the image shows.",
        "It uses the central square of an image at 32x32 pixels; details that are lost at that size are lost to it.",
        f"Its lowest recall is {lowest:.1%}, for {'every class' if len(worst) == len(recall) else ', '.join(worst)}.",
    ]
    wrong = np.array(scores.confusion)
    np.fill_diagonal(wrong, 0)
    places = np.argwhere(wrong == wrong.max())
    frequent = [f"{class_names[predicted]} for {class_names[true]}" for true, predicted in places]
    if wrong.any() and len(frequent) <= MAX_MISTAKES:
        sentences.append(
            f"Its most frequent mistake{' is' if len(frequent) == 1 else 's are'} to predict {', '.join(frequent)}: "
            f"{wrong.max()} of {scores.test_examples:,} test images{'' if len(frequent) == 1 else ' each'}."
        )
    if record.trained_on_val:
        sentences.append("It was trained on the validation images, too, so its confidence is not calibrated.")
    return sentences


def _licence(record: Record) -> str:
    others = "images" if record.initial_weights == "random" else "initial ImageNet weights and the images"
    return (
        f"The project that produced it is under the MIT licence. The {others} are under the terms of their publishers."
    )


def pack(
    model: TrainedModel,
    formats: dict[str, dict[str, bytes]],
    table: pd.DataFrame,
    card: dict[str, Any],
    text: str,
    val: Examples,
) -> Export:
    """Return everything that is shipped, with one validation image per class to try it on."""
    files: dict[str, bytes] = {}
    for kind in table.format[table.shipped]:
        files.update(formats[kind])
    names = card["class_names"]
    files["model_card.json"] = json.dumps(card, indent=2).encode()
    files["README.md"] = text.encode()
    files["class_names.txt"] = "".join(f"{name}\n" for name in names).encode()
    for label in range(len(names)):
        places = np.flatnonzero(val.labels == label)
        if len(places):
            png = io.BytesIO()
            Image.fromarray(val.images[places[0]]).save(png, "PNG")
            files[f"samples/{label}.png"] = png.getvalue()
    config = TRITON.format(input=card["input"]["name"], output=card["output"]["name"], classes=len(names))
    return Export(model.record.architecture, files, config)


TRITON = """\
# For Triton; TF Serving needs no configuration.
backend: "onnxruntime"
max_batch_size: 64
input [ {{ name: "{input}" data_type: TYPE_FP32 dims: [ 32, 32, 3 ] }} ]
output [ {{ name: "{output}" data_type: TYPE_FP32 dims: [ {classes} ] }} ]
"""
