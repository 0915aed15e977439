"""The project as its users run it, from images to leaderboard, on a demo smaller than the demo."""

import base64
import html
import json
import re
import shutil
from functools import cached_property
from pathlib import Path
from types import SimpleNamespace
from xml.etree import ElementTree

import keras
import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from kedro.framework.session import KedroSession
from kedro.io import DatasetError
from PIL import Image

from cifar10 import cli, figures
from cifar10.architectures import ARCHITECTURES
from cifar10.contracts import Evaluations, Examples, TrainedModel
from cifar10.datasets.arrays import ExamplesDataset
from cifar10.datasets.artifact import VERSION
from cifar10.errors import InputError
from cifar10.pipeline_registry import LAPTOP_RUN, register_pipelines
from cifar10.pipelines.export.formats import FORMATS
from cifar10.pipelines.reporting.nodes import labelled, rank
from cifar10.pipelines.selection import choose, ranked_rows
from cifar10.run_log import _leaderboard
from tests.helpers import (
    CLASS_NAMES,
    PROJECT,
    bootstrap,
    draw_plainly,
    kedro,
    make_evaluation,
    make_evaluations,
    make_record,
    run,
)

TINY = {"epochs": 2, "batch_size": 64}


def versions(path):
    return sorted(folder.name for folder in path.iterdir())


def latest(path):
    return path / versions(path)[-1] / path.name


def evaluations(data):
    path = latest(data / "08_reporting/evaluations.json")
    return {row.name: row.first for row in Evaluations.read(path).rows}


def metrics(data, architecture):
    return evaluations(data)[architecture].metrics


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """The data folder after a default run with shorter trainings."""
    folder = tmp_path_factory.mktemp("data")
    with pytest.MonkeyPatch.context() as patch:
        draw_plainly(patch)
        run(folder, simple_cnn={"epochs": 1, "examples": 2000}, deep_cnn={"epochs": 1, "examples": 320})
    return folder


@pytest.fixture
def copy(data, tmp_path):
    return shutil.copytree(data, tmp_path / "data")


def test_default_run_ends_with_a_leaderboard(data):
    leaderboard = pd.read_csv(latest(data / "08_reporting/leaderboard.csv"))
    assert sorted(leaderboard.architecture) == ["deep_cnn", "simple_cnn"]
    assert leaderboard.val_accuracy.is_monotonic_decreasing
    for row in leaderboard.itertuples():
        assert row.accuracy == metrics(data, row.architecture).accuracy


def test_the_report_says_how_to_train_each_model_again(data):
    """In this environment and folder, with what `--params` said of the recipe, too."""
    page = html.unescape(latest(data / "08_reporting/report.html").read_text(encoding="utf-8")).replace("<wbr>", "")
    command = f"kedro run --env=demo --pipelines=train_{{}} --params=data_root={data}"
    assert f"<code>{command.format('simple_cnn')},simple_cnn.epochs=1,simple_cnn.examples=2000</code>" in page
    assert f"<code>{command.format('deep_cnn')},deep_cnn.epochs=1,deep_cnn.examples=320</code>" in page
    assert "<title>2 models on the demo's synthetic shapes</title>" in page


def test_one_epoch_of_the_demo_learns(data):
    assert metrics(data, "simple_cnn").accuracy > 0.3


def test_every_artifact_is_there_under_one_version(data):
    figures = {path.name for path in data.rglob("*.png") if path.is_file()}
    tables = {path.name for path in data.rglob("*.csv") if path.is_file()}
    both = ("simple_cnn", "deep_cnn")
    of_each = {
        f"{name}_{figure}.png" for name in both for figure in ("learning_curves", "confusion_matrix", "mistakes")
    }
    of_all = {"comparison", "trade_offs", "overlaid_curves", "calibration", "per_class", "pairs", "samples"}
    assert figures == of_each | {f"{name}.png" for name in of_all}
    assert tables == {f"{name}_{table}.csv" for name in both for table in ("history", "layers")} | {
        "leaderboard.csv",
        "pairs.csv",
    }
    assert not list((data / "06_models").glob("*_checkpoint"))  # a finished run leaves none
    (version,) = {part for path in data.rglob("*") for part in path.parts if VERSION.fullmatch(part)}
    predictions = {path.relative_to(data) for path in data.rglob("*.npz") if path.stem == version}
    assert predictions == {Path(f"07_model_output/predictions/{name}/{version}.npz") for name in both}


