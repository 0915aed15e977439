"""Files of networks that earlier versions of Keras can read, too."""

import io
import json
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import keras

OLDEST_KERAS = "3.4"  # that can read the files; earlier ones expect inputs and outputs in another form
CONFIG = "config.json"
# Options that later versions have added, and the values at which they are off: earlier ones refuse them.
ADDED = {"ragged": False, "optional": False, "antialias": False, "renorm": False, "renorm_momentum": 0.99}


def save(network: "keras.Model", path: Path) -> None:
    """Save a trained network as a `.keras` file that Keras from `OLDEST_KERAS` on can load.

    Keras saves every option of every layer, and refuses one that it does not know. So options that are not set are left
    out, and initializers, which a trained network does not need.
    """
    network.save(path)
    with zipfile.ZipFile(io.BytesIO(path.read_bytes())) as saved, zipfile.ZipFile(path, "w") as file:
        for member in saved.infolist():
            content = saved.read(member)
            if member.filename == CONFIG:
                content = json.dumps(json.loads(content, object_hook=_portable)).encode()
            file.writestr(member, content)


def _portable(config: dict[str, Any]) -> Any:
    """Return an object of the configuration as every version reads it; objects inside it have been converted before."""
    if config.get("class_name") == "DTypePolicy":
        return config["config"]["name"]
    if (config.get("module") or "").startswith("keras.src.ops"):
        config["config"].pop("name", None)  # the name by which it is called stands beside `config`, too
    return {
        option: value
        for option, value in config.items()
        if value is not None and not option.endswith("_initializer") and ADDED.get(option) != value
    }
