"""What is published gives every figure anew, without images, networks or training, and grows model by model."""

import json
import os
import re
import shutil
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from kedro.io import DatasetError

from cifar10.cli import _message as message
from cifar10.compute import inference
from cifar10.contracts import Labels, Predictions, Publication, PublishedModel
from cifar10.datasets import published
from cifar10.datasets.published import PublishedDataset, PublishedEvaluationsDataset, PublishedRobustnessDataset
from cifar10.errors import InputError
from cifar10.pipelines.publish import nodes
from cifar10.pipelines.reporting.nodes import rank
from tests.helpers import CLASS_NAMES, COSTS, PROJECT, draw_plainly, kedro, make_evaluation, make_record, run
from tests.test_mixed_runs import Folder, version

REMARK = "Its initial weights were rounded."
CIFAR10 = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]


@pytest.fixture(scope="module")
def roots(tmp_path_factory, drawn, eager):
    """Two data folders whose models have been evaluated, as on two machines, and one that has all of them."""
    images, test = drawn
    folders = [
        Folder(tmp_path_factory.mktemp(name), images.take(slice(300)), images.take(slice(300, None)), test)
        for name in ("one", "other", "both")
    ]
    one, other, both = folders
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(inference, "seconds_of_calls", lambda call: np.array([0.001]))  # else evaluations would differ
        patch.setattr("cifar10.pipelines.robustness.nodes.SEVERITIES", (1, 5))
        one.add_model("simple_cnn", 1, 0.2)
        one.add_model("simple_cnn", 2, 0.3, recipe={"seed": 1})
        one.add_model("vgg19", 1)
        other.add_model("simple_cnn", 3, 0.25, recipe={"seed": 2})
        unranked = {"recipe": {"train_on": "all"}, "recipe_hash": "a110000000ab", "val_accuracy": None}
        other.add_model("airbench94", 4, **unranked)
        other.add_model("airbench94", 5, 0.4)
        options = {"test_time_augmentation": "flip", "nodes": ["evaluation.evaluate"]}
        for folder in (one, other):
            folder.run("evaluation", **options)
            for part in ("06_models", "07_model_output"):
                shutil.copytree(folder.root / part, both.root / part, dirs_exist_ok=True)
        both.run("evaluation", **options)
        for folder in (one, both):
            folder.run("robustness")
    return folders


@pytest.mark.parametrize("suites", [["project", "CIFAR-10-C"], None], ids=["both", "before there were two"])
def test_corruptions_are_published_with_their_suite(suites):
    evaluation = make_evaluation()
    line = {"corruption": "fog", "severity": 1, "accuracy": 0.5, "clean_accuracy": 0.9, "images": 40}
    table = pd.DataFrame([line] * 2).assign(identity=evaluation.identity)
    model = nodes._describe(evaluation, table if suites is None else table.assign(suite=suites), "")
    assert PublishedModel.from_json(model.to_json(), "a file").robustness == (
        [line] * 2 if suites is None else [{**line, "suite": suite} for suite in suites]
    )