def test_saved_model_needs_nothing_but_keras(data):
    model = keras.saving.load_model(latest(data / "06_models/simple_cnn.keras"))
    with np.load(data / "02_intermediate/test_examples.npz") as test:
        probabilities = model.predict(test["images"], verbose=0)
        accuracy = (probabilities.argmax(axis=1) == test["labels"]).mean()
    assert accuracy == pytest.approx(metrics(data, "simple_cnn").accuracy)
    layers = pd.read_csv(latest(data / "06_models/simple_cnn_layers.csv"))
    assert layers.parameters.sum() == model.count_params()
    assert layers.trained.sum() == sum(np.prod(weight.shape) for weight in model.trainable_weights)


def test_second_evaluation_gives_equal_metrics_in_a_new_version(copy):
    before = metrics(copy, "simple_cnn")
    shutil.rmtree(copy / "07_model_output/predictions/simple_cnn")
    run(copy, "evaluation", nodes=["evaluation.evaluate"])
    assert len(versions(copy / "08_reporting/evaluations.json")) == 2
    assert metrics(copy, "simple_cnn") == before


def test_older_model_is_evaluated_with_its_own_record(copy):
    before = evaluations(copy)["simple_cnn"]
    (first,) = versions(copy / "06_models/simple_cnn.keras")
    both_nodes = ["training.simple_cnn.train", "evaluation.evaluate"]
    recipe = {**TINY, "epochs": 1, "examples": 320, "seed": 5}
    run(copy, "train_simple_cnn", "evaluation", nodes=both_nodes, eager=True, simple_cnn=recipe)
    both = {name: each for name, each in evaluations(copy).items() if name != "deep_cnn"}
    assert {name.split("-")[0] for name in both} == {"simple_cnn"}
    older, newer = sorted(both.values(), key=lambda each: each.version)
    assert older.metrics == before.metrics
    assert (newer.record.seed, newer.record.epochs) == (5, 1)
    assert newer.version > before.version

    evaluate = ["evaluation.evaluate"]
    run(copy, "evaluation", nodes=evaluate, load_versions={"simple_cnn.model": first}, eager=True)
    again = evaluations(copy)["simple_cnn"]
    assert (again.version, again.record, again.metrics) == (first, before.record, before.metrics)
    table = pd.read_csv(copy / f"06_models/simple_cnn_history.csv/{first}/simple_cnn_history.csv")
    pd.testing.assert_frame_equal(pd.DataFrame(before.record.history).astype({"joules": float}), table)

    with pytest.raises(InputError, match=r"simple_cnn.keras has no version 1999: it has"):
        run(copy, "evaluation", nodes=evaluate, load_versions={"simple_cnn.model": "1999"})


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="only TensorFlow exports")
def test_winner_is_exported(copy, tmp_path, monkeypatch):
    import onnxruntime

    run(copy, "export")
    winner = pd.read_csv(latest(copy / "08_reporting/leaderboard.csv")).architecture[0]
    folder = copy / f"07_model_output/serving/{winner}"
    assert sorted(path.name for path in folder.iterdir()) == ["1", "config.pbtxt"]
    card = json.loads((folder / "1/model_card.json").read_text())
    assert card["class_names"] == CLASS_NAMES
    assert card["metrics"]["accuracy"] == metrics(copy, winner).accuracy
    assert pd.read_csv(latest(copy / "07_model_output/export.csv")).format.tolist() == list(FORMATS)
    session = onnxruntime.InferenceSession(folder / "1/model.onnx")
    with np.load(copy / "02_intermediate/test_examples.npz") as test:
        (answers,) = session.run(["probabilities"], {"images": test["images"].astype("float32")})
        assert (answers.argmax(axis=1) == test["labels"]).mean() == pytest.approx(card["metrics"]["accuracy"])
        Image.fromarray(test["images"][0]).save(tmp_path / "cat.jpg", "PNG")
    assert {each.shape[0] for each in (*session.get_inputs(), *session.get_outputs())} == {"n"}

    monkeypatch.chdir(folder / "1")  # in which the code of the docs and of the model card finds everything
    for page in (PROJECT / "docs/serving.md", folder / "1/README.md"):
        code = re.search(r"```python\n(.*?)```", page.read_text(), re.DOTALL)[1]
        code = code.replace("data/07_model_output/serving/simple_cnn/1", ".")
        exec(code.replace("cat.jpg", str(tmp_path / "cat.jpg")), result := {})
        results = [result[name] for name in ("onnx", "litert", "probabilities") if name in result]
        assert len(results) == (2 if page.name == "serving.md" else 1)
        for each in results:
            np.testing.assert_allclose(each, answers[:1], atol=1e-4)


