"""The project as its users run it, from pictures to leaderboard, on a demo smaller than the demo."""

import base64
import json
import re
import shutil
from xml.etree import ElementTree

import keras
import numpy as np
import pandas as pd
import pytest
from kedro.framework.session import KedroSession
from kedro.framework.startup import bootstrap_project
from kedro.io import DatasetError
from PIL import Image

from cifar10.architectures import ARCHITECTURES
from cifar10.errors import InputError
from cifar10.pipeline_registry import LAPTOP_RUN, register_pipelines
from cifar10.pipelines.export.formats import FORMATS
from tests.conftest import CLASS_NAMES, PROJECT, kedro, run

TINY = {"epochs": 2, "batch_size": 64}


def versions(path):
    return sorted(folder.name for folder in path.iterdir())


def latest(path):
    return path / versions(path)[-1] / path.name


def metrics(data, architecture):
    return json.loads(latest(data / f"08_reporting/{architecture}_metrics.json").read_text())


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """The data folder after one default run."""
    folder = tmp_path_factory.mktemp("data")
    run(folder, airbench94={"epochs": 1, "examples": 320})
    return folder


@pytest.fixture
def copy(data, tmp_path):
    return shutil.copytree(data, tmp_path / "data")


def test_default_run_ends_with_a_leaderboard(data):
    leaderboard = pd.read_csv(latest(data / "08_reporting/leaderboard.csv"))
    assert sorted(leaderboard.architecture) == ["airbench94", "batchnorm_cnn"]
    assert leaderboard.val_accuracy.is_monotonic_decreasing
    for row in leaderboard.itertuples():
        assert row.accuracy == metrics(data, row.architecture)["accuracy"]


def test_demo_is_learnable_and_not_trivial(data):
    assert 0.5 < metrics(data, "batchnorm_cnn")["accuracy"] < 0.995


def test_every_artifact_is_there_under_one_version(data):
    pictures = {path.name for path in data.rglob("*.png") if path.is_file()}
    tables = {path.name for path in data.rglob("*.csv") if path.is_file()}
    both = ("batchnorm_cnn", "airbench94")
    of_both = {
        f"{name}_{figure}.png" for name in both for figure in ("learning_curves", "confusion_matrix", "mistakes")
    }
    of_all = {"comparison", "trade_offs", "overlaid_curves", "calibration", "per_class", "pairs", "samples"}
    assert pictures == of_both | {f"{name}.png" for name in of_all}
    assert tables == {f"{name}_{table}.csv" for name in both for table in ("history", "layers")} | {
        "leaderboard.csv",
        "pairs.csv",
    }
    assert not list((data / "06_models").glob("*_checkpoint"))  # a finished run leaves none
    assert len({path.parent.name for path in data.rglob("*.*") if path.is_file() and "T" in path.parent.name}) == 1


def test_saved_model_needs_nothing_but_keras(data):
    model = keras.saving.load_model(latest(data / "06_models/batchnorm_cnn.keras"))
    with np.load(data / "02_intermediate/test_examples.npz") as test:
        probabilities = model.predict(test["images"], verbose=0)
        accuracy = (probabilities.argmax(axis=1) == test["labels"]).mean()
    assert accuracy == pytest.approx(metrics(data, "batchnorm_cnn")["accuracy"])
    layers = pd.read_csv(latest(data / "06_models/batchnorm_cnn_layers.csv"))
    assert layers.parameters.sum() == model.count_params()
    assert layers.trained.sum() == sum(np.prod(weight.shape) for weight in model.trainable_weights)


def test_second_evaluation_gives_equal_metrics_in_a_new_version(copy):
    before = metrics(copy, "batchnorm_cnn")
    run(copy, "evaluation")
    assert len(versions(copy / "08_reporting/batchnorm_cnn_metrics.json")) == 2
    assert metrics(copy, "batchnorm_cnn") == before


