"""`kedro compare` and `kedro models`: versions side by side, found as `kedro run` finds them."""

import re
import resource
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from kedro.io import DataCatalog, MemoryDataset

from cifar10 import cli, comparison, terminal
from cifar10.architectures import ARCHITECTURES
from cifar10.architectures.facts import FACTS
from cifar10.comparison import _differences, differing_options
from cifar10.contracts import Examples, Pair, Predictions, TrainedModel
from cifar10.datasets.arrays import ExamplesDataset, PredictionsDataset, PredictionStore
from cifar10.datasets.checkpoint import CheckpointDataset
from cifar10.datasets.files import AllEvaluationsDataset, TextDataset
from cifar10.datasets.model import Models, ModelsDataset
from cifar10.datasets.published import PublishedDataset
from cifar10.pipelines.reporting.formatting import latency
from cifar10.training.checkpoint import IN_RECORD, Checkpoint, Checkpoints
from tests.helpers import CLASS_NAMES, PROJECT, make_evaluation, make_evaluations, make_record, make_row

V1, V2, V3, V4 = (f"2026-01-0{day}T00.00.00.000Z" for day in (1, 2, 3, 4))
PUBLISHED = ("vgg19", "vgg16")


def split(count, seed):
    generator = np.random.default_rng(seed)
    images = generator.integers(0, 256, (count, 32, 32, 3), dtype=np.uint8)
    return Examples(images, (np.arange(count) % 10).astype(np.uint8))


def probabilities(labels, wrong):
    """Return probabilities of 0.8 for the true class, or for the next one at these places."""
    predicted = labels.astype(int)
    predicted[wrong] = (predicted[wrong] + 1) % 10
    return np.where(np.arange(10) == predicted[:, None], 0.8, 0.02).astype(np.float32)


def make_model(root, name, version, wrong=None, **changes):
    """Make a version, and its predictions, which are wrong at these places of both splits; None: without any."""
    folder = root / f"06_models/{name}.keras/{version}"
    folder.mkdir(parents=True)
    (folder / f"{name}.keras").write_bytes(f"{name} {version}".encode())
    history = [
        {"phase": "training", "epoch": epoch, "accuracy": 0.5, "loss": 1.0, "val_accuracy": 0.2 * epoch,
         "val_loss": 0.5, "learning_rate": 0.1, "seconds": 1.0, "joules": None}
        for epoch in (1, 2, 3, 4)
    ]  # fmt: skip
    record = make_record(architecture=name, digests=DIGESTS, **{"history": history, **changes})
    (folder / "record.json").write_text(record.to_json())
    if wrong is not None:
        model = Models(root / "06_models").load(name, version)
        made = (probabilities(SPLITS[split].labels, wrong) for split in ("val", "test"))
        empty = np.empty((0, 10), np.float32)
        PredictionStore(root / "07_model_output/predictions").save(model, Predictions(model.identity, empty, *made))


