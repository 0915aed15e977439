"""Find the exports in a folder, and keep the newest of them loaded, or of those of one name."""

import logging
import re
import threading
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import onnxruntime
from pydantic import AwareDatetime, BaseModel, Field, ValidationError

from cifar10.errors import InputError
from cifar10.images import IMAGE_SIZE
from cifar10.metrics import apply_temperature

logger = logging.getLogger(__name__)

INPUT_NAME = "images"
OUTPUT_NAME = "probabilities"
ONNX_FILE = "model.onnx"
CARD_FILE = "model_card.json"
SAMPLES = "samples"
VERSION = re.compile(r"[1-9][0-9]{0,17}")
Fraction = Annotated[float, Field(ge=0, le=1)]


class CardMetrics(BaseModel):
    """The test accuracy of the model, with its 95% confidence interval."""

    accuracy: Fraction
    accuracy_low: Fraction
    accuracy_high: Fraction
    test_examples: int


class Card(BaseModel):
    """The fields of model_card.json that the service uses."""

    name: str
    model_version: str | None = None
    exported_at: AwareDatetime
    class_names: Annotated[list[str], Field(min_length=2)]
    temperature: Annotated[float, Field(gt=0)]
    unsure_below: Fraction
    unsure_share: Fraction
    metrics: CardMetrics
    parameters: int


@dataclass(frozen=True)
class Model:
    """An export loaded into memory; its files are not read again."""

    name: str
    version: int
    card: Card
    samples: dict[int, bytes]  # class index -> PNG file
    session: onnxruntime.InferenceSession

    def probabilities(self, images: np.ndarray) -> np.ndarray:
        """Run the network and return its uncalibrated probabilities.

        Args:
            images: values 0 to 255, shape (n, 32, 32, 3).

        Returns:
            float32 array of shape (n, classes).
        """
        return self.session.run([OUTPUT_NAME], {INPUT_NAME: np.ascontiguousarray(images, np.float32)})[0]

    def calibrated_probabilities(self, images: np.ndarray) -> np.ndarray:
        """Return the probabilities calibrated by temperature scaling, float64."""
        return apply_temperature(self.probabilities(images), self.card.temperature)


@dataclass(frozen=True)
class _Export:
    """An export folder. Two are equal only if their files have the same modification times and sizes."""

    folder: Path
    file_stats: tuple[int, ...]  # of the card, the network, and the samples

    @property
    def name(self) -> str:
        return self.folder.parent.name

    @property
    def version(self) -> int:
        return int(self.folder.name)