def test_network_from_imagenet_joins_the_leaderboard(copy, builder_options, reference):
    name = "mobilenetv2_imagenet"
    recipe = {**TINY, **builder_options(name), "examples": 128, "head_epochs": 1, "epochs": 1, "unfreeze": 20}
    recipe["compute_dtype"] = "float32"  # in which the saved network predicts
    nodes = [f"training.{name}.train", f"training.{name}.list_layers", "evaluation.evaluate", "reporting.rank"]
    run(copy, f"train_{name}", "evaluation", "reporting", nodes=nodes, eager=True, test_time_augmentation="flip",
        **{name: recipe})  # fmt: skip
    evaluation = evaluations(copy)[name]
    record = evaluation.record
    assert [row["phase"] for row in record.history] == ["head", "fine-tuning"]
    assert record.phases.keys() == {"head", "fine-tuning"}
    assert record.val_accuracy == max(row["val_accuracy"] for row in record.history)
    assert evaluation.metrics.val_accuracy == pytest.approx(record.val_accuracy, abs=0.01)
    assert (record.image_size, record.recipe["alpha"]) == (32, 1.0)
    leaderboard = pd.read_csv(latest(copy / "08_reporting/leaderboard.csv")).set_index("architecture")
    assert set(leaderboard.index) == {"simple_cnn", "deep_cnn", name}
    assert leaderboard.initial_weights[name].startswith(f"{name}.weights.h5")
    assert leaderboard.training_examples[name] == 128
    assert list(leaderboard.views.unique()) == ["flip"]
    assert (abs(leaderboard.averaged_accuracy - leaderboard.accuracy) < 0.2).all()
    layers = pd.read_csv(latest(copy / f"06_models/{name}_layers.csv")).set_index("layer")
    last = reference(name).layers[-recipe["unfreeze"] :]
    kernels = [layer for layer in last if type(layer).__name__ != "BatchNormalization"]
    assert layers.trained["backbone"] == sum(layer.count_params() for layer in kernels) > 0


def test_missing_weights_are_reported_before_any_training(data, kedro_run, monkeypatch):
    monkeypatch.setattr("cifar10.training.fit.fit", lambda *_, **__: pytest.fail("trained"))
    arguments = ["--env=demo", "--pipelines=train_vgg16_imagenet"]
    result = kedro_run(*arguments, f"--params=data_root={data},vgg16_imagenet.weights=nowhere.weights.h5")
    assert result.exit_code == 1
    assert "Error: vgg16_imagenet: there is no file nowhere.weights.h5" in result.stderr
    assert "Traceback" not in result.output
    assert not (data / "06_models/vgg16_imagenet.keras").exists()


@pytest.mark.slow  # test_mixed_runs.py shows the same of networks that are quicker to train
def test_seeds_of_one_recipe_are_summarised(copy):
    for seed in (2, 0, 2):
        run(copy, "train_simple_cnn", simple_cnn={**TINY, "examples": 320, "seed": seed})
    run(copy, "evaluation", "reporting")
    trained = versions(copy / "06_models/simple_cnn.keras")  # the first by another recipe
    (row,) = (
        row for row in Evaluations.read(latest(copy / "08_reporting/evaluations.json")).rows if len(row.seeds) > 1
    )
    assert [(each.record.seed, each.version) for each in row.seeds] == [(0, trained[2]), (2, trained[3])]
    board = pd.read_csv(latest(copy / "08_reporting/leaderboard.csv")).set_index("name")
    assert sorted(board.architecture) == ["deep_cnn", "simple_cnn", "simple_cnn"]
    line, accuracies = board.loc[row.name], [each.metrics.accuracy for each in row.seeds]
    assert (line.seeds, line.seeds_mean) == (2, pytest.approx(np.mean(accuracies)))
    assert np.isnan(line.seeds_low)  # an interval takes three
    assert line.accuracy == accuracies[0]
    assert line.train_accuracy == row.first.metrics.train_accuracy
    assert board.seeds["deep_cnn"] == 1


