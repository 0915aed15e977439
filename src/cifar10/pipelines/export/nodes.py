"""Convert a model, hold every format against it, describe it, and pack all that for servers and devices."""

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
from PIL import Image
from pydantic import BaseModel, ConfigDict, Field

from cifar10.contracts import Examples, Export, TrainedModel, verify
from cifar10.datasets.model import Models
from cifar10.errors import InputError
from cifar10.metrics import accuracy, tempered
from cifar10.pipelines.winner import WinnerOrKnown, choose

logger = logging.getLogger(__name__)

MOST_DIFFERENCE = 1e-4  # in any probability, between a float format and the Keras model
MOST_LOSS = 0.01  # of accuracy, that integers may cost
REPRESENTATIVE = 200  # training pictures, from which the ranges of integers are taken
BATCH = 32  # pictures, of which the latency is measured beside that of one
UNSURE_SHARE = 0.05  # of the validation pictures, whose best probability is below `unsure_below`
NEEDLESS = ("history", "classes", "confusion", "reliability", "calibrated_reliability", "recipe", "versions")
COLUMNS = ["format", "file", "megabytes", "latency_1_ms", f"latency_{BATCH}_ms", "max_difference", "val_accuracy",
           "val_pictures", "shipped"]  # fmt: skip


class ExportOptions(BaseModel):
    """What to export, and how to look at it. The values live in `conf/base/parameters.yml`, which explains them."""

    model_config = ConfigDict(extra="forbid", strict=True)

    architecture: WinnerOrKnown
    pictures: Annotated[int, Field(ge=1000)]  # on fewer, a point of accuracy is a matter of luck


def choose_for_export(
    models: Models, leaderboard: pd.DataFrame | None, evaluations: list[dict[str, Any]], export: ExportOptions
) -> tuple[TrainedModel, dict[str, Any]]:
    """The winner or the architecture that is asked for, and its evaluation.

    Raises:
        InputError: there is no such model, or this version of it has not been evaluated.
    """
    trained = choose(models, leaderboard, export.architecture, "export.architecture")
    name, version = trained.record["architecture"], trained.record["version"]
    for metrics in evaluations:
        if (metrics["architecture"], metrics["model_version"]) == (name, version):
            logger.info("%s, version %s, is exported", name, version)
            return trained, metrics
    raise InputError(
        f"{name}, version {version}, has not been evaluated, so nothing could be said about it in its model card. Run "
        "kedro run --pipelines=evaluation,reporting first (with the same --env and --params)."
    )


def convert_model(trained: TrainedModel, train: Examples) -> dict[str, dict[str, bytes]]:
    """The model in every format: of each its files."""
    from cifar10.pipelines.export.formats import convert

    verify(trained.record["digests"], train=train)
    chosen = np.random.default_rng(0).permutation(len(train.labels))[:REPRESENTATIVE]
    return convert(trained.network, train.images[np.sort(chosen)])


def compare_formats(
    trained: TrainedModel, formats: dict[str, dict[str, bytes]], val: Examples, export: ExportOptions
) -> tuple[pd.DataFrame, np.ndarray]:
    """Hold each format against the Keras model, on validation pictures, and time it on this machine.

    Returns:
        A row a format: its file, its size, the milliseconds that an answer takes (median, one picture and 32), the
        largest difference of a probability, the accuracy on so many pictures, and whether it ships: integers do not
        if they cost more than a point. And the Keras model's probabilities on those pictures.

    Raises:
        InputError: a float format answers differently.
    """
    from cifar10.compute.inference import median_seconds, probabilities
    from cifar10.pipelines.export.formats import FORMATS, KERAS, LITERT_INT8, runner

    verify(trained.record["digests"], val=val)
    count = min(export.pictures, len(val.labels))
    images, labels = val.images[:count], val.labels[:count]
    expected = probabilities(trained.network, images, trained.record["image_size"])

    def milliseconds(answer: Callable[[np.ndarray], np.ndarray], pictures: int) -> float:
        return 1000 * median_seconds(lambda: answer(images[:pictures]))

    rows = []
    for kind, file in FORMATS.items():
        answer = runner(kind, formats[kind])
        answers = np.concatenate([answer(images[at : at + BATCH]) for at in range(0, count, BATCH)])
        difference = float(abs(answers - expected).max())
        if kind not in (KERAS, LITERT_INT8) and not difference <= MOST_DIFFERENCE:  # which NaN is not, either
            raise InputError(
                f"{trained.record['architecture']} as {kind} differs from the Keras model by up to {difference:.2g} in "
                f"a probability, where {MOST_DIFFERENCE:g} is allowed. Nothing was exported. This is a fault of the "
                "conversion: please report it with the versions of your packages (pip freeze)."
            )
        rows.append(
            (kind, file, sum(map(len, formats[kind].values())) / 1e6, milliseconds(answer, 1),
             milliseconds(answer, BATCH), difference, accuracy(labels, answers), count, True)
        )  # fmt: skip
        logger.info(
            "%s: %.1f MB, %.2f ms a picture, %.2g at most from Keras", kind, rows[-1][2], rows[-1][3], difference
        )
    table = pd.DataFrame(rows, columns=COLUMNS)
    integers = table.format == LITERT_INT8
    loss = accuracy(labels, expected) - float(table.val_accuracy[integers].iloc[0])
    if round(loss, 6) > MOST_LOSS:  # two of 200 are a point, whatever floats make of it
        table.loc[integers, "shipped"] = False
        logger.warning(
            "Integers cost %.1f points of accuracy on %s validation pictures, so %s is left out; the rest ships",
            100 * loss, f"{count:,}", FORMATS[LITERT_INT8],
        )  # fmt: skip
    return table, expected