SPLITS = {"val": split(50, 0), "test": split(100, 1)}
DIGESTS = {name: examples.digest for name, examples in SPLITS.items()}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A data folder with three versions of one network and one of another; the newest has no predictions."""
    root = tmp_path_factory.mktemp("made")
    for name, path in (("val", "03_primary/val.npz"), ("test", "02_intermediate/test_examples.npz")):
        (root / path).parent.mkdir()
        ExamplesDataset(filepath=str(root / path)).save(SPLITS[name])
    make_model(root, "simple_cnn", V1, wrong=[0, 1, 2, 3, 10, 20, 30])
    make_model(root, "simple_cnn", V2, wrong=[0, 5], recipe={"shift": 2}, recipe_hash="fedcba987654",
               versions={"commit": "def", "keras": "3"})  # fmt: skip
    make_model(root, "simple_cnn", V3, recipe={"seed": 1})
    make_model(root, "vgg16", V1, wrong=[1], recipe={"train_on": "all"}, val_accuracy=None, hardware="another machine")
    return root


@pytest.fixture
def root(made, tmp_path):
    """A copy of it."""
    return shutil.copytree(made, tmp_path / "root")


def catalog_of(root):
    """Return what the commands use of the catalog."""
    filepaths = {
        "models": (ModelsDataset, "06_models"),
        "predictions": (PredictionsDataset, "07_model_output/predictions"),
        "all_evaluations": (AllEvaluationsDataset, "08_reporting/evaluations.json"),
        "val": (ExamplesDataset, "03_primary/val.npz"),
        "test_examples": (ExamplesDataset, "02_intermediate/test_examples.npz"),
        "published": (PublishedDataset, "published"),
        "compare": (TextDataset, "compare.html"),
    }
    for name in ("simple_cnn", "vgg16"):
        filepaths[f"{name}.checkpoint"] = (CheckpointDataset, f"06_models/{name}_checkpoint")
    catalog = DataCatalog({name: dataset(filepath=str(root / path)) for name, (dataset, path) in filepaths.items()})
    catalog["training_commands"] = MemoryDataset(lambda trainings: [name for name, _ in trainings], copy_mode="assign")
    return catalog


@pytest.fixture
def command(monkeypatch):
    """Return a function that runs a command on a data folder, without reading the configuration."""

    def run(root, name, *arguments):
        monkeypatch.setattr(cli, "_catalog", lambda *_: catalog_of(root))
        return CliRunner().invoke(getattr(cli, name), arguments)

    return run


@pytest.fixture
def whole_command(in_project):
    """Return a function that runs a command as a user types it."""
    return lambda name, *arguments, env=None: CliRunner().invoke(getattr(cli, name), arguments, env={"KEDRO_ENV": env})


def page_of(result):
    """Return the page that the last line names."""
    assert result.exit_code == 0, result.output
    (path,) = re.findall(r"^Page: file://(.*)$", result.output.splitlines()[-1])
    with open(path, encoding="utf-8") as file:
        return file.read()


@pytest.mark.parametrize(
    ("value", "text"), [(0.123, "p = 0.12"), (0.00004, "p = 4e-05"), (3e-98, "p = 3e-98"), (0.0, "p < 1e-99")]
)
def test_p_value_is_never_said_to_be_zero(value, text):
    pair = Pair(
        first="A",
        second="B",
        first_only=1,
        second_only=6,
        difference=-0.1,
        low=-0.2,
        high=0.0,
        p_value=value,
        p_holm=value,
        significant=value < 0.05,
    )
    assert f"(McNemar's exact test, {text})." in comparison._verdict(pair, 50, 1)


def test_two_versions_side_by_side(root, command):
    result = command(root, "compare", f"simple_cnn:{V1}", f"simple_cnn:{V2}")
    page, text = page_of(result), " ".join(result.output.split())
    sentence = (
        "Validation: B is 10.00 points ahead of A (95% CI of the difference +0.00 to +20.00), which is not "
        "significant: of 50 images, only B is right on 6, and only A on 1 (McNemar's exact test, p = 0.12)."
    )
    assert sentence in text
    assert sentence.replace("'", "&#39;") in " ".join(page.split())
    assert "Test: B is 5.00 points ahead of A" in text
    assert "one between these trainings" in text
    # What differs, and only that.
    assert re.search(r"recipe shift 0 2 code commit abc def The same: network, data, machine\.", text), text
    # Class 0 lost places 10, 20 and 30 with A alone; class 5 lost place 5 with B alone.
    assert re.search(r"^disc +5 +20\.0% +80\.0% +3 +0 +\+3$", result.output, re.MULTILINE)
    assert re.search(r"^triangle +5 +100\.0% +80\.0% +0 +1 +-1$", result.output, re.MULTILINE)
    assert "Only B, the clearest first: 1, 2, 3, 10, 20, 30" in text
    assert "Only A, the clearest first: 5" in text
    # The page has the seven images, with what both predict, and needs nothing else.
    assert page.count('src="data:image/png;base64,') == 7
    assert "<b>disc</b> #10<br>A: ring 80%<br>B: disc 80%" in page
    assert not re.search(r'(src|href)="(?!data:|#)', page)
    assert "<title>simple_cnn 2026-01-01T00.00.00.000Z and simple_cnn 2026-01-02T00.00.00.000Z</title>" in page


def test_lines_fit_into_a_file_of_100_characters(root, command):
    output = command(root, "compare", f"simple_cnn:{V1}", f"simple_cnn:{V2}", "vgg16").output
    for text in (output, command(root, "models").output, command(root, "models", "simple_cnn").output):
        assert all(len(line) <= 100 for line in text.splitlines() if "/" not in line)
    assert "densenet121_imagenet " in command(root, "models").output  # not broken


def test_architectures_fit_into_a_terminal_of_80_characters(root, command, monkeypatch):
    monkeypatch.setattr(terminal, "WIDTH", 80)
    output = command(root, "models").output
    assert "MFLOP" not in output.splitlines()[0]
    table = [line.split()[0] for line in output.splitlines()[2 : 2 + len(ARCHITECTURES)]]
    assert table == [*ARCHITECTURES]  # none takes two lines


def test_the_newest_is_meant_and_predictions_that_are_missing_say_what_to_run(root, command):
    result = command(root, "compare", "simple_cnn", f"simple_cnn:{V1}")
    page, text = page_of(result), " ".join(result.output.split())
    assert V3 in text
    assert "The predictions of A are not saved" in text
    assert "To make them: kedro run --pipelines=evaluation (with the same --env and data_root); for older" in text
    assert "All are trainings of one recipe and network" in text
    assert re.search(r"recipe seed 1 0 The same: network, data, code, machine\.", text)
    assert "| *" in text  # both have the same curve
    assert "McNemar" not in text + page
    assert 'id="images"' not in page


def test_what_a_removed_architecture_lacks_is_not_advised(root, command, monkeypatch):
    """Neither to evaluate it, nor to choose it."""
    monkeypatch.delitem(ARCHITECTURES, "simple_cnn")
    text = " ".join(command(root, "compare", "simple_cnn", f"simple_cnn:{V1}").output.split())
    assert "The predictions of A are not saved, so there is no comparison image by image." in text
    assert "To make them" not in text
    (choices,) = re.findall("choose a trained one: (.*)", command(root, "compare", "vgg16", "vgg19").output)
    assert "vgg16" in choices
    assert "simple_cnn" not in choices


@pytest.mark.parametrize(
    ("recipes", "said"),
    [
        ("ab", "Each recipe is represented by one training. A difference"),
        ("aab", "Some recipes are represented by one training. A difference"),
        ("aabb", "A difference"),
        ("aa", "All are trainings of one recipe and network"),
    ],
)
def test_how_many_trainings_represent_a_recipe(recipes, said):
    models = [TrainedModel(make_record(recipe_hash=each), lambda: None) for each in recipes]
    (caveat,) = comparison._caveats([comparison.Side("A", model, None, None, None) for model in models])
    assert caveat.startswith(said)


def test_a_model_trained_on_the_validation_images_is_compared_on_test(root, command):
    result = command(root, "compare", f"simple_cnn:{V2}", "vgg16", f"simple_cnn:{V1}")
    text = " ".join(result.output.split())
    page_of(result)
    assert "Trained on the validation images, too: B." in text
    assert "Validation:" not in text
    assert len(re.findall(r"Test: [BC] is \S+ points \w+ (?:of )?A .*? p = [\d.]+, p = [\d.]+ with Holm", text)) == 2
    assert "Test accuracy by class, and images that only one of A and B gets right" in text
    assert re.search(r"machine hardware a machine another machine a machine", text)


@pytest.mark.parametrize("missing", ["03_primary", "02_intermediate"])
def test_without_images_there_is_no_comparison_by_image(root, command, missing):
    shutil.rmtree(root / missing)
    text = " ".join(command(root, "compare", f"simple_cnn:{V1}", f"simple_cnn:{V2}").output.split())
    assert "The images of these models are not at hand" in text
    assert "preprocessing (with the --env, data_root, raw files and split of their training)" in text
    assert "recipe shift 0 2" in text


@pytest.mark.parametrize(
    ("models", "message"),
    [
        ([], "There is no model to compare. Name two or more: kedro compare NAME:VERSION NAME:VERSION"),
        (["vgg16,simple_cnn"], "Separate models by spaces: kedro compare vgg16 simple_cnn"),
        (["vgg16"], "There is only one model to compare. Name two or more: kedro compare vgg16 OTHER_NAME"),
        (["simple_cnn"], f"kedro compare simple_cnn:{V2} simple_cnn:{V3}"),
        (
            ["vgg16", "simple_cnn-foo"],
            "There is no row simple_cnn-foo in the latest evaluation; make one: kedro run",
        ),
        (["vgg16", "simple_cnn-foo:1"], "There is no architecture simple_cnn-foo; did you mean simple_cnn?"),
        (["vgg16", "vgg61"], "There is no architecture vgg61; did you mean vgg16?"),
        (["vgg16", f"vgg16:{V2}"], f"vgg16 has no version {V2}: it has {V1}."),
        (["vgg16", "vgg19"], "There is no trained vgg19. Train it (kedro run --pipelines=train_vgg19"),
        (["simple_cnn", f"simple_cnn:{V3}"], f"simple_cnn, version {V3}, is given twice"),
        (["simple_cnn"] * 6, "6 models are too many to compare side by side: name up to 5."),
        (["vgg16", "deep_cnn"], f"vgg16 {V1} and deep_cnn {V2} cannot be compared, because they are of different data"),
        (["vgg16", "googlenet"], "cannot be compared, because their class names differ"),
    ],
)
def test_a_mistake_ends_in_one_sentence(root, command, models, message):
    make_model(root, "deep_cnn", V2, data_version="another data version")
    make_model(root, "googlenet", V2, class_names=[*CLASS_NAMES[:9], "other"])
    result = command(root, "compare", *models)
    assert (result.exit_code, result.output.count("Error: ")) == (1, 1), result.output
    assert message in result.output
    assert not (root / "compare.html").exists()


def test_a_row_of_the_latest_evaluation_names_its_model(root, command):
    """Not a version of the same recipe that the evaluation left out, as one of other data."""
    models = Models(root / "06_models")
    for day, rows in ((4, {"simple_cnn-0123": V3}), (5, {"simple_cnn-0123": V1, "simple_cnn-fedc": V2})):
        evaluated = [
            make_row(make_evaluation(version=version, record=models.load("simple_cnn", version).record), name=name)
            for name, version in rows.items()
        ]
        path = root / f"08_reporting/evaluations.json/2026-01-0{day}T00.00.00.000Z/evaluations.json"
        path.parent.mkdir(parents=True)
        path.write_text(make_evaluations(*evaluated).to_json())
    text = command(root, "compare", "simple_cnn-0123", "simple_cnn-fedc").output
    assert re.findall(r"2026-\d\d-\d\dT\S+", text)[:2] == [V1, V2]
    text = command(root, "compare", "simple_cnn-0123", "simple_cnn-fed").output
    assert "There is no row simple_cnn-fed in the latest evaluation; did you mean simple_cnn-fedc?" in text


def test_a_better_version_than_the_newest_is_named(root, command):
    """Only of a name without a version, which others take for the best one."""
    for version, accuracy in ((V1, 0.95), (V2, 0.9)):
        make_model(root, "deep_cnn", version, wrong=[1], val_accuracy=accuracy)
    text = " ".join(command(root, "compare", "deep_cnn", f"simple_cnn:{V1}").output.split())
    assert f"deep_cnn is its newest version here. Better by validation accuracy (95.00%): deep_cnn:{V1}" in text
    for names in ((f"deep_cnn:{V2}", f"simple_cnn:{V1}"), (f"deep_cnn:{V1}", "vgg16")):
        assert "its newest version" not in command(root, "compare", *names).output


def test_nothing_trained(tmp_path, command):
    result = command(tmp_path, "compare", "vgg16", "vgg19")
    assert "Error: There is no trained vgg16. Train it (kedro run --pipelines=train_vgg16" in result.output
    assert "there is none yet" in result.output
    listed = command(tmp_path, "models").output
    assert re.search(r"^vgg16 +14,732,490 +626 +32 px +- +- +- +94% \[\d+\]$", listed, re.MULTILINE)
    assert listed.endswith("\nTo train one: kedro run --pipelines=train_NAME. Its versions: kedro models NAME\n")
    assert "kedro run --pipelines=train_vgg16" in command(tmp_path, "models", "vgg16").output
    assert "There is no architecture vgg61; did you mean vgg16?" in command(tmp_path, "models", "vgg61").output


def test_a_network_of_which_nothing_is_known_says_where_to_add_it(tmp_path, command, monkeypatch):
    monkeypatch.setattr(terminal, "FACTS", {name: facts for name, facts in FACTS.items() if name != "vgg16"})
    listed = command(tmp_path, "models").output
    assert re.search(r"^vgg16( +-){7}$", listed, re.MULTILINE)
    assert re.search(r"Nothing is known of ([\w, ]+, )?vgg16: add a row to src/cifar10/architectures/facts.py", listed)


def test_unfinished_trainings_of_a_network(tmp_path, whole_command):
    """Whether a version has been trained or not; one that has not come to its first checkpoint is none."""
    checkpoints = Checkpoints(tmp_path / "06_models/simple_cnn_checkpoint")

    def identity(seed, backend="tensorflow"):
        return {"architecture": "simple_cnn", "recipe": {"epochs": 3, "seed": seed}, "backend": backend}

    for each, history in ((identity(7), [{}, {}]), (identity(8), []), (identity(9, "jax"), [{}])):
        with checkpoints.lock(each):
            if history:
                checkpoints.save(each, Checkpoint([np.zeros(1)], None, {"history": history}))
    folder = f"--params=data_root={tmp_path}"
    lines = whole_command("models", "simple_cnn", "--env=demo", folder).output.splitlines()
    text = " ".join(lines)
    assert text.count("Unfinished, seed ") == 2
    assert "Unfinished, seed 7, after 2 epochs. To resume it with the same network and data:" in text
    (resumes,) = (line for line in lines if line.startswith("kedro run --env=demo --pipelines=train_simple_cnn "))
    assert f"{folder},simple_cnn." in resumes
    assert {"simple_cnn.epochs=3", "simple_cnn.seed=7"} <= set(resumes.split(","))
    (on_jax,) = (line for line in lines if line.startswith("KERAS_BACKEND=jax kedro run --env=demo "))
    assert "simple_cnn.seed=9" in on_jax.split(",")
    folders = [Path(line) for line in lines if Path(line).parent == checkpoints.folder]
    assert sorted(path.name for folder in folders for path in folder.glob("*.npz")) == [
        "epoch_00001.npz",
        "epoch_00002.npz",
    ]
    assert "Unfinished" not in whole_command("models", "vgg16", "--env=demo", folder).output
    with checkpoints.lock(identity(7)):
        text = whole_command("models", "simple_cnn", "--env=demo", folder).output
    assert "Being trained now, seed 7: 2 epochs done." in text
    assert text.count("Unfinished, seed ") == 1


@pytest.mark.parametrize(
    ("epochs", "line"),
    [
        (3, "Saved, seed 0, after 3 epochs, but its run has not come to its end."),
        (2, "Unfinished, seed 0, after 2 epochs."),  # the same training once more
    ],
)
def test_a_saved_model_of_a_run_that_has_not_ended_is_not_called_unfinished(root, command, epochs, line):
    recipe = {"batch_size": 8, "optimizer": "adam", "learning_rate": 0.1, "schedule": "constant"}
    make_model(root, "simple_cnn", V4, recipe=recipe, epochs=3, versions={"commit": None, "tensorflow": "2"})
    record = Models(root / "06_models").load("simple_cnn", V4).record
    identity = {**{name: getattr(record, name) for name in IN_RECORD}, "recipe": record.recipe}
    identity["backend"] = "tensorflow"
    checkpoints = Checkpoints(root / "06_models/simple_cnn_checkpoint")
    with checkpoints.lock(identity):
        checkpoints.save(identity, Checkpoint([np.zeros(1)], None, {"history": [{}] * epochs}))
    lines = command(root, "models", "simple_cnn").output.splitlines()
    assert [each for each in lines if each.startswith(("Saved, ", "Unfinished, "))] == [line]


def test_versions_of_a_network(root, command):
    lines = command(root, "models", "simple_cnn").output.splitlines()
    rows = [line for line in lines if line.startswith("2026")]
    assert [row.split()[:2] for row in rows] == [[V3, "1"], [V2, "0"], [V1, "0"]]
    assert "shift 2" in rows[1]
    assert "best" in rows[0]
    assert "fedc: shift 2" in rows[1]  # as in the name of a row of the leaderboard
    assert [line for line in lines if line.endswith(f"{V1}/simple_cnn.keras")] == [
        f"{root}/06_models/simple_cnn.keras/{V1}/simple_cnn.keras"
    ]
    assert re.search(r"^simple_cnn .* 3 +90\.00% +- ", command(root, "models").output, re.MULTILINE)
    explained = "Best: among the versions of the same data as the latest."
    assert explained not in "\n".join(lines)
    make_model(root, "simple_cnn", V4, data_version="another data version")
    assert explained in command(root, "models", "simple_cnn").output


@pytest.mark.parametrize(
    ("options", "env"),
    [([], "mine"), (["--env=mine"], "demo"), (["--env=base", "--params=data_root={}"], "mine")],
)
def test_data_are_found_as_by_a_run(made, tmp_path, whole_command, options, env):
    shutil.copytree(PROJECT / "conf", tmp_path / "conf")
    (tmp_path / "conf/mine").mkdir()
    (tmp_path / "conf/mine/globals.yml").write_text(f"data_root: {made}\npublished_root: {tmp_path}\n")
    given = [f"--conf-source={tmp_path / 'conf'}", *(each.format(made) for each in options)]
    result = whole_command("models", "simple_cnn", *given, env=env)
    assert str(made / f"06_models/simple_cnn.keras/{V3}") in result.output, result.output


def test_published_models_are_compared_as_in_the_tables(tmp_path, whole_command):
    """Without images, and with the same p-value as in docs/pairs.csv."""
    options = ["--env=published", f"--params=data_root={tmp_path}"]
    result = whole_command("compare", *PUBLISHED, *options)
    page, text = page_of(result), " ".join(result.output.split())
    pairs = pd.read_csv(PROJECT / "docs/pairs.csv").set_index(["second", "first"]).loc[PUBLISHED]
    counts = f"only B is right on {pairs.first_only}, and only A on {pairs.second_only}"
    assert counts in text
    assert f"p = {pairs.p_value:.2g})" in text
    assert "given by their place in the split alone" in text
    assert "data:image/png" not in page
    board = pd.read_csv(PROJECT / "docs/leaderboard.csv").set_index("name")
    for name in PUBLISHED:
        assert f"<td>{latency(board.loc[name].replace(np.nan, None))}</td>" in page
    assert (
        f"Latency: the median of repeated predictions of one image with Keras, on {board.measured_on.iloc[0]}." in text
    )
    row = board.loc["vgg16"]
    line = rf"^vgg16 .* 1 +{row.mean_val_accuracy:.2%} +{row.accuracy:.2%} "
    assert re.search(line, whole_command("models", *options).output, re.MULTILINE)


def test_models_needs_neither_keras_nor_the_pipelines_nor_much_time(root):
    """Less than 4 s on a machine that does nothing else."""
    program = (
        "import sys; from kedro.framework.cli.cli import main; sys.argv[0] = 'kedro'\n"
        "try: main()\n"
        "finally: assert not {'keras', 'tensorflow', 'cifar10.pipeline_registry'} & sys.modules.keys()"
    )
    arguments = ["models", "--env=demo", f"--params=data_root={root}"]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    result = subprocess.run(
        [sys.executable, "-c", program, *arguments], cwd=PROJECT, capture_output=True, text=True, check=False
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert result.returncode == 0, result.stderr
    assert set(ARCHITECTURES) <= {line.split()[0] for line in result.stdout.splitlines() if line.strip()}
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 8


def test_options_that_differ_are_written_as_params_takes_them():
    records = {
        "plain": make_record(recipe={"resolutions": None, "deterministic": False}),
        "other": make_record(recipe={"resolutions": [16, 32], "deterministic": True}),
    }
    texts = differing_options(records)
    assert set(texts["plain"].split(", ")) == {"resolutions null", "deterministic false"}
    assert set(texts["other"].split(", ")) == {"resolutions 16 32", "deterministic true"}


def test_an_option_that_one_training_does_not_use_has_no_value_there():
    """Although its recipe has it, at the default."""
    muon = make_record(recipe={"optimizer": "muon", "schedule": "cosine", "momentum": 0.85, "learning_rate": 0.2})
    adam = make_record(recipe={"optimizer": "adam", "schedule": "cosine", "momentum": 0.9, "learning_rate": 0.001})
    texts = differing_options({"muon": muon, "adam": adam})
    assert set(texts["muon"].split(", ")) == {"optimizer muon", "momentum 0.85", "learning_rate 0.2"}
    assert set(texts["adam"].split(", ")) == {"optimizer adam", "learning_rate 0.001"}
    assert _differences([muon, adam])["recipe"]["momentum"] == ["0.85", "-"]
