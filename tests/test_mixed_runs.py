"""A data folder put together on purpose from different runs: what is reported is true of them.

Killed, pruned and reseeded runs, other data, other code: all that can lie in one folder after some weeks. The networks
are small, and trained by least squares; everything else is as users run it.
"""

import html
import re
import shutil

import keras
import numpy as np
import pandas as pd
import pytest
from kedro.io import Version
from PIL import Image

from cifar10.compute import inference
from cifar10.contracts import Evaluations, TrainedModel
from cifar10.datasets.model import ModelDataset
from cifar10.errors import InputError
from cifar10.pruning import delete, old_versions
from cifar10.training.subset import training_images
from tests.helpers import CLASS_NAMES, make_record, run, save_data


class Folder:
    """A data folder, and what was done in it."""

    def __init__(self, root, train, val, test):
        self.root, self.train, self.val, self.test = root, train, val, test
        self.statistics = save_data(root, train, val, test)
        self.image = root / "image.png"
        Image.fromarray(test.images[0]).save(self.image)

    def add_model(self, name, day, noise=0.0, **changes):
        """Save a network of that architecture, as if trained on that day; noise makes it worse."""
        recipe = {"seed": 0, "train_on": "train", "examples": None, **changes.pop("recipe", {})}
        options = {option: recipe[option] for option in ("train_on", "examples", "seed")}
        seen, _ = training_images(name, self.train, self.val, **options)
        network = fit(name, seen, noise)
        values = {
            "architecture": name, "recipe": recipe, "training_digest": seen.digest, "training_examples": len(seen),
            "data_version": self.statistics.data_version, "digests": self.statistics.digests,
            "parameters": network.count_params(), "history": HISTORY,
        }  # fmt: skip
        record = make_record(**{**values, **changes})
        version = Version(None, f"2026-01-{day:02}T00.00.00.000Z")
        path = self.root / f"06_models/{name}.keras"
        ModelDataset(filepath=str(path), version=version).save(TrainedModel(record, lambda: network))

    def network(self, name, version):
        return keras.saving.load_model(self.root / f"06_models/{name}.keras/{version}/{name}.keras")

    def accuracy(self, name, version, split):
        probabilities = self.network(name, version).predict(split.images, verbose=0)
        return (probabilities.argmax(axis=1) == split.labels).mean()

    def run(self, *pipelines, **options):
        run(self.root, *pipelines, robustness={"examples": 20, "seed": 0}, **options)

    def latest(self, name, stage="08_reporting"):
        return max((self.root / stage / name).glob(f"*/{name}"))

    @property
    def evaluations(self):
        return Evaluations.read(self.latest("evaluations.json"))

    @property
    def leaderboard(self):
        return pd.read_csv(self.latest("leaderboard.csv"), dtype={"recipe_hash": str}).set_index("name")

    @property
    def page(self):
        return self.latest("report.html").read_text(encoding="utf-8")

    @property
    def text(self):
        """The report as a reader sees it."""
        text = re.sub(r"<(script|head)>.*?</\1>|<[^>]+>", " ", self.page.replace("<wbr>", ""), flags=re.DOTALL)
        return " ".join(html.unescape(text).split())


HISTORY = [
    {
        "phase": "training", "epoch": epoch, "accuracy": 0.5, "loss": 1.0, "val_accuracy": epoch / 10, "val_loss": 1.0,
        "learning_rate": 0.1, "seconds": 1.0, "joules": None,
    }
    for epoch in (1, 2, 3)
]  # fmt: skip


