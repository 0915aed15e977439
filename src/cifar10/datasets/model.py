"""A trained network and its record, as one versioned artefact."""

import json
from pathlib import Path

from cifar10.atomic import atomic
from cifar10.contracts import TrainedModel
from cifar10.datasets.artifact import LocalDataset, never_saved

RECORD = "record.json"


class ModelDataset(LocalDataset):
    """`TrainedModel` as `NAME.keras/VERSION/NAME.keras` with `record.json` beside it; None if there never was one.

    The network's file takes its name last, and versions are known by that file, so none is without its record.
    """

    OPTIONAL = True  # a run may ask for it before it exists

    def load(self) -> TrainedModel | None:
        """Load network and record; the record then also says which `version` it is."""
        if never_saved(self):
            return None

        import keras

        path = Path(self._get_load_path())
        record = json.loads(path.with_name(RECORD).read_text(encoding="utf-8"))
        return TrainedModel(keras.saving.load_model(path, compile=False), {**record, "version": path.parent.name})

    def save(self, data: TrainedModel) -> None:
        """Save network and record."""
        target = Path(self._get_save_path())
        record = target.with_name(RECORD)
        try:
            with atomic(target) as network:
                data.network.save(network)
                with atomic(record) as unfinished:
                    unfinished.write_text(json.dumps(data.record, indent=2), encoding="utf-8")
        except BaseException:
            if not target.exists():
                record.unlink(missing_ok=True)
            raise
