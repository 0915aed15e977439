"""Extensions as README.md and CONTRIBUTING.md print them, applied to a copy of the project."""

import json
import os
import re
import subprocess
import sys

import pandas as pd
import pytest
import yaml

from cifar10.contracts import Evaluations
from cifar10.training.identity import identify
from cifar10.training.recipe import RECIPES
from tests.helpers import PROJECT


@pytest.fixture
def copy(tmp_path):
    """A copy of the project, in which a diff of one of its pages can be applied and a script or command can be run."""
    return Copy(tmp_path / "copy", "src", "conf", "pyproject.toml", "README.md")


class Copy:
    def __init__(self, folder, *paths):
        self.folder = folder
        listed = subprocess.run(
            ["git", "ls-files", "-co", "--exclude-standard", *paths],
            cwd=PROJECT, capture_output=True, text=True, check=True,
        ).stdout.splitlines()  # fmt: skip
        for name in listed:
            if (PROJECT / name).exists():
                target = folder / name
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes((PROJECT / name).read_bytes())
        (folder / "conf/local").mkdir(exist_ok=True)

    def apply(self, page, heading):
        section = (PROJECT / page).read_text().split(f"{heading}\n", 1)[1]
        diff = re.search(r"```diff\n(.*?)```", section, re.DOTALL)[1]
        subprocess.run(["git", "apply", "-"], cwd=self.folder, input=diff, text=True, check=True)

    def run(self, *command):
        environment = {**os.environ, "PYTHONPATH": str(self.folder / "src"), "COLUMNS": "200"}
        result = subprocess.run(
            [sys.executable, *command], cwd=self.folder, env=environment, capture_output=True, text=True, check=False
        )
        assert result.returncode == 0, result.stdout[-3000:] + result.stderr[-3000:]
        return result.stdout

    def script(self, text):
        """Run a script that prints one JSON value last."""
        return json.loads(self.run("-c", PREAMBLE + text).splitlines()[-1])


PREAMBLE = """
import json, logging, pathlib, yaml
import numpy as np
import cifar10
assert pathlib.Path(cifar10.__file__).is_relative_to(pathlib.Path.cwd()), cifar10.__file__
from cifar10.training.recipe import RECIPES
blocks = yaml.safe_load(open("conf/base/parameters_architectures.yml"))
recipes = {name: RECIPES[name](**block) for name, block in blocks.items() if not name.startswith("_")}
base = blocks["_recipe"]

def refusal(**changes):
    try:
        RECIPES["simple_cnn"](**{**base, **changes})
    except ValueError as error:
        return str(error)
    return ""

def fit(**changes):
    from cifar10.contracts import Examples, Statistics
    from cifar10.pipelines.preprocessing.nodes import measure
    from cifar10.training.checkpoint import Checkpoints
    from cifar10.training.fit import fit
    from cifar10.training import optimizers, phase
    generator = np.random.default_rng(0)
    split = Examples(generator.integers(0, 256, (64, 32, 32, 3), dtype=np.uint8), np.arange(64, dtype=np.uint8) % 10)
    made, make = [], phase.make_optimizer
    phase.make_optimizer = lambda *given: made.append(make(*given)) or made[-1]
    recipe = RECIPES["simple_cnn"](**{**base, "epochs": 1, "batch_size": 32, **changes})
    statistics = measure(split, split, split)
    names, folder = [f"class {label}" for label in range(10)], pathlib.Path("checkpoint")
    model, history = fit("simple_cnn", split, split, statistics, names, recipe, Checkpoints(folder))
    weights = [float(abs(each).sum()) for each in model.load_network().get_weights()]
    return made[0], model.record, weights
"""


@pytest.fixture(scope="module")
def recipes():
    """Every recipe as it is in this checkout."""
    blocks = yaml.safe_load((PROJECT / "conf/base/parameters_architectures.yml").read_text())
    return {name: RECIPES[name](**block) for name, block in blocks.items() if not name.startswith("_")}


@pytest.fixture(scope="module")
def hashes(recipes):
    return {name: recipe.hash for name, recipe in recipes.items()}


def test_an_architecture_as_the_readme_adds_it_is_known_everywhere(copy, hashes):
    """VGG11: its network, recipe, name in the demo, description and pipelines; those of the others stay as they are."""
    copy.apply("README.md", "## Add an architecture")
    result = copy.script("""
from cifar10.architectures import build
from cifar10.architectures.descriptions import describe
from cifar10.contracts import Statistics
from cifar10.pipeline_registry import register_pipelines
statistics = Statistics(
    mean=(125.0,) * 3, std=(60.0,) * 3, patch_covariance=np.eye(12).tolist(), digests={}, data_version="a version"
)
network = build("vgg11", 7, statistics)
print(json.dumps({
    "hashes": {name: recipe.hash for name, recipe in recipes.items()}, "name": network.name,
    "output": network(np.zeros((1, 32, 32, 3))).shape[1], "pipelines": list(register_pipelines()),
    "convolutions": sum(type(layer).__name__ == "Conv2D" for layer in network.layers),
    "demo": "vgg11" in yaml.safe_load(open("conf/demo/parameters.yml")), "description": describe("vgg11"),
}))""")
    assert result["hashes"] == {**hashes, "vgg11": hashes["vgg16"]}
    assert (result["name"], result["output"], result["convolutions"]) == ("vgg11", 7, 8)
    assert {"train_vgg11", "tune_vgg11"} <= set(result["pipelines"])
    assert result["demo"]
    assert result["description"] == "Build column A of the paper: eight 3x3 convolutions in five stages."