def fit(name, seen, noise):
    """Return random features of an image, and the linear classifier of them that least squares finds."""
    generator = np.random.default_rng(0)  # not that of the backend, so that all backends give the same network
    inputs = keras.Input((32, 32, 3))
    convolution = keras.layers.Conv2D(24, 5, 2, padding="same", activation="relu")
    x = convolution(keras.layers.Rescaling(1 / 255)(inputs))
    convolution.set_weights([generator.normal(0, 0.16, (5, 5, 3, 24)), np.zeros(24)])
    features = keras.Model(inputs, keras.layers.Flatten(name="features")(keras.layers.AveragePooling2D(4)(x)))
    x = np.asarray(features(seen.images.astype("float32")))
    kernel = x.T @ np.linalg.solve(x @ x.T + 3 * np.eye(len(x)), np.eye(10)[seen.labels] - 0.1)
    kernel = kernel + noise * kernel.std() * generator.normal(size=kernel.shape)
    logits = keras.layers.Dense(10, name="logits")
    network = keras.Model(inputs, keras.layers.Softmax(name="probabilities")(logits(features.output)), name=name)
    logits.set_weights([5 * kernel, np.zeros(10)])
    return network


def kill(folder, function, after):
    """Evaluate, and kill the run when this function of `inference` has been called that often."""
    calls = iter(range(100))

    def killed(*given):
        if next(calls) == after:
            raise KeyboardInterrupt
        return original(*given)

    original = getattr(inference, function)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(inference, function, killed)
        with pytest.raises(KeyboardInterrupt):
            folder.run("evaluation")


@pytest.fixture(scope="module")
def mixed(tmp_path_factory, drawn, eager):
    """The folder after all these runs, before they are reported."""
    images, test = drawn
    folder = Folder(tmp_path_factory.mktemp("mixed"), images.take(slice(300)), images.take(slice(300, None)), test)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("cifar10.pipelines.robustness.nodes.SEVERITIES", (1, 5))

        # The first runs evaluate and rank three networks. The winner is deleted afterwards.
        folder.add_model("vgg19", 1)
        folder.add_model("simple_cnn", 1, 0.2, recipe={"epochs": 30})
        folder.add_model("airbench94", 1, 0.4)
        folder.add_model("resnet50", 1, 2.0, class_names=[*CLASS_NAMES[:-1], "signs"])
        folder.add_model("deep_cnn", 1, data_version="other data")
        folder.run("evaluation", "robustness")
        folder.run("reporting", nodes=["reporting.rank"])
        folder.first = folder.evaluations
        shutil.rmtree(folder.root / "06_models/vgg19.keras")

        # Other seeds, by another commit and in another place, one of them twice; a short training; the same recipe
        # after a change of the code; and one on all images.
        seed = {"epochs": 30, "seed": 2}
        folder.add_model("simple_cnn", 2, 0.3, recipe=seed)
        folder.add_model("simple_cnn", 3, 0.25, recipe=seed, versions={"commit": "def", "keras": "3"})
        folder.add_model("simple_cnn", 4, 0.15, recipe={"epochs": 30, "seed": 1}, hardware="another machine")
        folder.add_model("simple_cnn", 5, 20, recipe={"epochs": 3, "examples": 64}, recipe_hash="9876543210ab")
        folder.add_model("batchnorm_cnn", 5, 0.8)
        folder.add_model("batchnorm_cnn", 6, 2.0, fingerprint="fedcba987654", recipe={"seed": 1})
        unvalidated = [{**epoch, "val_accuracy": None} for epoch in HISTORY]
        folder.add_model("airbench94", 6, recipe={"train_on": "all"}, recipe_hash="a110000000ab", val_accuracy=None,
                     history=unvalidated)  # fmt: skip

        # An evaluation is killed while it predicts, and the next one before its portraits.
        kill(folder, "infer", after=9)
        kill(folder, "grad_cam", after=0)
        yield folder


def version(day):
    return f"2026-01-{day:02}T00.00.00.000Z"


GOOD, SHORT, EVERYTHING = "simple_cnn-0123", "simple_cnn-9876", "airbench94-a110"
ROWS = {
    GOOD: [version(1), version(4), version(3)],
    "airbench94-0123": [version(1)],
    "batchnorm_cnn-0f1e": [version(5)],
    "batchnorm_cnn-fedc": [version(6)],
    SHORT: [version(5)],
    EVERYTHING: [version(6)],
}


