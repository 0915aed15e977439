"""Tables, text, figures and artifacts in files, saved completely or not at all."""

import base64
import csv
import io
import json as standard_json
import re
from pathlib import Path
from typing import Any, ClassVar, NoReturn
from xml.etree import ElementTree

import yaml
from kedro.io import DatasetError
from kedro_datasets import json, matplotlib, pandas, text
from kedro_datasets._typing import HTMLPreview, ImagePreview, JSONPreview, TablePreview
from matplotlib.figure import Figure
from PIL import Image, ImageOps

from cifar10 import figures
from cifar10.atomic import atomic, atomic_folder
from cifar10.contracts import Artifact, Confirmed, Evaluations, Statistics, Trials
from cifar10.datasets.artifact import LocalDataset, WrappedDataset, version_files
from cifar10.errors import readable

PREVIEW_ASPECT = 458 / 300  # width by height to which Kedro-Viz stretches every image
MARGIN = 1.15  # width of a preview by that of its image, because a narrow window cuts it off at the sides


class CSVDataset(WrappedDataset):
    """A `pandas.DataFrame` as CSV. Columns that `load_args: {dtype: ...}` names must be there."""

    WRAPPED = pandas.CSVDataset

    def read(self, path: Path) -> Any:
        """Read the table, unless a row is incomplete or too long, or a column is missing or there twice."""
        if not path.read_bytes().endswith(b"\n"):
            raise ValueError("its last row is incomplete")
        with path.open(encoding="utf-8", newline="") as file:  # pandas would shift or rename columns without a word
            header, *rows = csv.reader(file, strict=True)
        for number, row in enumerate(rows, start=1):
            if len(row) != len(header):
                raise ValueError(f"its row {number} has {len(row)} cells for {len(header)} columns")
        if len(set(header)) < len(header):
            raise ValueError("two of its columns have the same name")
        table = super().read(path)
        if missing := [name for name in self.options.get("load_args", {}).get("dtype", {}) if name not in table]:
            raise ValueError(f"it has no column {missing[0]}")
        return table

    def preview(self, nrows: int = 5) -> TablePreview:
        """Return the first rows for Kedro-Viz."""
        return self._newest().preview(nrows)


class EarlierCSVDataset(CSVDataset):
    """The newest table that earlier runs have saved under the same path, because no node can read what it writes.

    It only spares work, so one that is damaged or was written by another version of this project is as good as none.
    """

    def read(self, path: Path) -> Any:
        """Read the table, or return None where a `CSVDataset` would refuse it."""
        try:
            return super().read(path)
        except Exception:
            return None

    def save(self, data: Any) -> NoReturn:
        """Refuse, because this run saves its table under the other name."""
        raise DatasetError("A table of earlier runs is only read.")


class JSONDataset(WrappedDataset):
    """Plain values as JSON."""

    WRAPPED = json.JSONDataset

    def preview(self) -> JSONPreview:
        """Return the content for Kedro-Viz."""
        return self._newest().preview()


class TextDataset(WrappedDataset):
    """Text."""

    WRAPPED = text.TextDataset


class MarkdownDataset(TextDataset):
    """A page in Markdown."""

    def preview(self) -> HTMLPreview:
        """Return the page for Kedro-Viz, without its images."""
        from markdown_it import MarkdownIt

        return _plain(MarkdownIt("commonmark").enable("table").render(self.load()))


class HTMLDataset(TextDataset):
    """A page in HTML."""

    def preview(self) -> HTMLPreview:
        """Return text and tables of the page for Kedro-Viz, without its styles, scripts, figures and folded details."""
        return _plain(re.sub(r"<(head|script|nav|figure|details)\b.*?</\1>", "", self.load(), flags=re.DOTALL))


def _plain(page: str) -> HTMLPreview:
    """Return a page whose tags have no attributes, without images, and with a carriage return for white space.

    Kedro-Viz replaces what it takes for Markdown: line feeds by breaks, and what is between two underscores in a line,
    as in the names of two models, by emphasis. A carriage return ends a line, and is shown as a space.
    """
    tags = re.sub(r"<img[^>]*>|<(/?\w+)[^>]*>", lambda tag: f"<{tag[1]}>" if tag[1] else "", page)
    return HTMLPreview(re.sub(r"\s+", "&#13;", tags.strip()))


