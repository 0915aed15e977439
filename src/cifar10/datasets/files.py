"""Tables, text, figures and artifacts in files, saved completely or not at all."""

from pathlib import Path
from typing import Any

import matplotlib as mpl
from kedro_datasets import json, matplotlib, pandas, text
from kedro_datasets._typing import ImagePreview, JSONPreview, TablePreview
from matplotlib.figure import Figure

from cifar10.atomic import atomic, atomic_folder
from cifar10.contracts import Artifact, Evaluations, Statistics
from cifar10.datasets.artifact import LocalDataset, WrappedDataset


class CSVDataset(WrappedDataset):
    """A `pandas.DataFrame` as CSV."""

    WRAPPED = pandas.CSVDataset

    def preview(self, nrows: int = 5) -> TablePreview:
        """Return the first rows for Kedro-Viz."""
        return self._newest().preview(nrows)


class JSONDataset(WrappedDataset):
    """Plain values as JSON."""

    WRAPPED = json.JSONDataset

    def preview(self) -> JSONPreview:
        """Return the content for Kedro-Viz."""
        return self._newest().preview()


class TextDataset(WrappedDataset):
    """Text."""

    WRAPPED = text.TextDataset


class FigureDataset(WrappedDataset):
    """A matplotlib figure as PNG, to look at, with an SVG beside it, which is what it loads."""

    WRAPPED = matplotlib.MatplotlibDataset

    def load(self) -> str | None:
        """Load the SVG, or return None if the dataset is optional and nothing has been saved yet."""
        if self.optional and self.missing():
            return None
        return Path(self._get_load_path()).with_suffix(".svg").read_text(encoding="utf-8")

    def save(self, data: Figure) -> None:
        """Save both; the PNG last, because versions are recognised by it."""
        target = Path(self._get_save_path())
        vector = target.with_suffix(".svg")
        with atomic(target) as path:
            try:
                save_svg(data, vector)
                self._write(path, data)
            except BaseException:
                if not target.exists():
                    vector.unlink(missing_ok=True)
                raise

    def preview(self) -> ImagePreview:
        """Return the PNG for Kedro-Viz."""
        return self._newest().preview()


class FiguresDataset(LocalDataset):
    """Figures by name: a folder with a PNG and an SVG of each, of which it loads the SVGs."""

    def load(self) -> dict[str, str]:
        """Load the SVGs."""
        paths = sorted(Path(self._get_load_path()).glob("*.svg"))
        return {path.stem: path.read_text(encoding="utf-8") for path in paths}

    def save(self, data: dict[str, Figure]) -> None:
        """Save all figures, completely or not at all."""
        with atomic_folder(Path(self._get_save_path())) as folder:
            for name, figure in data.items():
                save_svg(figure, folder / f"{name}.svg")
                figure.savefig(folder / f"{name}.png")


def save_svg(figure: Figure, path: Path) -> None:
    """Save a figure as SVG; the same figure always gives the same file."""
    with atomic(path) as unfinished, mpl.rc_context({"svg.hashsalt": "cifar10"}):
        figure.savefig(unfinished, format="svg", metadata={"Date": None}, transparent=True)


class ArtifactDataset(LocalDataset):
    """An `Artifact` as JSON. A subclass sets `ARTIFACT` to its class."""

    ARTIFACT: type[Artifact]

    def load(self) -> Any:
        """Load the artifact, or return None if the dataset is optional and nothing has been saved yet.

        Raises:
            InputError: the file is damaged, or was written with another schema.
        """
        if self.optional and self.missing():
            return None
        return self._read(Path(self._get_load_path()))

    def save(self, data: Artifact) -> None:
        """Save the artifact."""
        with atomic(Path(self._get_save_path())) as path:
            path.write_text(data.to_json(), encoding="utf-8")

    def check(self) -> None:
        """Raise `InputError` if there is a file that cannot be read; called before a run that reads it."""
        if self.exists():
            self.load()

    def preview(self) -> JSONPreview:
        """Return the content for Kedro-Viz."""
        return JSONPreview(self.load().to_json())

    def _read(self, path: Path) -> Artifact:
        return self.ARTIFACT.from_json(path.read_text(encoding="utf-8"), str(path))


class StatisticsDataset(ArtifactDataset):
    """`Statistics` as JSON."""

    ARTIFACT = Statistics


class EvaluationsDataset(ArtifactDataset):
    """`Evaluations` as JSON."""

    ARTIFACT = Evaluations


class AllEvaluationsDataset(EvaluationsDataset):
    """All versions of `Evaluations`, the oldest first: reads the folder in which `EvaluationsDataset` saves them."""

    def load(self) -> list[Evaluations]:
        """Load all versions; there may be none.

        Raises:
            InputError: a file is damaged, or was written with another schema.
        """
        folder = Path(self._filepath)
        return [self._read(path) for path in sorted(folder.glob(f"*/{folder.name}"))]  # type: ignore[misc]

    def _exists(self) -> bool:
        return True