def test_older_model_is_evaluated_with_its_own_record(copy):
    before = metrics(copy, "batchnorm_cnn")
    (first,) = versions(copy / "06_models/batchnorm_cnn.keras")
    run(copy, "train_batchnorm_cnn", "evaluation", batchnorm_cnn={**TINY, "epochs": 1, "seed": 5})
    newer = metrics(copy, "batchnorm_cnn")
    assert (newer["seed"], newer["epochs"]) == (5, 1)
    assert newer["model_version"] > before["model_version"]

    run(copy, "evaluation", load_versions={"batchnorm_cnn.model": first})
    assert metrics(copy, "batchnorm_cnn") == before
    with np.load(latest(copy / "07_model_output/batchnorm_cnn_predictions.npz")) as predictions:
        history = json.loads(str(predictions["record"]))["history"]
    table = pd.read_csv(copy / f"06_models/batchnorm_cnn_history.csv/{first}/batchnorm_cnn_history.csv")
    pd.testing.assert_frame_equal(pd.DataFrame(history), table)

    with pytest.raises(DatasetError, match=r"batchnorm_cnn.keras has no version 1999: it has"):
        run(copy, "evaluation", load_versions={"batchnorm_cnn.model": "1999"})


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="only TensorFlow exports")
def test_winner_is_exported(copy):
    import onnxruntime

    for _ in range(2):
        run(copy, "export")
    winner = pd.read_csv(latest(copy / "08_reporting/leaderboard.csv")).architecture[0]
    folder = copy / f"07_model_output/serving/{winner}"
    assert sorted(path.name for path in folder.iterdir()) == ["1", "2", "config.pbtxt"]
    card = json.loads((folder / "2/model_card.json").read_text())
    assert card["class_names"] == CLASS_NAMES
    assert card["metrics"]["accuracy"] == metrics(copy, winner)["accuracy"]
    assert pd.read_csv(latest(copy / "07_model_output/export.csv")).format.tolist() == list(FORMATS)
    session = onnxruntime.InferenceSession(folder / "2/model.onnx")
    with np.load(copy / "02_intermediate/test_examples.npz") as test:
        (answers,) = session.run(["probabilities"], {"images": test["images"].astype("float32")})
        assert (answers.argmax(axis=1) == test["labels"]).mean() == pytest.approx(card["metrics"]["accuracy"])


def test_network_from_imagenet_joins_the_leaderboard(copy, knobs, reference):
    name = "mobilenetv2_imagenet"
    recipe = {**TINY, **knobs(name), "examples": 128, "head_epochs": 1, "epochs": 1, "unfreeze": 20}
    run(copy, f"train_{name}", "evaluation", "reporting", test_time_augmentation="flip", **{name: recipe})
    leaderboard = pd.read_csv(latest(copy / "08_reporting/leaderboard.csv")).set_index("architecture")
    assert set(leaderboard.index) == {"batchnorm_cnn", "airbench94", name}
    assert leaderboard.initialisation[name].startswith(f"{name}.weights.h5")
    assert leaderboard.training_pictures[name] == 128
    assert list(leaderboard.views.unique()) == ["flip"]
    assert (abs(leaderboard.averaged_accuracy - leaderboard.accuracy) < 0.2).all()
    layers = pd.read_csv(latest(copy / f"06_models/{name}_layers.csv")).set_index("layer")
    last = reference(name).layers[-recipe["unfreeze"] :]
    kernels = [layer for layer in last if type(layer).__name__ != "BatchNormalization"]
    assert layers.trained["backbone"] == sum(layer.count_params() for layer in kernels) > 0


def test_weights_are_missed_before_any_data_is_loaded(data):
    arguments = ["--env=demo", "--pipelines=train_vgg16_imagenet"]
    result = kedro("run", *arguments, f"--params=data_root={data},vgg16_imagenet.weights=nowhere.weights.h5")
    assert result.returncode == 1
    assert "Error: vgg16_imagenet: there is no file nowhere.weights.h5" in result.stderr
    assert "Traceback" not in result.stdout + result.stderr
    assert "Completed" not in result.stdout
    assert not (data / "06_models/vgg16_imagenet.keras").exists()


def test_seeds_of_one_recipe_are_summed_up(copy):
    run(copy, "train_batchnorm_cnn", batchnorm_cnn={**TINY, "examples": 320})
    run(copy, "train_batchnorm_cnn", batchnorm_cnn={**TINY, "examples": 320, "seed": 2})
    run(copy, "evaluation", "reporting", evaluate_versions="all")
    seeds = pd.read_csv(latest(copy / "08_reporting/seeds.csv"))
    assert len(versions(copy / "06_models/batchnorm_cnn.keras")) == 3  # the first by another recipe
    assert sorted(seeds[seeds.architecture == "batchnorm_cnn"].seed) == [0, 2]
    board = pd.read_csv(latest(copy / "08_reporting/leaderboard.csv")).set_index("architecture")
    row, accuracies = board.loc["batchnorm_cnn"], seeds[seeds.architecture == "batchnorm_cnn"].accuracy
    assert (row.seeds, row.seeds_mean) == (2, pytest.approx(accuracies.mean()))
    assert row.seeds_low < row.seeds_mean < row.seeds_high
    assert board.seeds["airbench94"] == 1
    assert row.accuracy in list(accuracies)