def content(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def folder(roots, tmp_path_factory):
    """The folder in which both have been published, one after the other."""
    folder = tmp_path_factory.mktemp("published")
    one, other, _ = roots
    one.run("publish", published_root=str(folder))
    first = content(folder)
    other.run("publish", published_root=str(folder))
    both = content(folder)
    assert first.items() <= both.items()  # nothing of the first was touched
    one.run("publish", published_root=str(folder))
    assert content(folder) == both
    return folder


@pytest.fixture
def copy(folder, tmp_path):
    return shutil.copytree(folder, tmp_path / "copy")


def report(folder, docs, nodes=None):
    roots = {"docs_root": str(docs), "published_root": str(folder)}
    run(docs, "reporting", nodes=nodes, env="published", class_names=CLASS_NAMES, **roots)


def test_each_model_has_a_folder(folder):
    names = {f"simple_cnn/{version(day)}" for day in (1, 2, 3)} | {f"airbench94/{version(day)}" for day in (4, 5)}
    names.add(f"vgg19/{version(1)}")
    assert set(content(folder)) == {"labels.npz"} | {
        f"{name}/{file}" for name in names for file in ("model.json", "probabilities.npz")
    }


def test_published_models_are_evaluated_as_their_evaluation_did(roots, folder):
    """Every metric, interval, pair and rank is the same number, as the digest says, too."""
    evaluations = PublishedEvaluationsDataset(filepath=str(folder)).load()
    expected = roots[2].evaluations
    assert [row.name for row in expected.rows] == ["vgg19", "simple_cnn", "airbench94-0123", "airbench94-a110"]
    assert evaluations.rows[0].first.metrics.accuracy == expected.rows[0].first.metrics.accuracy
    assert evaluations.rows[1].first.metrics.loss == expected.rows[1].first.metrics.loss
    assert evaluations.pairs == expected.pairs
    assert evaluations == expected
    assert evaluations.digest == expected.digest
    assert evaluations.rows[0].first.metrics.views == "flip"


def test_robustness_is_published(roots, folder, tmp_path):
    table = PublishedRobustnessDataset(filepath=str(folder)).load()
    expected = pd.read_csv(roots[0].latest("robustness.csv"))
    expected = expected[expected.identity.isin(table.identity)]
    order = ["identity", "corruption", "severity", "accuracy", "clean_accuracy", "images"]
    ordered = [each.sort_values(order[:3], ignore_index=True)[order] for each in (table, expected)]
    pd.testing.assert_frame_equal(*ordered)
    roots[1].run("publish", published_root=str(tmp_path))
    assert PublishedRobustnessDataset(filepath=str(tmp_path)).load() is None


def test_report_of_published_models(roots, copy, tmp_path, monkeypatch):
    """Of the folder alone; twice, with the same files."""
    draw_plainly(monkeypatch)
    docs = tmp_path / "docs"
    report(copy, docs)
    first = content(docs)
    drawn = ("comparison", "trade_offs", "overlaid_curves", "calibration", "per_class", "pairs", "robustness")
    assert set(first) == {"leaderboard.csv", "leaderboard.md", "pairs.csv", "report.html"} | {
        f"figures/{name}.{form}" for name in drawn for form in ("png", "svg")
    }
    report(copy, docs)
    assert {name for name, data in content(docs).items() if data != first[name]} <= {"report.html"}

    board = pd.read_csv(docs / "leaderboard.csv", dtype={"recipe_hash": str, "fingerprint": str})
    expected = rank(roots[2].evaluations, CLASS_NAMES)
    assert list(board["name"]) == list(expected["name"])
    for column in ("accuracy", "accuracy_low", "loss", "mean_val_accuracy", "seeds_mean", "calibration_error"):
        np.testing.assert_allclose(board[column], expected[column].astype(float), rtol=1e-7)
    assert set(board.evaluations) == set(expected.evaluations)

    table = (docs / "leaderboard.md").read_text(encoding="utf-8")
    assert "| 2 | `simple_cnn`" in table
    assert "(figures/robustness.png)" in table
    assert "Not run here: batchnorm_cnn, deep_cnn, " in table
    page = (docs / "report.html").read_text(encoding="utf-8")
    assert "Mistakes and Grad-CAM are left out" in page
    assert page.count('alt="Confusion matrix of') == page.count('alt="Learning curves of') == 4
    assert "has not drawn" not in page
    assert 'alt="Test accuracy over the severity' in page


def test_remark_is_published_and_shown(roots, copy, tmp_path):
    before = content(copy)
    roots[0].run("publish", published_root=str(copy), publish={"remarks": {"vgg19": REMARK}})
    changed = {name for name, data in content(copy).items() if data != before[name]}
    assert changed == {f"vgg19/{version(1)}/model.json"}
    report(copy, tmp_path / "docs", nodes=["reporting.rank", "reporting.write_markdown"])
    assert f"† vgg19: {REMARK}" in (tmp_path / "docs/leaderboard.md").read_text(encoding="utf-8")
    assert pd.read_csv(tmp_path / "docs/leaderboard.csv").remark[0] == REMARK
    with pytest.raises(InputError, match=r"publish.remarks: there is no architecture vgg9; did you mean vgg"):
        roots[0].run("publish", published_root=str(copy), publish={"remarks": {"vgg9": REMARK}})


def test_publishing_again_without_remark_and_robustness_keeps_them(roots, copy):
    roots[0].run("publish", published_root=str(copy), publish={"remarks": {"vgg19": REMARK}})
    place = copy / f"vgg19/{version(1)}/model.json"
    published = PublishedModel.read(place)
    assert published.robustness
    dataset = PublishedDataset(filepath=str(copy))
    known = dataset.load()
    probabilities = next(each for model, each in known.models if model == published)
    again = published.model_copy(update={"remark": "", "robustness": []})
    dataset.save(Publication(known.labels, [(again, probabilities)]))
    assert PublishedModel.read(place) == published


@pytest.mark.parametrize("suite", [{}, {"suite": "project"}], ids=["before there were two", "project"])
def test_robustness_to_a_suite_is_kept_where_only_the_other_is_published_again(copy, suite):
    """As from a machine without CIFAR-10-C."""
    dataset = PublishedDataset(filepath=str(copy))
    labels, models = dataset.load()
    model, probabilities = next(each for each in models if each[0].robustness)
    line = model.robustness[0]
    for robustness in (
        [{**line, **suite}, {**line, "suite": "CIFAR-10-C"}],
        [{**line, "suite": "project", "images": 9}],
    ):
        again = model.model_copy(update={"robustness": robustness})
        dataset.save(Publication(labels, [(again, probabilities)]))
    place = copy / f"{model.record.architecture}/{model.version}/model.json"
    assert PublishedModel.read(place).robustness == [*robustness, {**line, "suite": "CIFAR-10-C"}]


def test_of_one_seed_the_newest_version_counts(copy, caplog):
    caplog.set_level("INFO")
    shutil.copytree(copy / f"simple_cnn/{version(2)}", copy / f"simple_cnn/{version(9)}")
    path = copy / f"simple_cnn/{version(9)}/model.json"
    path.write_text(path.read_text().replace(version(2), version(9)))
    (row,) = (
        row for row in PublishedEvaluationsDataset(filepath=str(copy)).load().rows if row.architecture == "simple_cnn"
    )
    assert [each.version for each in row.seeds] == [version(1), version(9), version(3)]
    assert f"simple_cnn: left out: {version(2)} (older, of the same recipe and seed)" in caplog.text


def test_nothing_has_been_evaluated(drawn, tmp_path):
    images, test = drawn
    folder = Folder(tmp_path, images.take(slice(300)), images.take(slice(300, None)), test)
    with pytest.raises(InputError, match=r"evaluations must be created first: kedro run --pipelines=.*evaluation"):
        folder.run("publish", published_root=str(tmp_path / "published"))
    assert not (tmp_path / "published").exists()


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda path, values: path.unlink(), r"vgg19/.*\.npz is missing, damaged, or of another model"),
        (
            lambda path, values: np.savez(path, **{**values, "identity": "another"}),
            r"vgg19/.*\.npz is missing, damaged,",
        ),
        (
            lambda path, values: np.savez(path, **{**values, "test": values["test"][::-1]}),
            r"^vgg19, version .*: its predictions do not give the metrics of the latest evaluation",
        ),
        (
            lambda path, values: np.savez(path, **{**values, "views": "flip_and_shift"}),
            r"^vgg19, version .*: its predictions do not give the metrics of the latest evaluation",
        ),
    ],
)
def test_predictions_of_another_model_are_not_published(roots, tmp_path, change, text):
    root = shutil.copytree(roots[0].root, tmp_path / "root")
    path = root / f"07_model_output/predictions/vgg19/{version(1)}.npz"
    with np.load(path) as arrays:
        values = dict(arrays)
    change(path, values)
    with pytest.raises(InputError, match=text) as error:
        run(root, "publish", published_root=str(tmp_path / "published"))
    assert "kedro run --pipelines=evaluation" in str(error.value)
    assert not (tmp_path / "published").exists()