def test_a_deleted_model_does_not_win_before_the_next_report_either(mixed):
    with pytest.raises(
        InputError, match=r"leaderboard has vgg19 in version .*, which has been deleted. Rank the models"
    ):
        mixed.run("predict", image=str(mixed.image))
    with pytest.raises(InputError, match="The leaderboard is not of the latest evaluation"):
        mixed.run("export")


@pytest.fixture(scope="module")
def reported(mixed):
    """The folder after its report."""
    mixed.run("reporting")
    return mixed


def test_rows_are_recipes_and_no_training_costs_another_its_rank(reported):
    evaluations, board = reported.evaluations, reported.leaderboard
    assert [row.name for row in reported.first.rows] == ["vgg19", "simple_cnn", "airbench94"]
    assert {row.name: [each.version for each in row.seeds] for row in evaluations.rows} == ROWS
    assert list(board.index) == list(ROWS)
    assert board["rank"].tolist()[:5] == [1, 2, 3, 4, 5]
    assert np.isnan(board["rank"][EVERYTHING])
    assert board.seed_versions.tolist() == [" ".join(versions) for versions in ROWS.values()]
    assert board.data_version.unique().tolist() == [reported.statistics.data_version]
    assert {name for pair in evaluations.pairs for name in (pair.first, pair.second)} == set(ROWS)
    assert len(evaluations.pairs) == 15
    seen, _ = training_images("", reported.train, reported.val, train_on="train", examples=64, seed=0)
    (short,) = (row.first for row in evaluations.rows if row.name == SHORT)
    assert board.train_accuracy[SHORT] == pytest.approx(reported.accuracy("simple_cnn", short.version, seen))


def test_the_report_says_only_what_is_true_of_them(reported):
    """Read sentence by sentence; the numbers are computed anew."""
    text, rows = reported.text, {row.name: row for row in reported.evaluations.rows}
    accuracies = [each.metrics.accuracy for each in rows[GOOD].seeds]
    ranked = np.mean([reported.accuracy("simple_cnn", each, reported.val) for each in ROWS[GOOD]])
    first = reported.accuracy("simple_cnn", version(1), reported.test)
    assert accuracies[0] == first
    for sentence in (
        f"{GOOD} has the best validation accuracy of 5 models ({ranked:.2%}, mean over 3 seeds), and with seed 0 a "
        f"test accuracy of {first:.2%} (95% CI",
        "This test accuracy is not significantly different from that of airbench94-0123.",
        "The ranked models were selected on validation images only: the epoch that is kept of each model, the "
        "temperature by which its probabilities are calibrated, and the "
        f"ranking. {EVERYTHING} was trained on the validation images, too: the last epoch was kept, and there is "
        "neither a rank nor a temperature. The 100 test images decided nothing.",
        f"{np.mean(accuracies):.2%} 3 seeds, SD {100 * np.std(accuracies, ddof=1):.2f} points, 95% CI",
        "they also differ in commit abc, def; hardware a machine, another machine",
        "Ranked by validation accuracy, averaged over the seeds of a recipe.",
        f"{GOOD} examples null, epochs 30 {ranked:.2%} {first:.2%}",
        f"{SHORT} examples 64, epochs 3 ",
        " train_on all n/a ",
        "batchnorm_cnn-fedc network fedcba98 ",
        "Not all rows of batchnorm_cnn have the same network.",
        "n/a: trained on the validation images, too, and so without a rank.",
        "Each pair on the same test images, by its models of the lowest seeds",
        "A model without a rank has no curve.",
        "A model without a rank has no temperature.",
        f"Not evaluated on corrupted images: batchnorm_cnn-0f1e, batchnorm_cnn-fedc, {SHORT} and {EVERYTHING}.",
        "The latest evaluation has not drawn the confusion matrix and the mistakes of this model.",
        f"{version(3)} 2 ",
        "Besides the seed, these trainings differ in commit abc, def; hardware a machine, another machine.",
        "Everything else about this model is of seed 0.",
        "on 64 images; seed 0;",
        "on 400 images; seed 0; 2 min; float32; validation images included",
    ):
        assert sentence in text
    assert "Not all rows of simple_cnn" not in text
    text, not_run = re.sub(r"Not run here: [^.]*\.", "", text), re.search(r"Not run here: [^.]*\.", text)[0]
    for gone in ("vgg19", "deep_cnn", "resnet50"):  # deleted, other data, other names
        assert gone in not_run
    for gone in ("vgg19", "deep_cnn", "resnet50", "signs", version(2)):  # and older
        assert gone not in text
    assert "Mistakes of" not in reported.page  # there are older ones, under names that have no row any more
    table = pd.read_csv(reported.latest("robustness.csv"))
    mean = table[table.name == "simple_cnn"].accuracy.mean()
    assert f"{GOOD} {table.clean_accuracy[table.name == 'simple_cnn'].iloc[0]:.2%} {mean:.2%}" in text