def test_history_lists_every_version(copy):
    run(copy, "train_batchnorm_cnn", batchnorm_cnn={**TINY, "examples": 320, "seed": 7})
    run(copy, "history")
    runs = pd.read_csv(latest(copy / "08_reporting/runs.csv"))
    assert list(runs.architecture[1:].sort_values()) == ["airbench94", "batchnorm_cnn"]
    newest = runs.iloc[0]
    assert (newest.architecture, newest.seed, newest.epochs) == ("batchnorm_cnn", 7, 2)
    assert np.isnan(newest.accuracy)  # not evaluated yet
    assert list(runs.accuracy[1:].notna()) == [True, True]


def test_winner_predicts_pictures_from_outside(copy, tmp_path, caplog):
    folder = tmp_path / "pictures"
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
    assert list(table.picture) == ["0.png", "1.png", "2.png"]
    assert [CLASS_NAMES.index(answer) for answer in table.answer] == list(expected)
    np.testing.assert_allclose(table[CLASS_NAMES].sum(axis=1), 1, rtol=1e-6)
    assert latest(copy / "08_reporting/prediction.png").stat().st_size > 10_000
    assert "1.png: " in caplog.text

    loser = board.architecture[1]
    run(copy, "predict", image=str(folder / "1.png"), architecture=loser)
    assert len(pd.read_csv(latest(copy / "07_model_output/prediction.csv"))) == 1
    with pytest.raises(InputError, match=r"There is no trained vgg16. Train it"):
        run(copy, "predict", image=str(folder), architecture="vgg16")
    (folder / "notes.txt").write_text("no picture")
    with pytest.raises(InputError, match=r"notes.txt is no picture of a format"):
        run(copy, "predict", image=str(folder))


def test_robustness_joins_the_report(copy):
    run(copy, "robustness", "reporting", robustness={"examples": 40, "seed": 0})
    table = pd.read_csv(latest(copy / "08_reporting/robustness.csv"))
    assert len(table) == 2 * 6 * 5
    assert set(table.pictures) == {40}
    assert table.groupby("architecture").clean_accuracy.nunique().eq(1).all()
    assert latest(copy / "08_reporting/robustness.png").stat().st_size > 10_000
    assert "Worse pictures" in latest(copy / "08_reporting/report.html").read_text()


def test_report_needs_nothing_but_itself(data):
    """No address to fetch from, every drawing inside, every model described."""
    page = latest(data / "08_reporting/report.html").read_text()
    assert not re.findall(r"""(?:src|href)=["'](?!data:image|#)""", page)
    drawings = re.findall(r'src="data:image/svg\+xml;base64,([^"]+)"', page)
    assert len(drawings) == 6 + 2 * 2
    for drawing in drawings:
        svg = base64.b64decode(drawing).decode()
        ElementTree.fromstring(svg)
        assert "var(--ink)" in svg
    board = pd.read_csv(latest(data / "08_reporting/leaderboard.csv"))
    assert page.count("<details") == 2
    assert f"{board.architecture[0]} is the best of 2 by validation" in page


def test_old_versions_go_after_they_were_shown(copy):
    name = "airbench94_metrics.json"
    (newest,) = versions(copy / "08_reporting" / name)
    older = ["2020-01-01T00.00.00.000Z", "2020-01-02T00.00.00.000Z"]
    for version in older:
        shutil.copytree(copy / "08_reporting" / name / newest, copy / "08_reporting" / name / version)
    rest = ".deleted-2019-01-01T00.00.00.000Z"  # of a deletion that was killed
    (copy / "08_reporting" / name / rest).mkdir()
    named = copy / "06_models/airbench94.keras"  # by the leaderboard, so it stays, however many are newer
    for version in ("2099-01-01T00.00.00.000Z", "2099-01-02T00.00.00.000Z"):
        shutil.copytree(named / newest, named / version)
    shown = kedro("prune", "--keep=1", f"--data-root={copy}", input="n\n")
    assert shown.returncode == 0
    assert all(f"{name}/{version}" in shown.stdout for version in older)
    assert "Nothing was deleted" in shown.stdout
    assert versions(copy / "08_reporting" / name) == [rest, *older, newest]
    done = kedro("prune", "--keep=1", f"--data-root={copy}", "--yes")
    assert done.returncode == 0, done.stderr
    assert versions(copy / "08_reporting" / name) == [newest]
    assert versions(named) == [newest, "2099-01-02T00.00.00.000Z"]
    run(copy, "reporting")  # all that it needs is there


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in ARCHITECTURES if name not in LAPTOP_RUN])
def test_every_architecture_trains_and_is_judged(copy, knobs, name):
    """As `kedro run --env=demo --pipelines=train_NAME,evaluation`, with backbones from files that the tests make."""
    transfer = {"head_epochs": 1, "feature_copies": 1} if knobs(name) else {}
    recipe = {"epochs": 1, "batch_size": 32, "examples": 64, **knobs(name), **transfer}
    run(copy, f"train_{name}", "evaluation", **{name: recipe})
    assert metrics(copy, name)["training_pictures"] == 64
    assert latest(copy / f"08_reporting/{name}_learning_curves.png").stat().st_size > 10_000