@pytest.mark.slow
def test_an_architecture_as_the_readme_adds_it_passes_the_tests_of_all(tmp_path):
    copy = Copy(tmp_path / "copy")
    copy.apply("README.md", "## Add an architecture")
    result = copy.run("-m", "pytest", "-n", "0", "-k", "vgg11", "-q")
    assert int(re.search(r"(\d+) passed", result)[1]) >= 6


@pytest.mark.slow
def test_an_architecture_as_the_readme_adds_it_goes_through_every_stage(copy, tmp_path):
    """VGG11, whose table row, recipe and name in the demo stand before those of VGG16."""
    copy.apply("README.md", "## Add an architecture")
    data = tmp_path / "data"
    copy.run(
        "-m", "kedro", "run", "--env=demo",
        "--pipelines=ingestion,preprocessing,train_vgg11,evaluation,reporting,export",
        f"--params=data_root={data},vgg11.examples=64,export.architecture=vgg11",
    )  # fmt: skip
    (path,) = data.glob("08_reporting/evaluations.json/*/evaluations.json")
    (row,) = Evaluations.read(path).rows
    evaluated = row.first
    assert (row.name, evaluated.record.training_examples) == ("vgg11", 64)
    (path,) = data.glob("08_reporting/leaderboard.csv/*/leaderboard.csv")
    assert list(pd.read_csv(path).architecture) == ["vgg11"]
    (path,) = data.glob("08_reporting/report.html/*/report.html")
    assert "Build column A of the paper: eight 3x3 convolutions in five stages." in path.read_text()
    card = json.loads((data / "07_model_output/serving/vgg11/1/model_card.json").read_text())
    assert (card["name"], card["metrics"]["accuracy"]) == ("vgg11", evaluated.metrics.accuracy)
    assert "- train_vgg11" in copy.run("-m", "kedro", "registry", "list").splitlines()


def test_an_optimizer_needs_one_function_and_one_row(copy, hashes):
    copy.apply("CONTRIBUTING.md", "### An optimizer")
    result = copy.script("""
optimizer, record, weights = fit(optimizer="lion", weight_decay=0.1)
print(json.dumps({
    "hashes": {name: recipe.hash for name, recipe in recipes.items()},
    "kind": type(optimizer).__name__, "weight_decay": optimizer.weight_decay, "recipe": record.recipe["optimizer"],
    "refused": refusal(optimizer="lion", momentum=0.5), "unknown": refusal(optimizer="lyon"),
    "lookahead": refusal(optimizer="lion", lookahead=5), "finite": bool(np.isfinite(weights).all()),
}))""")
    assert result["hashes"] == hashes
    assert (result["kind"], result["weight_decay"], result["recipe"]) == ("Lion", 0.1, "lion")
    assert result["finite"]
    assert "optimizer lion does not use momentum (only sgd, muon)" in result["refused"]
    assert "optimizer lion does not use lookahead (only sgd, muon)" in result["lookahead"]
    assert "there is no optimizer lyon; did you mean lion?" in result["unknown"]


def test_an_augmentation_declares_its_options_once(copy, hashes):
    copy.apply("CONTRIBUTING.md", "### An augmentation")
    result = copy.script("""
from cifar10.training.augmentation import Augmentation
plain = {"flip": "none", "shift": 0}
recipe = RECIPES["simple_cnn"](**{**base, **plain, "brightness": 0.5})
images = np.full((8, 32, 32, 3), 100, np.uint8)
seen = np.array(Augmentation(recipe, (0.0, 0.0, 0.0))(images))
print(json.dumps({
    "hashes": {name: recipe.hash for name, recipe in recipes.items()},
    "augments": [recipe.augments, RECIPES["simple_cnn"](**{**base, **plain}).augments],
    "range": [float(seen.min()), float(seen.max())], "per_image": np.ptp(seen, axis=(1, 2, 3)).tolist(),
    "means": len(set(seen[:, 0, 0, 0].tolist())), "refused": refusal(brightness=1.5),
}))""")
    assert result["hashes"] == hashes
    assert result["augments"] == [True, False]  # so transfer learning makes `feature_copies` copies of the features
    assert 50 <= result["range"][0] < result["range"][1] <= 150
    assert result["per_image"] == [0.0] * 8
    assert result["means"] == 8
    assert "brightness" in result["refused"]


def test_a_recipe_option_that_is_off_changes_neither_hash_nor_identity(copy, recipes, hashes):
    copy.apply("CONTRIBUTING.md", "### A recipe option")
    result = copy.script("""
from cifar10.training.identity import identify
optimizer, record, weights = fit(gradient_clip_value=0.5)
print(json.dumps({
    "hashes": {name: recipe.hash for name, recipe in recipes.items()},
    "identities": {name: identify(name, recipe, "data", ["cat"], "network") for name, recipe in recipes.items()},
    "on": recipes["simple_cnn"].hash != record.recipe_hash, "clipvalue": optimizer.clipvalue,
    "recorded": record.recipe["gradient_clip_value"], "refused": refusal(gradient_clip_value=-1.0),
    "unknown": refusal(gradient_clip_vlue=1.0),
}))""")
    assert result["hashes"] == hashes
    assert result["identities"] == {
        name: identify(name, recipe, "data", ["cat"], "network") for name, recipe in recipes.items()
    }
    assert result["on"]
    assert (result["clipvalue"], result["recorded"]) == (0.5, 0.5)
    assert "greater than 0" in result["refused"]
    assert "gradient_clip_vlue" in result["unknown"]