def describe_model(
    trained: TrainedModel,
    metrics: dict[str, Any],
    formats: pd.DataFrame,
    answers: np.ndarray,
    class_names: list[str],
    data_description: str,
) -> tuple[dict[str, Any], str]:
    """The model card, for machines and, in Markdown, for people; `answers` are to validation pictures."""
    from cifar10.compute.device import hardware
    from cifar10.pipelines.export.formats import INPUT, OUTPUT
    from cifar10.pipelines.reporting.architectures import describe

    record = trained.record
    temperature = metrics["temperature"] or 1.0  # none is fitted where the validation pictures were trained on
    sure = tempered(answers, temperature).max(axis=1)
    card = {
        "name": record["architecture"],
        "description": describe(record["architecture"]),
        "model_version": record["version"],
        "exported_at": datetime.now(UTC).isoformat(),
        "class_names": class_names,
        "input": {"name": INPUT, "shape": [None, 32, 32, 3], "dtype": "float32", "pixels": "RGB, 0 to 255"},
        "output": {"name": OUTPUT, "shape": [None, len(class_names)], "dtype": "float32"},
        "temperature": temperature,
        "unsure_below": float(np.quantile(sure, UNSURE_SHARE)),
        "unsure_share": UNSURE_SHARE,
        "data": data_description,
        "training_pictures": record["training_pictures"],
        "parameters": record["parameters"],
        "metrics": {name: value for name, value in metrics.items() if name not in NEEDLESS},
        "recall": {name: each["recall"] for name, each in metrics["classes"].items()},
        "limits": _limits(metrics, class_names),
        "formats": formats.to_dict("records"),
        "measured_on": hardware(),
        "recipe": metrics["recipe"],
        "versions": metrics["versions"],
        "licence": _licence(record),
    }
    source = importlib.resources.files("cifar10.pipelines.export").joinpath("model_card.md.jinja").read_text("utf-8")
    environment = jinja2.Environment(trim_blocks=True, lstrip_blocks=True, autoescape=False, keep_trailing_newline=True)  # noqa: S701  Markdown
    text = environment.from_string(source).render(card=card, metrics=metrics, batch=BATCH, most_loss=MOST_LOSS)
    return card, text


def _limits(metrics: dict[str, Any], class_names: list[str]) -> list[str]:
    """What it does badly, in sentences."""
    recall = {name: each["recall"] for name, each in metrics["classes"].items()}
    worst = min(recall, key=lambda name: recall[name])
    sentences = [
        f"It knows {len(class_names)} classes and always names one of them, whatever the picture shows.",
        "It sees the middle square of a picture at 32x32 pixels; what cannot be told at that size, it cannot tell.",
        f"It is worst at {worst}: of those it recognises {recall[worst]:.1%}.",
    ]
    wrong = np.array(metrics["confusion"])
    np.fill_diagonal(wrong, 0)
    if wrong.any():
        true, taken = np.unravel_index(wrong.argmax(), wrong.shape)
        sentences.append(
            f"Its most frequent mistake is to take {class_names[true]} for {class_names[taken]}: "
            f"{wrong[true, taken]} of {metrics['test_pictures']:,} test pictures."
        )
    if metrics["train_on"] != "train":
        sentences.append("It was trained on the validation pictures too, so its confidence is not calibrated.")
    return sentences


def _licence(record: dict[str, Any]) -> str:
    theirs = (
        "pictures" if record["initialisation"] == "random" else "ImageNet weights that it started from and the pictures"
    )
    return (
        f"The project that made it is under the MIT licence. The {theirs} keep the terms of those who published them."
    )


def pack(
    trained: TrainedModel,
    formats: dict[str, dict[str, bytes]],
    table: pd.DataFrame,
    card: dict[str, Any],
    text: str,
    val: Examples,
) -> Export:
    """All that ships, with a validation picture of each class to try it on."""
    files: dict[str, bytes] = {}
    for kind in table.format[table.shipped]:
        files.update(formats[kind])
    names = card["class_names"]
    files["model_card.json"] = json.dumps(card, indent=2).encode()
    files["model_card.md"] = text.encode()
    files["class_names.txt"] = "".join(f"{name}\n" for name in names).encode()
    for label in range(len(names)):
        places = np.flatnonzero(val.labels == label)
        if len(places):
            picture = io.BytesIO()
            Image.fromarray(val.images[places[0]]).save(picture, "PNG")
            files[f"samples/{label}.png"] = picture.getvalue()
    config = TRITON.format(input=card["input"]["name"], output=card["output"]["name"], classes=len(names))
    return Export(trained.record["architecture"], files, config)


TRITON = """\
# For Triton; TF Serving needs none.
backend: "onnxruntime"
max_batch_size: 64
input [ {{ name: "{input}" data_type: TYPE_FP32 dims: [ 32, 32, 3 ] }} ]
output [ {{ name: "{output}" data_type: TYPE_FP32 dims: [ {classes} ] }} ]
"""