@pytest.mark.parametrize(
    ("change", "agrees"),
    [
        ({"loss": 0.5 * (1 + 1e-9), "temperature": 1.0 - 1e-12}, True),
        ({"loss": 0.5001}, False),
        ({"test_examples": 101}, False),
        ({"temperature": None}, False),
        ({"views": "flip"}, False),
        ({"confusion": [[1, 2], [3, 5]]}, False),
        ({"reliability": []}, False),
        ({"classes": {"cat": {"recall": 0.25 + 1e-12}}}, True),
        ({"classes": {"dog": {"recall": 0.25}}}, False),
    ],
)
def test_metrics_may_differ_in_their_last_digits_only(change, agrees):
    """As where another kind of processor has evaluated than publishes."""
    metrics = {
        "loss": 0.5, "temperature": 1.0, "views": "none", "test_examples": 100, "confusion": [[1, 2], [3, 4]],
        "reliability": [{"images": 3}], "classes": {"cat": {"recall": 0.25}},
    }  # fmt: skip
    assert nodes._agree(metrics | change, metrics) == agrees


def test_other_data_are_not_published_in_the_same_folder(roots, copy, drawn, tmp_path):
    images, test = drawn
    other = Folder(tmp_path / "other", images.take(slice(100, None)), images.take(slice(100)), test)
    other.add_model("vgg16", 1)
    other.run("evaluation", nodes=["evaluation.evaluate"])
    before = content(copy)
    with pytest.raises((InputError, DatasetError)) as error:
        other.run("publish", published_root=str(copy))
    assert re.match(r".*copy has models of other data .* another folder: --params=published_root", message(error.value))
    assert content(copy) == before