def test_the_ranked_row_is_what_predicts(reported):
    """Neither the newest version nor that of all images; and by the names with which it was trained."""
    reported.run("predict", image=str(reported.image), architecture="airbench94")
    table = pd.read_csv(reported.latest("prediction.csv", "07_model_output"))
    assert list(table.columns) == ["image", "label", "probability", "unsure", *CLASS_NAMES]
    network = reported.network("airbench94", version(1))
    assert table.label[0] == CLASS_NAMES[network.predict(reported.test.images[:1], verbose=0).argmax()]
    with pytest.raises(InputError, match="has other class names than class_names: class 9 is posts, not signs"):
        reported.run("reporting", class_names=[*CLASS_NAMES[:-1], "signs"])


def test_history_has_every_version_and_what_tells_rows_apart(reported):
    reported.run("history")
    runs = pd.read_csv(reported.latest("runs.csv"), dtype=str).set_index(["architecture", "version"])
    assert len(runs) == 11
    evaluated = {(row.architecture, each.version) for row in reported.evaluations.rows for each in row.seeds}
    assert set(runs.index[runs.accuracy.notna()]) == evaluated
    assert runs.fingerprint["batchnorm_cnn", version(6)] == "fedcba987654"
    assert runs.recipe_hash["simple_cnn", version(5)] == "9876543210ab"
    assert set(runs.engine_version) == {"1"}


def test_after_pruning_and_another_evaluation_everything_is_there(reported):
    """The models of all seeds are kept, no image is predicted again, and older versions are listed where asked for."""
    before = reported.leaderboard
    delete([each for each in old_versions(reported.root, keep=1) if "simple_cnn.keras" in str(each.path)])
    assert sorted(path.name for path in (reported.root / "06_models/simple_cnn.keras").iterdir()) == [
        version(day) for day in (1, 3, 4, 5)
    ]
    reported.add_model("airbench94", 7, 0.4)
    predicted = []
    with pytest.MonkeyPatch.context() as patch:
        infer = inference.infer
        patch.setattr(inference, "infer", lambda *given: predicted.append(given[-1]) or infer(*given))
        reported.run("evaluation", "reporting", evaluate_versions="all")
    assert [progress.split(",")[0] for progress in predicted] == ["airbench94"] * 3
    (row,) = (row for row in reported.evaluations.rows if row.name == "airbench94-0123")
    assert ([each.version for each in row.seeds], [each.version for each in row.older]) == ([version(7)], [version(1)])
    pd.testing.assert_series_equal(reported.leaderboard.seeds_mean, before.seeds_mean)
    assert f"{version(1)} (older, in no mean) 0 " in reported.text
    for name in ROWS:
        assert f'alt="Mistakes of {name}"' in reported.page
    assert "has not drawn" not in reported.text

    # A version that is asked for is the only one of its architecture.
    reported.run("evaluation", nodes=["evaluation.evaluate"], load_versions={"simple_cnn.model": version(5)})
    (row,) = (row for row in reported.evaluations.rows if row.architecture == "simple_cnn")
    assert (row.name, [each.version for each in row.seeds]) == ("simple_cnn", [version(5)])