def test_history_lists_every_version(copy):
    run(copy, "train_simple_cnn", simple_cnn={"epochs": 1, "examples": 64, "seed": 7}, eager=True)
    run(copy, "history")
    runs = pd.read_csv(latest(copy / "08_reporting/runs.csv"))
    assert list(runs.architecture[1:].sort_values()) == ["deep_cnn", "simple_cnn"]
    newest = runs.iloc[0]
    assert (newest.architecture, newest.seed, newest.epochs) == ("simple_cnn", 7, 1)
    assert np.isnan(newest.accuracy)  # not evaluated yet
    assert list(runs.accuracy[1:].notna()) == [True, True]


def test_winner_classifies_the_users_images(copy, tmp_path, caplog):
    folder = tmp_path / "images"
    folder.mkdir()
    with np.load(copy / "02_intermediate/test_examples.npz") as test:
        for place in range(3):
            large = Image.fromarray(test["images"][place]).resize((320, 320), Image.Resampling.NEAREST)
            large.save(folder / f"{place}.png")
    board = pd.read_csv(latest(copy / "08_reporting/leaderboard.csv"))
    run(copy, "predict", image=str(folder))
    table = pd.read_csv(latest(copy / "07_model_output/prediction.csv"))
    network = keras.saving.load_model(latest(copy / f"06_models/{board.architecture[0]}.keras"))
    with np.load(copy / "02_intermediate/test_examples.npz") as test:
        expected = network.predict(test["images"][:3], verbose=0).argmax(axis=1)
    assert list(table.image) == ["0.png", "1.png", "2.png"]
    assert [CLASS_NAMES.index(label) for label in table.label] == list(expected)
    np.testing.assert_allclose(table[CLASS_NAMES].sum(axis=1), 1, rtol=1e-6)
    assert latest(copy / "08_reporting/prediction.png").is_file()
    assert "1.png: " in caplog.text
    (where,) = re.findall(r"Figure: file://(.*), and the table (.*)", caplog.text)
    assert [Path(each).exists() for each in where] == [True, True]

    loser = board.architecture[1]
    run(copy, "predict", image=str(folder / "1.png"), architecture=loser)
    assert len(pd.read_csv(latest(copy / "07_model_output/prediction.csv"))) == 1
    with pytest.raises(InputError, match=r"There is no trained vgg16. Train it"):
        run(copy, "predict", image=str(folder), architecture="vgg16")
    (folder / "notes.txt").write_text("not an image")
    run(copy, "predict", image=str(folder))
    assert len(pd.read_csv(latest(copy / "07_model_output/prediction.csv"))) == 3
    assert "Skipped 1 of the 4 files" in caplog.text


def test_robustness_joins_the_report(copy):
    run(copy, "robustness", "reporting", robustness={"examples": 40, "seed": 0})
    table = pd.read_csv(latest(copy / "08_reporting/robustness.csv"))
    assert len(table) == 2 * 6 * 5
    assert set(table.images) == {40}
    assert table.groupby("architecture").clean_accuracy.nunique().eq(1).all()
    assert latest(copy / "08_reporting/robustness.png").is_file()
    assert "On 40 random test images" in latest(copy / "08_reporting/report.html").read_text()


def test_report_needs_nothing_but_itself(data):
    """No address to fetch from, every drawing inside, every model described."""
    page = latest(data / "08_reporting/report.html").read_text()
    assert not re.findall(r"""(?:src|href)=["'](?!data:(?:image|text/csv)|#)""", page)
    drawings = re.findall(r'src="data:image/svg\+xml;base64,([^"]+)"', page)
    assert len(drawings) == 6 + 2 * 3
    for drawing in drawings:
        svg = base64.b64decode(drawing).decode()
        ElementTree.fromstring(svg)
        assert "var(--ink)" in svg
    board = pd.read_csv(latest(data / "08_reporting/leaderboard.csv"))
    assert page.count("<details") == 2
    assert f"{board.architecture[0]} has the best validation accuracy of 2 models" in page


