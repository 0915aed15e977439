"""The exports in a folder, and the newest of them, ready to answer."""

import logging
import re
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import onnxruntime
from pydantic import AwareDatetime, BaseModel, Field, ValidationError

from cifar10.errors import InputError
from cifar10.images import SIDE
from cifar10.metrics import tempered

logger = logging.getLogger(__name__)

INPUT = "images"
OUTPUT = "probabilities"
NETWORK = "model.onnx"
VERSION = re.compile(r"[1-9][0-9]{0,17}")
Share = Annotated[float, Field(ge=0, le=1)]


class Metrics(BaseModel):
    """How good the model was on the test pictures."""

    accuracy: Share
    accuracy_low: Share
    accuracy_high: Share
    test_pictures: int


class Card(BaseModel):
    """What the service reads of a model_card.json; it has more."""

    name: str
    exported_at: AwareDatetime
    class_names: Annotated[list[str], Field(min_length=2)]
    temperature: Annotated[float, Field(gt=0)]
    unsure_below: Share
    unsure_share: Share
    metrics: Metrics
    parameters: int


@dataclass(frozen=True)
class Model:
    """An export in memory: nothing of it is read from the disk again."""

    name: str
    version: int
    card: Card
    samples: dict[int, bytes]  # PNG files by the index of their class
    session: onnxruntime.InferenceSession

    def probabilities(self, images: np.ndarray) -> np.ndarray:
        """Of each class, float32 (n, classes), as the network gives them; `images` are (n, 32, 32, 3) of 0 to 255."""
        return self.session.run([OUTPUT], {INPUT: np.ascontiguousarray(images, np.float32)})[0]

    def calibrated(self, images: np.ndarray) -> np.ndarray:
        """The same by the temperature that was fitted on validation, float64."""
        return tempered(self.probabilities(images), self.card.temperature)


@dataclass(frozen=True)
class _Export:
    folder: Path
    written: tuple[int, ...]  # when its files were, in nanoseconds, and their sizes: what changes is looked at again

    @property
    def name(self) -> str:
        return self.folder.parent.name

    @property
    def version(self) -> int:
        return int(self.folder.name)


class Repository:
    """Keeps the newest export of a folder in `model`, which is None until there is one.

    Newest is what was exported last, of whatever name. When it is taken away, the newest of the others follows. An
    export that cannot be loaded is told once in the log and passed over until it changes.

    Args:
        folder: exports are `<name>/<version>` in it.
        threads: that compute an answer.
        most_pictures: of one call, which the warm-up tries too.
    """

    def __init__(self, folder: Path, threads: int = 1, most_pictures: int = 1) -> None:
        self.folder = folder
        self.model: Model | None = None
        self._threads = threads
        self._most_pictures = most_pictures
        self._cards: dict[_Export, Card] = {}
        self._broken: set[_Export] = set()
        self._serving: _Export | None = None
        self._trouble = ""
        self._stopped = threading.Event()

    def refresh(self) -> None:
        """Look once, and load what is newer."""
        exports = set(self._exports())
        self._broken &= exports
        self._cards = {export: card for export, card in self._cards.items() if export in exports}
        for export in exports - self._cards.keys() - self._broken:
            try:
                self._cards[export] = _card(export)
            except Exception as error:
                self._pass_over(export, error)
        cards = self._cards
        for export in sorted(cards, key=lambda each: (cards[each].exported_at, each.version), reverse=True):
            if export == self._serving:
                return
            if export in self._broken:
                continue
            try:
                self.model = self._load(export, cards[export])
            except Exception as error:  # whatever is wrong with it, the one that serves goes on
                self._pass_over(export, error)
            else:
                self._serving = export
                logger.info("Serving %s, version %d.", export.name, export.version)
                return

    def watch(self, seconds: float = 1.0) -> None:
        """Look now, and then again and again, in a thread of its own, until `stop`."""

        def look() -> None:
            while not self._stopped.wait(seconds):
                self._try()

        self._try()
        threading.Thread(target=look, name="repository", daemon=True).start()

    def _try(self) -> None:
        """Look once; whatever hinders it (a folder that may not be read, say) may be over the next time."""
        try:
            self.refresh()
            self._trouble = ""
        except Exception as error:
            if str(error) != self._trouble:
                self._trouble = str(error)
                logger.exception("%s cannot be looked through, which is tried again.", self.folder)

    def stop(self) -> None:
        """End the watch."""
        self._stopped.set()

    def _exports(self) -> Iterator[_Export]:
        for card in self.folder.glob("*/*/model_card.json"):
            if VERSION.fullmatch(card.parent.name):
                try:
                    stats = [path.stat() for path in (card, card.with_name(NETWORK)) if path.exists()]
                except FileNotFoundError:  # deleted a moment ago
                    continue
                yield _Export(card.parent, tuple(each for stat in stats for each in (stat.st_mtime_ns, stat.st_size)))

    def _pass_over(self, export: _Export, error: Exception) -> None:
        self._broken.add(export)
        logger.error("%s is no whole export and is passed over: %s", export.folder, _sentence(error))

    def _load(self, export: _Export, card: Card) -> Model:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = self._threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 4  # what is wrong is raised as well
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        session = onnxruntime.InferenceSession(export.folder / NETWORK, options, providers=["CPUExecutionProvider"])
        samples = {
            index: file.read_bytes()
            for index in range(len(card.class_names))
            if (file := export.folder / "samples" / f"{index}.png").is_file()
        }
        model = Model(export.name, export.version, card, samples, session)
        _check(model, self._most_pictures)
        return model


def _card(export: _Export) -> Card:
    card = Card.model_validate_json((export.folder / "model_card.json").read_bytes())
    if card.name != export.name:
        raise InputError(f"its card is that of {card.name}.")
    return card


def _check(model: Model, most_pictures: int) -> None:
    """Ask about grey pictures: one, and as many as a request may have, which is a warm-up too."""
    names = [each.name for each in model.session.get_inputs()], [each.name for each in model.session.get_outputs()]
    if names != ([INPUT], [OUTPUT]):
        raise InputError(f"its inputs and outputs are {names[0]} and {names[1]}, not [{INPUT!r}] and [{OUTPUT!r}].")
    for count in {most_pictures, 1}:
        answers = model.probabilities(np.full((count, SIDE, SIDE, 3), 128.0))
        if answers.shape != (count, len(model.card.class_names)) or not np.allclose(answers.sum(axis=1), 1, atol=1e-3):
            raise InputError(f"it does not answer with probabilities of {len(model.card.class_names)} classes.")


def _sentence(error: Exception) -> str:
    if isinstance(error, ValidationError):
        first = error.errors(include_url=False)[0]
        return f"its card is wrong at {'.'.join(map(str, first['loc'])) or 'its beginning'}: {first['msg']}."
    return str(error)