def test_models_of_other_data_are_left_out(copy, caplog):
    run(copy, "preprocessing", split_seed=1)
    run(copy, "train_batchnorm_cnn", batchnorm_cnn={**TINY, "epochs": 1})
    caplog.clear()
    run(copy, "evaluation", "reporting")
    said = [record.message for record in caplog.records if "left out" in record.message]
    assert sum("airbench94: left out, it was trained on data" in line for line in said) == 1
    assert sum("vgg16: left out, it has not been trained" in line for line in said) == 1
    assert list(pd.read_csv(latest(copy / "08_reporting/leaderboard.csv")).architecture) == ["batchnorm_cnn"]
    assert len(versions(copy / "08_reporting/airbench94_metrics.json")) == 1


def test_pictures_that_changed_under_a_model_are_refused(copy):
    """Ingested anew, but not preprocessed: the statistics, and so the data version, are still the old ones."""
    examples = copy / "02_intermediate/test_examples.npz"
    with np.load(examples) as test:
        np.savez(examples, images=test["images"][::-1], labels=test["labels"][::-1])
    before = versions(copy / "08_reporting/batchnorm_cnn_metrics.json")
    with pytest.raises(InputError, match="The test pictures have changed since preprocessing"):
        run(copy, "evaluation")
    assert versions(copy / "08_reporting/batchnorm_cnn_metrics.json") == before


def test_evaluating_before_training_says_what_to_run(copy):
    shutil.rmtree(copy / "06_models")
    shutil.rmtree(copy / "07_model_output")
    shutil.rmtree(copy / "08_reporting")
    with pytest.raises(InputError, match="kedro run --pipelines=train_simple_cnn,evaluation"):
        run(copy, "evaluation")