def test_another_model_of_the_same_version_is_not_replaced(roots, copy):
    path = copy / f"vgg19/{version(1)}/model.json"
    identity = json.loads(path.read_text())["identity"]
    path.write_text(path.read_text().replace(identity, "another"))
    before = content(copy)
    with pytest.raises((InputError, DatasetError)) as error:
        roots[0].run("publish", published_root=str(copy))
    assert re.search(r"has another model of the same name and version. Move that folder away", message(error.value))
    assert content(copy) == before


def test_a_model_of_a_newer_version_of_the_project_is_not_replaced(roots, copy):
    """Its remark would be lost."""
    path = copy / f"vgg19/{version(1)}/model.json"
    newer = json.loads(path.read_text()) | {"schema": PublishedModel.SCHEMA + 1, "remark": REMARK}
    path.write_text(json.dumps(newer))
    before = content(copy)
    with pytest.raises((InputError, DatasetError)) as error:
        roots[0].run("publish", published_root=str(copy))
    assert re.search(r"model\.json was written by another version .*, or move .*vgg19.* away", message(error.value))
    assert content(copy) == before


def test_a_killed_publication_leaves_whole_models(roots, tmp_path, monkeypatch):
    writes, savez = [], np.savez

    def killed(file, **values):
        writes.append(file)
        if len(writes) == 3:  # after the labels and one model
            raise KeyboardInterrupt
        savez(file, **values)

    with monkeypatch.context() as patch:
        patch.setattr(published.np, "savez", killed)
        with pytest.raises(KeyboardInterrupt):
            roots[0].run("publish", published_root=str(tmp_path))
    assert len(content(tmp_path)) == 3
    assert len(PublishedDataset(filepath=str(tmp_path)).load().models) == 1
    roots[0].run("publish", published_root=str(tmp_path))
    assert len(PublishedDataset(filepath=str(tmp_path)).load().models) == 3