def test_old_versions_are_deleted_after_they_were_listed(copy, in_project):
    name = "evaluations.json"
    (newest,) = versions(copy / "08_reporting" / name)
    older = ["2020-01-01T00.00.00.000Z", "2020-01-02T00.00.00.000Z"]
    for version in older:
        shutil.copytree(copy / "08_reporting" / name / newest, copy / "08_reporting" / name / version)
    leftover = ".deleted-2019-01-01T00.00.00.000Z"  # of a deletion that was killed
    (copy / "08_reporting" / name / leftover).mkdir()
    named = copy / "06_models/deep_cnn.keras"  # in the leaderboard, so it is kept, however many are newer
    predictions = copy / "07_model_output/predictions/deep_cnn"
    newer = ["2099-01-01T00.00.00.000Z", "2099-01-02T00.00.00.000Z"]
    for version in newer:
        shutil.copytree(named / newest, named / version)
        shutil.copy(predictions / f"{newest}.npz", predictions / f"{version}.npz")
    done = CliRunner().invoke(cli.prune, ["--env=demo", "--keep=1", f"--params=data_root={copy}", "--yes"])
    assert done.exit_code == 0, done.output
    assert all(f"{name}/{version}" in done.output for version in older)
    assert versions(copy / "08_reporting" / name) == [newest]
    assert versions(named) == [newest, newer[1]]
    assert versions(predictions) == [f"{newest}.npz", f"{newer[1]}.npz"]
    run(copy, "reporting")  # everything that it needs is there


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in ARCHITECTURES if name not in LAPTOP_RUN])
def test_every_architecture_trains_and_is_evaluated(copy, builder_options, name):
    """As `kedro run --env=demo --pipelines=train_NAME,evaluation`, with backbones from files that the tests make."""
    transfer = {"head_epochs": 1, "feature_copies": 1} if builder_options(name) else {}
    recipe = {"epochs": 1, "batch_size": 32, "examples": 64, **builder_options(name), **transfer}
    run(copy, f"train_{name}", "evaluation", **{name: recipe})
    assert evaluations(copy)[name].record.training_examples == 64
    assert latest(copy / f"08_reporting/{name}_learning_curves.png").is_file()


def test_models_of_other_data_are_left_out(copy, caplog):
    run(copy, "preprocessing", split_seed=1)
    run(copy, "train_simple_cnn", simple_cnn={**TINY, "epochs": 1, "examples": 320}, eager=True)
    caplog.clear()
    run(copy, "evaluation", "reporting", nodes=["evaluation.evaluate", "reporting.rank"], eager=True)
    left_out = [record.message for record in caplog.records if re.search("eft out|Not trained yet", record.message)]
    older = versions(copy / "06_models/simple_cnn.keras")[0]
    assert f"left out: {older} (trained on other data)" in left_out[0]
    assert left_out[1] == f"deep_cnn: no version; left out: {older} (trained on other data)"
    assert left_out[2].endswith(f": {len(ARCHITECTURES) - len(LAPTOP_RUN)} networks (kedro models lists all)")
    assert list(pd.read_csv(latest(copy / "08_reporting/leaderboard.csv")).architecture) == ["simple_cnn"]
    assert list(evaluations(copy)) == ["simple_cnn"]


def test_images_that_changed_under_a_model_are_refused(copy):
    """Ingested again, but not preprocessed: the statistics, and so the data version, are still the old ones."""
    examples = copy / "02_intermediate/test_examples.npz"
    with np.load(examples) as test:
        np.savez(examples, images=test["images"][::-1], labels=test["labels"][::-1])
    before = versions(copy / "08_reporting/evaluations.json")
    with pytest.raises(InputError, match="The test images have changed since preprocessing"):
        run(copy, "evaluation")
    assert versions(copy / "08_reporting/evaluations.json") == before


def test_a_run_reads_and_hashes_each_split_once(copy, monkeypatch):
    """However many nodes use it and models exist."""
    monkeypatch.setattr("cifar10.pipelines.robustness.nodes.SEVERITIES", (1, 5))
    loads, hashes = [], []
    read, digest = ExamplesDataset.read, Examples.digest.func

    def counted_read(self, path):
        if self._examples is None:
            loads.append(path.stem)
        return read(self, path)

    def counted_digest(self):
        hashes.append(len(self))
        return digest(self)

    counted = cached_property(counted_digest)
    counted.__set_name__(Examples, "digest")
    monkeypatch.setattr(Examples, "digest", counted)
    monkeypatch.setattr(ExamplesDataset, "read", counted_read)
    run(copy, "train_simple_cnn", "evaluation", "robustness", "reporting", eager=True,
        simple_cnn={**TINY, "epochs": 1, "examples": 320}, robustness={"examples": 40, "seed": 0})  # fmt: skip
    assert sorted(loads) == ["test_examples", "train", "val"]
    subsets = (320, 2000)  # on which deep_cnn and simple_cnn were trained
    assert sorted(each for each in hashes if each not in subsets) == [300, 1000, 2700]