def test_registry_lists_every_pipeline_without_tensorflow():
    result = kedro("registry", "list", PYTHONPROFILEIMPORTTIME="1")
    assert result.returncode == 0
    assert {"- __default__", "- ingestion_csv", "- train_vgg16"} <= set(result.stdout.splitlines())
    imported = {line.rsplit("|", 1)[-1].strip() for line in result.stderr.splitlines()}
    assert "cifar10.pipelines" in imported  # so these are the imports indeed
    assert not imported & {"tensorflow", "keras", "jax", "sklearn"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--pipelines=train_resnet5"], "There is no pipeline train_resnet5; did you mean train_resnet50?"),
        (["--pipeline=train_resnet5"], "did you mean train_resnet50?"),
        (["--params=val_fraction=1.2"], "val_fraction: input should be less than 1, but it is 1.2"),
        (["--params=split_seed=1.0"], "split_seed: input should be a valid integer, but it is 1.0"),
        (["--params=val_fractoin=0.2"], "val_fractoin: no such parameter; did you mean val_fraction?"),
        (["--params=vgg16.epoch=3"], "vgg16.epoch: no such parameter; did you mean epochs?"),
        (["--params=resnet5.epochs=3"], "resnet5: no such parameter; did you mean resnet50?"),
        (
            ["--params=vgg16.optimizer=adamm"],
            "vgg16.optimizer: input should be 'sgd', 'muon', 'adam' or 'adamw', but it is 'adamm'",
        ),
        (["--params=vgg16.weight_decay=0.1,vgg16.optimizer=adam"], "vgg16: optimizer adam has no weight_decay"),
        (["--params=vgg16_imagenet.alpha=0.5"], "vgg16_imagenet.alpha: no such parameter; there are accumulate"),
        (["--params=mobilenetv2_imagenet.alpha=0.4"], "with weights imagenet, alpha should be one of (0.35, 0.5"),
        (["--params=test_time_augmentation=flop"], "test_time_augmentation: input should be 'none', 'flip' or"),
        (["--params=architecture=resnet5"], "architecture: there is no architecture resnet5; did you mean resnet50?"),
        (["--params=export.architecture=vgg"], "export.architecture: there is no architecture vgg; did you mean vgg"),
        (["--params=evaluate_versions=some"], "evaluate_versions: input should be 'latest' or 'all'"),
        (["--params=robustness.examples=0"], "robustness.examples: input should be greater than or equal to 1"),
        (["--env=demo", "--pipelines=predict"], "Which picture? kedro run --pipelines=predict --params=image="),
        (["--env=demo", "--pipelines=predict", "--params=image=nowhere.jpg"], "There is no picture and no folder"),
        (["--env=demo", "--pipelines=history"], "Nothing has been trained yet, so there is no history."),
        (["--env=dmo"], "conf/dmo"),
        (["--pipelines=train_vgg16"], "must be made first: kedro run --pipelines=ingestion,preprocessing"),
        (
            ["--env=demo", "--pipelines=reporting"],
            "first: kedro run --pipelines=ingestion,preprocessing,evaluation --env=demo --params=data_root=",
        ),
        (["--pipelines=ingestion_csv"], "train.csv is missing. Put train.csv and test.csv"),
    ],
)
def test_mistake_ends_in_one_clear_message(tmp_path, arguments, message):
    parameters = [argument for argument in arguments if argument.startswith("--params=")] or ["--params="]
    others = [argument for argument in arguments if not argument.startswith("--params=")]
    root = f"{parameters[0]}{',' if parameters[0] != '--params=' else ''}data_root={tmp_path}"
    result = kedro("run", *others, root)
    assert result.returncode == 1
    assert result.stderr.count("Error: ") == 1
    assert message in result.stderr
    assert "Traceback" not in result.stdout + result.stderr
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("pipeline", "name", "content", "message"),
    [
        ("ingestion", "cifar-10-batches-py/data_batch_1", b"", "has no data_batch_2, data_batch_3"),
        ("ingestion", "cifar-10-python.tar.gz", b"no archive", "is damaged or no .tar.gz"),
        ("ingestion_csv", "cifar10-csv/train.csv", b"pixel0,label\n1,1\n", "has 1 columns besides 'label'"),
        ("preprocessing", "readme.txt", b"", "must be made first: kedro run --pipelines=ingestion "),
    ],
)
def test_bad_file_ends_in_one_clear_message(tmp_path, pipeline, name, content, message):
    path = tmp_path / "01_raw" / name
    path.parent.mkdir(parents=True)
    path.write_bytes(content)
    result = kedro("run", f"--pipelines={pipeline}", f"--params=data_root={tmp_path}")
    assert result.returncode == 1
    assert message in result.stderr
    assert result.stderr.count("Error: ") == 1
    assert "Traceback" not in result.stdout + result.stderr
    assert "WARNING" not in result.stdout
    assert [each.name for each in tmp_path.iterdir()] == ["01_raw"]


def test_pinned_version_from_the_command_line(data):
    result = kedro("run", "--env=demo", "--pipelines=evaluation", f"--params=data_root={data}",
                   "--load-versions=batchnorm_cnn.model:1999-01-01")  # fmt: skip
    assert result.returncode == 1
    assert "batchnorm_cnn.keras has no version 1999-01-01: it has 2" in result.stderr
    assert "Traceback" not in result.stdout + result.stderr


def test_every_dataset_has_a_layer_and_every_node_a_stage():
    bootstrap_project(PROJECT)
    with KedroSession.create(PROJECT) as session:
        catalog = session.load_context().catalog
    pipelines = register_pipelines()
    for pipeline in pipelines.values():
        for name in pipeline.datasets():
            if not name.startswith("params:"):
                assert catalog.get(name).metadata["kedro-viz"]["layer"], name
    stages = {node.namespace.split(".")[0] for node in pipelines["__default__"].nodes}
    assert stages == {"ingestion", "preprocessing", "training", "evaluation", "reporting"}


@pytest.mark.parametrize("name", ["seeds", "leaderboard"])
def test_hashes_that_look_like_numbers_stay_text(tmp_path, name):
    bootstrap_project(PROJECT)
    with KedroSession.create(PROJECT, env="demo", runtime_params={"data_root": str(tmp_path)}) as session:
        catalog = session.load_context().catalog
    catalog.save(name, pd.DataFrame({"recipe_hash": ["12e456789012"], "data_version": ["0123"]}))
    assert catalog.load(name).iloc[0].tolist() == ["12e456789012", "0123"]


def test_old_option_still_runs_a_pipeline(tmp_path):
    result = kedro("run", "--env=demo", "--pipeline=ingestion", f"--params=data_root={tmp_path}")
    assert result.returncode == 0, result.stderr
    assert (tmp_path / "02_intermediate/train_examples.npz").exists()