def truncate(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def edit(**changes):
    def change(path):
        with np.load(path) as arrays:
            values = {name: changes.get(name, lambda array: array)(array) for name, array in arrays.items()}
        np.savez(path, **values)

    return change


def move(path):
    path.parent.rename(path.parent.with_name("2020-01-01T00.00.00.000Z"))


def other_data(path):
    known = json.loads(path.read_text())["record"]["data_version"]
    path.write_text(path.read_text().replace(known, "other data"))


MODEL, PROBABILITIES = (f"vgg19/{version(1)}/{name}" for name in ("model.json", "probabilities.npz"))
AGAIN = "Restore it with git, or publish the model again: kedro run --pipelines=publish"


@pytest.mark.parametrize(
    ("file", "damage", "text"),
    [
        (MODEL, truncate, f"is not valid JSON .*{AGAIN}"),
        (MODEL, lambda path: path.unlink(), f"No such file or directory. {AGAIN}"),
        (MODEL, other_data, "is of a model of other data than labels.npz.* Move the folder"),
        (PROBABILITIES, truncate, f".+{AGAIN}"),
        (PROBABILITIES, lambda path: path.unlink(), f"No such file or directory. {AGAIN}"),
        (PROBABILITIES, edit(test=lambda array: array[1:]), r"its test probabilities are float32 \(99, 10\) for 100"),
        (PROBABILITIES, edit(val=lambda array: array[:, 1:]), r"its val probabilities are float32 \(100, 9\) for 100"),
        (PROBABILITIES, edit(test=lambda array: array.astype(np.float64)), "its test probabilities are float64"),
        (PROBABILITIES, edit(test_averaged=lambda array: array[1:]), r"its test probabilities are float32 \(99, 10\)"),
        (PROBABILITIES, edit(identity=lambda array: np.array("another")), "it is of another model than model.json"),
        ("labels.npz", truncate, f".+{AGAIN}"),
        ("labels.npz", lambda path: path.unlink(), f"No such file or directory. {AGAIN}"),
        ("labels.npz", edit(val=lambda array: array + 100), r"its labels are uint8 \(100,\) for 10 classes"),
        ("labels.npz", edit(data_version=lambda array: np.array("other")), None),
    ],
)  # fmt: skip
def test_damage_ends_in_one_sentence_with_the_name_of_the_file(copy, file, damage, text):
    damage(copy / file)
    with pytest.raises((InputError, DatasetError)) as error:
        PublishedEvaluationsDataset(filepath=str(copy)).load()
    found = message(error.value)
    assert "\n" not in found
    if text:
        assert re.match(f"{re.escape(str(copy / file))} (could not be read: )?{text}", found), found
    else:
        assert "is of a model of other data than labels.npz" in found


def test_a_folder_that_was_moved_is_named(copy, tmp_path):
    move(copy / MODEL)
    with pytest.raises(InputError, match=r"2020-01-01T00.00.00.000Z/model.json is of vgg19, version 2026-01-01"):
        report(copy, tmp_path / "docs")
    assert not (tmp_path / "docs").exists()


def test_damaged_models_are_repaired_by_publishing_them_again(roots, copy):
    before = content(copy)
    truncate(copy / MODEL)
    (copy / PROBABILITIES).unlink()
    (copy / "labels.npz").unlink()
    roots[0].run("publish", published_root=str(copy))
    assert content(copy) == before


def test_published_evaluations_are_not_overwritten(copy):
    with pytest.raises(DatasetError, match="evaluate, then publish: kedro run --pipelines=publish"):
        PublishedEvaluationsDataset(filepath=str(copy)).save("evaluations")


@pytest.fixture(scope="module")
def of_cifar10(tmp_path_factory):
    """A folder with two models of other class names than the demo's, whose probabilities are random."""
    folder, generator = tmp_path_factory.mktemp("published"), np.random.default_rng(0)
    labels = Labels(
        "a data version", CIFAR10, *(generator.integers(0, 10, count).astype(np.uint8) for count in (50, 99))
    )
    models = []
    for name in ("vgg16", "simple_cnn"):
        val, test = (generator.dirichlet(np.ones(10), len(split)).astype(np.float32) for split in labels[2:])
        history = [
            {
                "phase": "training", "epoch": 1, "accuracy": 0.1, "loss": 2.0, "val_accuracy": 0.1, "val_loss": 2.0,
                "learning_rate": 1e-3, "seconds": 1.5, "joules": None,
            }
        ]  # fmt: skip
        model = PublishedModel(
            version=version(1), identity=name, megabytes=1.0, costs=COSTS, train_accuracy=0.5, train_loss=1.0,
            record=make_record(architecture=name, class_names=CIFAR10, history=history),
        )  # fmt: skip
        models.append((model, Predictions(name, np.empty((0, 10), np.float32), val, test)))
    PublishedDataset(filepath=str(folder)).save(Publication(labels, models))
    return folder


def test_the_command_needs_neither_keras_nor_tensorflow(of_cifar10, tmp_path):
    script = (
        "import sys\n"
        "from kedro.framework.cli.cli import main\n"
        "sys.argv = ['kedro', *sys.argv[1:]]\n"
        "try:\n    main()\nexcept SystemExit as end:\n    assert not end.code, end.code\n"
        "imported = {'keras', 'tensorflow', 'jax', 'onnx'} & sys.modules.keys()\n"
        "assert not imported, imported\n"
        "print('nothing imported')\n"
    )
    options = f"--params=docs_root={tmp_path},published_root={of_cifar10}"
    result = subprocess.run(
        [sys.executable, "-c", script, "run", "--env=published", "--pipelines=reporting", options],
        cwd=PROJECT,
        env={**os.environ, "COLUMNS": "200"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr[-2000:]
    assert "nothing imported" in result.stdout
    assert "| 2 | `" in (tmp_path / "leaderboard.md").read_text(encoding="utf-8")


def test_an_empty_folder_is_one_sentence(tmp_path):
    result = kedro(
        "run", "--env=published", "--pipelines=reporting", f"--params=docs_root={tmp_path},published_root={tmp_path}"
    )
    assert result.returncode == 1
    assert result.stderr.splitlines()[-1].startswith(
        f"Error: {tmp_path} has no published models. Train and evaluate some"
    )
    assert "Traceback" not in result.stdout + result.stderr


@pytest.mark.parametrize(("pipelines", "read"), [([], "evaluations"), (["robustness"], "robustness")])
def test_published_models_are_not_evaluated_again(tmp_path, pipelines, read):
    """`kedro run --env=published` alone would download, train and evaluate, before its evaluations had no place."""
    with pytest.raises(InputError, match=rf"^{read} is only read with --env=published\. .* --pipelines=reporting$"):
        run(tmp_path, *pipelines, env="published")
    assert not list(tmp_path.iterdir())