def test_evaluation_needs_few_nodes_and_tells_the_untrained_in_one_line(copy, caplog):
    assert len(register_pipelines()["evaluation"].nodes) == 2
    caplog.clear()
    run(copy, "evaluation", nodes=["evaluation.evaluate"])
    lines = [record.message for record in caplog.records if record.name.startswith("cifar10")]
    assert not any("vgg16" in line for line in lines)
    assert sum("Not trained yet" in line for line in lines) == 1


@pytest.mark.parametrize(
    ("artifact", "pipelines"),
    [
        ("06_models/deep_cnn.keras/*/record.json", ("evaluation", "history")),
        ("08_reporting/evaluations.json/*/evaluations.json", ("reporting",)),
        ("03_primary/statistics.json", ("train_simple_cnn",)),
    ],
)
def test_artifacts_of_another_schema_are_refused_before_any_work(copy, caplog, artifact, pipelines):
    (path,) = copy.glob(artifact)
    path.write_text(re.sub('"schema": [0-9]+', '"schema": 99', path.read_text()))
    before = sorted(copy.rglob("*"))
    for pipeline in pipelines:
        caplog.clear()
        with pytest.raises(
            (InputError, DatasetError),
            match=r"schema 99, but this version reads [\d to]+\)\. (Create|Move) .* kedro run",
        ) as error:
            run(copy, pipeline, image=str(copy / "nowhere.png"))
        assert str(path) in str(error.value)
        assert not [record for record in caplog.records if "Running node" in record.message]
    assert sorted(copy.rglob("*")) == before


def test_evaluating_before_training_says_what_to_run(copy):
    shutil.rmtree(copy / "06_models")
    shutil.rmtree(copy / "07_model_output")
    shutil.rmtree(copy / "08_reporting")
    with pytest.raises(InputError, match="kedro run --pipelines=train_simple_cnn,evaluation"):
        run(copy, "evaluation")


def test_several_devices_are_refused_on_tensorflow(copy):
    with pytest.raises(InputError, match="devices=all needs the JAX backend"):
        run(copy, "train_simple_cnn", devices="all")


def test_registry_lists_every_pipeline_without_tensorflow():
    result = kedro("registry", "list", PYTHONPROFILEIMPORTTIME="1")
    assert result.returncode == 0
    assert {"- __default__", "- ingestion_csv", "- train_vgg16"} <= set(result.stdout.splitlines())
    imported = {line.rsplit("|", 1)[-1].strip() for line in result.stderr.splitlines()}
    assert "cifar10.pipelines" in imported  # so these are the imports indeed
    assert not imported & {"tensorflow", "keras", "jax", "sklearn"}


def test_a_run_ends_with_its_result(data, caplog, tmp_path):
    copy = shutil.copytree(data, tmp_path / "data")
    run(copy, "train_simple_cnn", simple_cnn={**TINY, "epochs": 1, "examples": 64}, eager=True)
    path = latest(copy / "06_models/simple_cnn.keras")
    assert re.search(rf"simple_cnn: validation accuracy \d+\.\d\d% \(epoch 1 of 1\), saved as {path}", caplog.text)
    assert f"Next: kedro run --pipelines=evaluation,reporting --env=demo --params=data_root={copy}" in caplog.text
    completed = [record.message for record in caplog.records if record.name.startswith("kedro.runner")]
    names = ("train", "draw_learning_curves", "list_layers")
    assert completed[:-1] == [f"Completed node: training.simple_cnn.{name}" for name in names]
    assert completed[-1].startswith("Pipeline execution completed successfully")

    caplog.clear()
    run(copy, "reporting")
    board = pd.read_csv(latest(copy / "08_reporting/leaderboard.csv"))
    rows = [record.message.split() for record in caplog.records if record.name == "cifar10.run_log"]
    assert [row[1] for row in rows[1:3]] == list(board.architecture)
    assert rows[1][2:4] == [f"{100 * board.val_accuracy[0]:.2f}%", f"{100 * board.accuracy[0]:.2f}%"]
    assert rows[-1] == ["Report:", latest(copy / "08_reporting/report.html").as_uri()]
    assert "draw_robustness" not in caplog.text  # it has drawn nothing