class Repository:
    """Keeps the newest export of a folder loaded in `model`, which is None until an export is found.

    Of each name, the highest version counts, whatever its export time, which a wrong clock may have written. The newest
    export is the one of these with the latest export time. If it is deleted, the next newest is loaded. An export that
    cannot be loaded is logged once and skipped until its files change.

    Args:
        folder: contains the exports as `<name>/<version>`.
        choice: the exports to choose from: NAME or NAME:VERSION; None for all.
        threads: ONNX Runtime threads per prediction.
        max_images: the largest batch size; it is used to check a new export and warm it up.
    """

    def __init__(self, folder: Path, choice: str | None = None, *, threads: int = 1, max_images: int = 1) -> None:
        self.folder = folder
        name, _, version = (choice or "*").partition(":")
        self._pattern = f"{name}/{version or '*'}"
        self.model: Model | None = None
        self._threads = threads
        self._max_images = max_images
        self._cards: dict[_Export, Card] = {}
        self._broken: set[_Export] = set()
        self._served: _Export | None = None
        self._last_error = ""
        self._is_absence_logged = False
        self._stopped = threading.Event()

    def refresh(self) -> None:
        """Scan the folder once, and load the newest export unless it is loaded already."""
        exports = set(self._find_exports(self._pattern))
        self._broken &= exports
        self._cards = {export: card for export, card in self._cards.items() if export in exports}
        for export in exports - self._cards.keys() - self._broken:
            try:
                self._cards[export] = _read_card(export)
            except Exception as error:
                self._skip(export, error)
        if not exports and self.model is None and not self._is_absence_logged:
            self._is_absence_logged = True
            logger.warning("%s", self._describe_absence())
        while (newest := self._newest()) and newest != self._served:
            try:
                self.model = self._load(newest, self._cards[newest])
            except Exception as error:  # any fault of a new export must leave the served model in place
                self._skip(newest, error)
            else:
                self._served = newest
                logger.info("Serving %s, version %d.", newest.name, newest.version)

    def watch(self, interval_seconds: float = 1.0) -> None:
        """Scan the folder now, and then periodically in a background thread until `stop` is called."""

        def scan_periodically() -> None:
            while not self._stopped.wait(interval_seconds):
                self._try_refresh()

        self._try_refresh()
        threading.Thread(target=scan_periodically, name="repository", daemon=True).start()

    def stop(self) -> None:
        """Stop watching the folder."""
        self._stopped.set()

    def _try_refresh(self) -> None:
        """Refresh, and log a failure once, because its cause (such as missing permissions) may be temporary."""
        try:
            self.refresh()
            self._last_error = ""
        except Exception as error:
            if str(error) != self._last_error:
                self._last_error = str(error)
                logger.exception("Cannot scan %s for exports; the service keeps trying.", self.folder)

    def _newest(self) -> _Export | None:
        """Return the newest export that is not known to be broken."""
        highest: dict[str, _Export] = {}
        for export in sorted(self._cards.keys() - self._broken, key=lambda each: each.version):
            highest[export.name] = export
        return max(highest.values(), key=lambda each: (self._cards[each].exported_at, each.version), default=None)

    def _find_exports(self, pattern: str) -> Iterator[_Export]:
        for card in sorted(self.folder.glob(f"{pattern}/{CARD_FILE}")):
            if VERSION.fullmatch(card.parent.name):
                yield _Export(card.parent, _stats(card.parent))

    def _describe_absence(self) -> str:
        """Say that the export is not there, and what could be served instead."""
        where = self._pattern.replace("*/", "NAME/").replace("/*", "/VERSION")
        message = f"No model to serve yet: there is no {where}/{CARD_FILE} in {self.folder}."
        for pattern in (CARD_FILE, f"*/{CARD_FILE}", f"*/*/*/{CARD_FILE}"):
            for card in self.folder.resolve().glob(pattern):
                if VERSION.fullmatch(card.parent.name):
                    return (
                        f"{message} {card.parent} is an export: stop the service, and pass --models {card.parents[2]}"
                    )
        others = ", ".join(f"{each.name}:{each.version}" for each in self._find_exports("*/*"))
        return f"{message} It has {others}." if others else f"{message} The service keeps looking."

    def _skip(self, export: _Export, error: Exception) -> None:
        self._broken.add(export)
        logger.error("Skipping the invalid or incomplete export %s: %s", export.folder, _describe(error))

    def _load(self, export: _Export, card: Card) -> Model:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = self._threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 4  # fatal only; errors are raised as exceptions too
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        session = onnxruntime.InferenceSession(export.folder / ONNX_FILE, options, providers=["CPUExecutionProvider"])
        samples = {
            index: file.read_bytes()
            for index in range(len(card.class_names))
            if (file := export.folder / SAMPLES / f"{index}.png").is_file()
        }
        model = Model(export.name, export.version, card, samples, session)
        _check_model(model, self._max_images)
        return model


def _stats(folder: Path) -> tuple[int, ...]:
    """Return numbers that change with the files of an export that the service reads, and with their permissions."""
    samples = folder / SAMPLES
    paths = [folder / CARD_FILE, folder / ONNX_FILE, samples]
    with suppress(OSError):  # here and below: what is not there yet, or not any more, or may not be read
        paths += sorted(samples.iterdir())
    values: list[int] = []
    for path in paths:
        with suppress(OSError):
            stat = path.stat()
            values += (stat.st_mtime_ns, stat.st_ctime_ns, stat.st_size)
    return tuple(values)


def _read_card(export: _Export) -> Card:
    card = Card.model_validate_json((export.folder / CARD_FILE).read_bytes())
    if card.name != export.name:
        raise InputError(f"{CARD_FILE} belongs to the model {card.name}.")
    return card


def _check_model(model: Model, max_images: int) -> None:
    """Check the input, the output and the probabilities for the smallest and the largest batch, as a warm-up too."""
    inputs = [each.name for each in model.session.get_inputs()]
    outputs = [each.name for each in model.session.get_outputs()]
    if (inputs, outputs) != ([INPUT_NAME], [OUTPUT_NAME]):
        raise InputError(
            f"the network's inputs and outputs are {inputs} and {outputs}, not [{INPUT_NAME!r}] and [{OUTPUT_NAME!r}]."
        )
    classes = len(model.card.class_names)
    for count in {max_images, 1}:
        probabilities = model.probabilities(np.full((count, IMAGE_SIZE, IMAGE_SIZE, 3), 128.0))
        if probabilities.shape != (count, classes) or not np.allclose(probabilities.sum(axis=1), 1, atol=1e-3):
            raise InputError(f"the network does not return probabilities of {classes} classes.")


def _describe(error: Exception) -> str:
    if isinstance(error, ValidationError):
        first = error.errors(include_url=False)[0]
        field = ".".join(map(str, first["loc"]))
        return f"{CARD_FILE} is invalid{f' at {field}' if field else ''}: {first['msg']}."
    return str(error)