class BlockDataset(TextDataset):
    """A block of parameters as YAML, with its comment; it is loaded and saved as text."""

    def preview(self) -> JSONPreview:
        """Return the block and its comment for Kedro-Viz."""
        text = self.load()
        comment = [line.removeprefix("# ") for line in text.splitlines() if line.startswith("# ")]
        return JSONPreview(standard_json.dumps({"comment": comment, **(yaml.safe_load(text) or {})}))


class FigureDataset(WrappedDataset):
    """A matplotlib figure as PNG, to look at, with an SVG beside it, which is what it loads."""

    WRAPPED = matplotlib.MatplotlibDataset
    FS_ARGS: ClassVar[dict] = {}

    def read(self, path: Path) -> str:
        """Read the SVG."""
        return _read_svg(path.with_suffix(".svg"))

    def write(self, path: Path, data: Figure) -> None:
        """Write both; the PNG last, because versions are recognised by it."""
        vector = path.with_suffix(".svg")
        with atomic(path) as unfinished:
            try:
                save_svg(data, vector)
                self._write(unfinished, data)
            except BaseException:
                if not path.exists():
                    vector.unlink(missing_ok=True)
                raise

    def preview(self) -> ImagePreview:
        """Return the PNG for Kedro-Viz, with the margins that keep it from being stretched there."""
        with Image.open(self.path) as image:
            width, height = image.size
            height = max(height, round(MARGIN * width / PREVIEW_ASPECT))
            size = round(height * PREVIEW_ASPECT), height
            padded = ImageOps.pad(image.convert("RGB"), size, color="white")
        content = io.BytesIO()
        padded.save(content, "png")
        return ImagePreview(base64.b64encode(content.getvalue()).decode())


class FiguresDataset(LocalDataset):
    """Figures by name: a folder with a PNG and an SVG of each, of which it loads the SVGs."""

    def read(self, path: Path) -> dict[str, str]:
        """Read the SVGs."""
        return {each.stem: _read_svg(each) for each in sorted(path.glob("*.svg"))}

    def write(self, path: Path, data: dict[str, Figure]) -> None:
        """Write all figures, completely or not at all."""
        with atomic_folder(path) as folder:
            for name, figure in data.items():
                save_svg(figure, folder / f"{name}.svg")
                figure.savefig(folder / f"{name}.png")


def save_svg(figure: Figure, path: Path) -> None:
    """Save a figure as SVG."""
    with atomic(path) as unfinished:
        unfinished.write_text(figures.to_svg(figure), encoding="utf-8", newline="\n")


def _read_svg(path: Path) -> str:
    with readable(path, "Draw it again, or move the folder of this version away."):
        text = path.read_text(encoding="utf-8")
        if not ElementTree.fromstring(text).tag.endswith("svg"):  # noqa: S314  drawn by this project
            raise ValueError("it is not an SVG")
    return text


class ArtifactDataset(LocalDataset):
    """An `Artifact` as JSON. A subclass sets `ARTIFACT` to its class."""

    ARTIFACT: type[Artifact]

    def read(self, path: Path) -> Artifact:
        """Read the artifact."""
        return self.ARTIFACT.read(path)

    def write(self, path: Path, data: Artifact) -> None:
        """Write the artifact."""
        with atomic(path) as unfinished:
            unfinished.write_text(data.to_json(), encoding="utf-8")

    def preview(self) -> JSONPreview:
        """Return the content for Kedro-Viz."""
        return JSONPreview(self.load().to_json())


class StatisticsDataset(ArtifactDataset):
    """`Statistics` as JSON."""

    ARTIFACT = Statistics


class EvaluationsDataset(ArtifactDataset):
    """`Evaluations` as JSON."""

    ARTIFACT = Evaluations


class TrialsDataset(ArtifactDataset):
    """`Trials` as JSON."""

    ARTIFACT = Trials


class ConfirmedDataset(ArtifactDataset):
    """`Confirmed` as JSON."""

    ARTIFACT = Confirmed


class AllEvaluationsDataset(LocalDataset):
    """All versions of `Evaluations`, the oldest first: reads the folder in which `EvaluationsDataset` saves them."""

    def read(self, path: Path) -> list[Evaluations]:
        """Read all versions; there may be none."""
        return [Evaluations.read(each) for each in version_files(path)]

    def save(self, data: Any) -> NoReturn:
        """Refuse, because each version is saved by `EvaluationsDataset`."""
        raise DatasetError("Evaluations are saved one version at a time.")

    def _exists(self) -> bool:
        return True