def test_which_version_is_read_is_said_where_there_are_several(tmp_path, caplog):
    first, second, new = (make_evaluations(make_evaluation(version=version)) for version in ("1", "2", "3"))

    def save(version, content):
        path = tmp_path / f"08_reporting/evaluations.json/{version}/evaluations.json"
        path.parent.mkdir(parents=True)
        path.write_text(content.to_json())

    def ranked(**options):
        caplog.clear()
        run(tmp_path, "reporting", nodes=["reporting.rank"], **options)
        board = pd.read_csv(latest(tmp_path / "08_reporting/leaderboard.csv"), dtype=str)
        return board.evaluations[0], [each for each in caplog.messages if "reading version" in each]

    save("2026-01-01T00.00.00.000Z", first)
    assert ranked() == (first.digest, [])
    save("2026-01-02T00.00.00.000Z", second)
    assert ranked() == (second.digest, ["evaluations: reading version 2026-01-02T00.00.00.000Z, the newest of 2"])
    pinned = ranked(load_versions={"evaluations": "2026-01-01T00.00.00.000Z"})
    assert pinned == (first.digest, ["evaluations: reading version 2026-01-01T00.00.00.000Z, one of 2"])
    save("2026-01-03T00.00.00.000Z", new)
    assert ranked() == (new.digest, ["evaluations: reading version 2026-01-03T00.00.00.000Z, the newest of 3"])


def test_every_dataset_has_a_layer_and_every_node_a_stage():
    bootstrap()
    with KedroSession.create(PROJECT) as session:
        catalog = session.load_context().catalog
    pipelines = register_pipelines()
    for pipeline in pipelines.values():
        for name in pipeline.datasets():
            if not name.startswith("params:"):
                assert catalog.get(name).metadata["kedro-viz"]["layer"], name
    stages = {node.namespace.split(".")[0] for node in pipelines["__default__"].nodes}
    assert stages == {"ingestion", "preprocessing", "training", "evaluation", "reporting"}


def test_hashes_that_look_like_numbers_stay_text(tmp_path):
    bootstrap()
    with KedroSession.create(PROJECT, env="demo", runtime_params={"data_root": str(tmp_path)}) as session:
        catalog = session.load_context().catalog
    record = make_record(recipe_hash="12e456789012", data_version="0123", fingerprint="456", versions={"commit": "7e8"})
    leaderboard = rank(make_evaluations(make_evaluation(record=record)), CLASS_NAMES)
    catalog.save("leaderboard", leaderboard)
    columns = ["recipe_hash", "data_version", "fingerprint", "commit", "evaluations", "identity", "seed_numbers"]
    assert catalog.load("leaderboard")[columns].iloc[0].tolist() == leaderboard[columns].iloc[0].tolist()


@pytest.mark.parametrize("env", ["demo", "published"])
def test_a_leaderboard_has_every_column_that_is_read_of_it_or_is_refused(tmp_path, env):
    bootstrap()
    roots = {"data_root": str(tmp_path), "docs_root": str(tmp_path)}
    with KedroSession.create(PROJECT, env=env, runtime_params=roots) as session:
        catalog = session.load_context().catalog
    evaluations = make_evaluations(make_evaluation(), make_evaluation("vgg19"))
    model = TrainedModel(make_record(), lambda: None, "2026-01-01")
    dataset = catalog.get("leaderboard")
    columns = list(dataset.options["load_args"]["dtype"])
    leaderboard = rank(evaluations, CLASS_NAMES).assign(identity=model.identity)[columns]
    dataset.save(leaderboard)
    loaded = dataset.load()
    for draw in (figures.comparison, figures.trade_offs):
        labelled(draw)(loaded)
    list(_leaderboard(loaded))
    if env == "demo":
        models = SimpleNamespace(
            names=lambda: ["vgg16"], versions=lambda name: [model.version], load=lambda name, version: model
        )
        assert choose(models, loaded, None, CLASS_NAMES, "winner", "architecture") is model
        assert ranked_rows(loaded)[0]["evaluations"] == evaluations.digest
    for column in columns:
        leaderboard.drop(columns=column).to_csv(dataset.path, index=False)
        with pytest.raises(DatasetError, match=rf"could not be read: it has no column {column}\. Create it again"):
            dataset.load()


def test_old_option_still_runs_a_pipeline(tmp_path):
    result = kedro("run", "--env=demo", "--pipeline=ingestion", f"--params=data_root={tmp_path}")
    assert result.returncode == 0, result.stderr
    assert (tmp_path / "02_intermediate/train_examples.npz").exists()
