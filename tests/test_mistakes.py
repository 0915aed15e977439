"""Commands that cannot work end in one sentence before anything is done."""

import logging
import os
import re
import shlex
import shutil

import pytest
import yaml
from kedro.framework.session import KedroSession

from cifar10 import cli, run_log
from cifar10.errors import InputError
from tests.helpers import PROJECT, bootstrap, kedro, run


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--pipelines=train_resnet5"], "There is no pipeline train_resnet5; did you mean train_resnet50?"),
        (["--pipeline=train_resnet5"], "did you mean train_resnet50?"),
        (["--pipelines=train_vgg61"], "There is no pipeline train_vgg61; did you mean train_vgg16?"),
        (["--pipelines=vgg16"], "There is no pipeline vgg16, which is an architecture. To train it: train_vgg16"),
        (["--pipelines=training"], "There is no pipeline training, but one for each architecture, as in --pipelines="),
        (["--pipelines=train_all"], "There is no pipeline train_all, but one for each architecture, as in"),
        (["--pipelines=tune"], "one for each architecture, as in --pipelines=tune_simple_cnn,tune_vgg16; `kedro mo"),
        (["--pipeline=evaluation,reporting"], "--pipeline takes one name; for several: --pipelines=evaluation,report"),
        (["--pipelines="], "--pipelines is empty, as where a variable of the shell is not set. Give it a value, or"),
        (["--pipelines", " , "], "--pipelines is empty"),
        (["--pipeline="], "--pipeline is empty"),
        (["--env="], "--env is empty"),
        (["--nodes=training.deep_cnn.trian"], "There is no node training.deep_cnn.trian in __default__; did you"),
        (["--from-nodes=reporting.rnk"], "did you mean reporting.rank?"),
        (["--to-nodes=x"], "There is no node x in __default__; valid names: "),
        (["--tags=x"], "There is no tag x in __default__, nor any other."),
        (["--namespaces=trainig"], "There is no namespace trainig in __default__; did you mean training?"),
        (["--to-outputs=leaderbord"], "There is no dataset leaderbord in __default__; did you mean leaderboard?"),
        (["--from-inputs=trian"], "There is no dataset trian in __default__; did you mean train?"),
        (["--runner=SequentalRunner"], "There is no runner SequentalRunner; did you mean SequentialRunner?"),
        (["--runner=nowhere.Runner"], "There is no runner nowhere.Runner; Kedro's own are SequentialRunner"),
        (["--env=deom"], "There is no environment deom; did you mean demo?"),
        (["--load-versions=simple_cn.model:x"], "There is no dataset simple_cn.model; did you mean simple_cnn.model?"),
        (["--load-versions=simple_cnn:x"], "There is no dataset simple_cnn; did you mean simple_cnn.model?"),
        (
            ["--load-versions=simple_cnn.model:x"],
            "simple_cnn.keras has no version x: nothing has been saved there yet.",
        ),
        (["--load-versions=batches:x"], "--load-versions=batches: this dataset has no versions."),
        (
            ["--env=demo", "--pipelines=train_simple_cnn,train_deep_cnn", "--runner=ThreadRunner"],
            "A training cannot share its process with other nodes",
        ),
        (["--params=val_fraction=1.2"], "val_fraction: input should be less than 1, but it is 1.2"),
        (["--params=split_seed=1.0"], "split_seed: input should be a valid integer, but it is 1.0"),
        (["--params=image=a.jpg,image=b.jpg"], "--params sets image 2 times. Set it once."),
        (
            ["--params=simple_cnn=3"],
            "simple_cnn: must be options with their values, as in simple_cnn.epochs=VALUE, but",
        ),
        (["--params=export=simple_cnn"], "export: must be options with their values, as in export.architecture=VALUE"),
        (["--env=demo", "--pipelines=train_simple_cnn", "--params=vgg16={}"], "must be created first"),
        (["--pipelines=benchmark", "--params=benchmark.architectures=' '"], "name an architecture, or several"),
        (["--runner=.a.Runner"], "There is no runner .a.Runner; Kedro's own are SequentialRunner"),
        (["--params=tuning.space.batch_size=64"], "as in tuning.space.batch_size.low=VALUE, but"),
        (["--params=epochs=3"], "epochs: no such parameter without its architecture, as in simple_cnn.epochs"),
        (["--params=trials=2"], "trials: no such parameter; did you mean tuning.trials?"),
        (["--params=val_fractoin=0.2"], "val_fractoin: no such parameter; did you mean val_fraction?"),
        (["--params=vgg16.epoch=3"], "vgg16.epoch: no such parameter; did you mean epochs?"),
        (["--params=resnet5.epochs=3"], "resnet5: no such parameter; did you mean resnet50?"),
        (
            ["--params=vgg16.optimizer=adamm"],
            "vgg16: there is no optimizer adamm; did you mean adam",
        ),
        (
            ["--params=simple_cnn.optimizer=adam"],
            "simple_cnn: optimizer adam does not use muon_learning_rate (only muon) and weight_decay (only sgd, muon, "
            "adamw), which this recipe sets: add simple_cnn.muon_learning_rate=0.24,simple_cnn.weight_decay=0.0 to",
        ),
        (["--params=simple_cnn.schedule=constant,simple_cnn.warmup=0.1"], "schedule constant does not use warmup"),
        (
            ["--params=simple_cnn.whitening_epochs=2"],
            "simple_cnn: this network has no whitening layer; set whitening_epochs=null",
        ),
        (
            ["--params=airbench94.epochs=1,airbench94.whitening_epochs=2"],
            "whitening_epochs is 2, but epochs is only 1; set whitening_epochs=1 or lower",
        ),
        (
            ["--params=vgg16.epochs=2 vgg16.seed=1"],
            "'2 vgg16.seed=1'. Separate parameters by commas, without spaces",
        ),
        (["--params=vgg16.seed=true"], "vgg16.seed: input should be a valid integer, but it is True"),
        (
            ["--params=vgg16_imagenet.alpha=0.5"],
            "vgg16_imagenet.alpha: no such parameter; alpha is one of mobilen",
        ),
        (["--params=mobilenetv2_imagenet.alpha=0.4"], "with weights=imagenet, alpha must be one of (0.35, 0.5"),
        (["--params=test_time_augmentation=flop"], "test_time_augmentation: input should be 'none', 'flip' or"),
        (["--params=architecture=resnet5"], "architecture: there is no architecture resnet5; did you mean resnet50?"),
        (["--params=architecture=winner:1"], "architecture: give the version 1 with the name of its architecture"),
        (["--params=architecture=winner-01"], "architecture: there is no row winner-01; did you mean winner?"),
        (["--params=export.architecture=vgg"], "export.architecture: there is no architecture vgg; did you mean vgg"),
        (["--params=evaluate_versions=some"], "evaluate_versions: input should be 'recipes' or 'all'"),
        (["--params=benchmark.inference_batch_sizes=1 x"], "x is not a batch size from 1 to 4,096; separate several"),
        (["--params=robustness.examples=0"], "robustness.examples: input should be greater than or equal to 1"),
        (["--env=demo", "--pipelines=predict"], "No image is given: kedro run --pipelines=predict --params=image="),
        (["--env=demo", "--pipelines=predict", "--params=image=nowhere.jpg"], "nowhere.jpg"),
        (["--env=demo", "--pipelines=history"], "Nothing has been trained yet, so there is no history."),
        (["--pipelines=train_vgg16"], "must be created first: kedro run --pipelines=ingestion,preprocessing"),
        (["--pipelines=train_vgg16", "--pipeline=evaluation"], "give one of them, as in --pipelines=train_vgg16,evalu"),
        (["--load-versions=simple_cnn.model=2026"], "--load-versions=simple_cnn.model=2026 is not NAME:VERSION, as in"),
        (["--load-versions=simple_cnn.model"], "--load-versions=simple_cnn.model is not NAME:VERSION, as in"),
        (["--load-versions=simple_cnn.model:../x"], "../x"),
        (
            ["--params=simple_cnn.image_size=64"],
            "simple_cnn.image_size: no such parameter; image_size is one of v",
        ),
        (
            ["--env=demo", "--pipelines=reporting"],
            "evaluations, portraits must be created first: kedro run "
            "--pipelines=ingestion,preprocessing,train_simple_cnn,evaluation --env=demo --params=data_root=",
        ),
        (["--env=demo", "--nodes=rank"], "There is no node rank in __default__; did you mean reporting.rank?"),
        (["--pipelines=ingestion_csv"], "train.csv is missing. Put train.csv and test.csv"),
        (["--pipelines=ingestion,ingestion_csv"], "cannot run together, because both write test_examples"),
    ],
)
def test_mistake_ends_in_one_clear_message(kedro_run, tmp_path, arguments, message):
    parameters = [argument for argument in arguments if argument.startswith("--params=")] or ["--params="]
    others = [argument for argument in arguments if not argument.startswith("--params=")]
    root = f"{parameters[0]}{',' if parameters[0] != '--params=' else ''}data_root={tmp_path}"
    result = kedro_run(*others, root)
    assert type(result.exception) is SystemExit, result.exc_info  # any other would end in a traceback
    assert result.exit_code == 1
    assert result.stderr.count("Error: ") == 1
    assert message in result.stderr
    assert not list(tmp_path.iterdir())


def test_out_of_memory_ends_in_one_clear_message(kedro_run, monkeypatch):
    def fail(**_):
        raise MemoryError

    monkeypatch.setattr(cli.kedro_run, "callback", fail)
    result = kedro_run("--env=demo")
    assert type(result.exception) is SystemExit
    assert result.exit_code == 1
    assert result.stderr == "Error: There is not enough memory. Close other programs, or lower batch_size.\n"


@pytest.mark.parametrize("pipeline", ["train_simple_cnn", "ingestion"])
def test_a_runner_of_several_processes_is_refused(tmp_path, pipeline):
    result = kedro(
        "run", "--env=demo", f"--pipelines={pipeline}", "--runner=ParallelRunner", f"--params=data_root={tmp_path}"
    )
    assert result.returncode == 1
    assert result.stderr.count("Error: ") == 1
    assert "ParallelRunner cannot run this project" in result.stderr
    assert "Traceback" not in result.stdout + result.stderr
    assert not list(tmp_path.iterdir())


def test_a_mistyped_option_is_reported_at_once(tmp_path):
    """Before TensorFlow or Keras is imported, within 4 s of CPU time: the least of three, because noise only adds."""

    def run_mistyped(**environment):
        before = os.times()
        result = kedro("run", "--nodes=x", f"--params=data_root={tmp_path}", **environment)
        after = os.times()
        return result, after.children_user + after.children_system - before.children_user - before.children_system

    result, _ = run_mistyped(PYTHONPROFILEIMPORTTIME="1")
    assert "Error: There is no node x" in result.stderr
    imported = {line.rsplit("|", 1)[-1].strip() for line in result.stderr.splitlines()}
    assert "cifar10.run_options" in imported
    assert not imported & {"tensorflow", "keras", "jax", "sklearn"}
    assert any(run_mistyped()[1] < 4 for _ in range(3))


def test_suggested_commands_can_be_pasted_into_a_shell():
    """Where the folder is not taken for a pattern, or for two words."""
    command = run_log.same_data({"env": "demo", "runtime_params": {"data_root": "/mnt/my data[1]"}})
    assert shlex.split(command) == ["--env=demo", "--params=data_root=/mnt/my data[1]"]
    assert (
        run_log.same_data({"env": None, "runtime_params": {"data_root": "/mnt/data"}})
        == " --params=data_root=/mnt/data"
    )


@pytest.mark.parametrize(
    ("pipeline", "name", "content", "message"),
    [
        ("ingestion", "cifar-10-batches-py/data_batch_1", b"", "has no data_batch_2, data_batch_3"),
        ("ingestion", "cifar-10-python.tar.gz", b"no archive", "is damaged or not a .tar.gz file"),
        (
            "ingestion_csv",
            "cifar10-csv/train.csv",
            b"pixel0,label\n1,1\n",
            "has the wrong pixel columns: expected 3,072 besides 'label', found 1",
        ),
        ("preprocessing", "readme.txt", b"", "must be created first: kedro run --pipelines=ingestion "),
    ],
)
def test_bad_file_ends_in_one_clear_message(kedro_run, tmp_path, caplog, pipeline, name, content, message):
    path = tmp_path / "01_raw" / name
    path.parent.mkdir(parents=True)
    path.write_bytes(content)
    result = kedro_run(f"--pipelines={pipeline}", f"--params=data_root={tmp_path}")
    assert type(result.exception) is SystemExit, result.exc_info  # any other would end in a traceback
    assert result.exit_code == 1
    assert message in result.stderr
    assert result.stderr.count("Error: ") == 1
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert [each.name for each in tmp_path.iterdir()] == ["01_raw"]


@pytest.mark.parametrize(
    ("pipeline", "dataset", "message"),
    [
        ("predict", "simple_cnn.model", "Name this version with --params=architecture=simple_cnn:"),
        ("export", "simple_cnn.model", "or --params=export.architecture=simple_cnn:"),
        ("predict", "robustness", "this run does not read that dataset."),
        ("reporting", "simple_cnn.model", "this run does not read that dataset."),
        ("evaluation", "evaluations", "this run saves a version of its own, and uses that."),
        ("history", "evaluations", "this run lists all versions, whichever is named."),
    ],
)
def test_a_version_that_would_not_be_used_is_refused(tmp_path, pipeline, dataset, message):
    for path in ("06_models/simple_cnn.keras", "08_reporting/evaluations.json", "08_reporting/robustness.csv"):
        folder = tmp_path / path / "2026-01-01T00.00.00.000Z"
        folder.mkdir(parents=True)
        (folder / folder.parent.name).touch()
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(InputError, match=re.escape(message)) as error:
        run(tmp_path, pipeline, load_versions={dataset: "2026-01-01T00.00.00.000Z"})
    assert str(error.value).startswith(f"--load-versions={dataset}: ")
    assert sorted(tmp_path.rglob("*")) == before


MODEL = {"type": "cifar10.datasets.model.ModelDataset", "filepath": "${_root}/simple_cnn.keras", "versioned": True}


@pytest.mark.parametrize(
    ("entry", "changes", "message"),
    [
        (
            "statistics",
            {"type": "MemoryDataset"},
            "The catalog names no file for statistics, so the run of preprocessing keeps nothing of it. Add an",
        ),
        ("simple_cnn.model", {**MODEL, "versioned": False}, "The catalog entry simple_cnn.model must be a cifar10."),
        (
            "simple_cnn.model",
            {**MODEL, "filepath": "${_root}/my.keras"},
            "a filepath that ends in simple_cnn.keras",
        ),
        ("simple_cnn.model", {"type": "pickle.PickleDataset", "filepath": "x"}, "must be a cifar10.datasets.model.Mod"),
    ],
)
def test_an_entry_of_the_catalog_that_cannot_work_is_refused_before_the_training(tmp_path, entry, changes, message):
    conf = changed_conf(tmp_path, catalog={"_root": str(tmp_path / "data"), entry: changes})
    with pytest.raises(InputError, match=re.escape(message)):
        run_in(conf, tmp_path / "data", "train_simple_cnn")
    assert not (tmp_path / "data").exists()


def test_names_in_the_configuration_that_are_nearly_right_are_warned_of(tmp_path, caplog):
    """Names of one's own are not."""
    table = {"type": "MemoryDataset"}
    catalog = {"leaderbord": table, "my_table": table}
    conf = changed_conf(tmp_path, catalog=catalog, globals={"data_rot": "elsewhere", "bucket": "mine"})
    with pytest.raises(InputError, match="must be created first"):
        run_in(conf, tmp_path / "data", "reporting")
    assert [record.getMessage() for record in caplog.records if record.levelname == "WARNING"] == [
        "globals.yml sets data_rot, which no file of this project uses: did you mean data_root?",
        "The catalog has an entry leaderbord, which no pipeline uses: did you mean leaderboard?",
    ]


@pytest.mark.parametrize(
    ("pipeline", "parameters", "warnings"),
    [
        ("train_vgg16", {"vgg16": {"epochs": 2}, "devices": "one"}, []),
        (
            "train_vgg16",
            {"vgg16": {"epochs": 2}, "simple_cnn": {"epochs": 2, "seed": 1}},
            ["simple_cnn.epochs, simple_cnn.seed"],
        ),
        ("evaluation", {"simple_cnn": {"epochs": 2}}, ["simple_cnn.epochs"]),
        ("evaluation", {"architecture": "vgg16"}, ["architecture"]),
    ],
)
def test_parameters_that_the_run_does_not_use_are_warned_of(tmp_path, caplog, pipeline, parameters, warnings):
    """As where one of the names in a line that is used again has been left as it was."""
    with pytest.raises(InputError, match="must be created first"):
        run(tmp_path, pipeline, **parameters)
    logged = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert logged == [f"Not used by this run: {each}" for each in warnings]


def test_a_parameter_that_stands_elsewhere_in_this_run_is_refused(tmp_path):
    """Such as that of `predict` for `export`, which would export the winner in place of the model that was named."""
    with pytest.raises(InputError, match=r"architecture would have no effect .*; did you mean export\.architecture\?"):
        run(tmp_path, "export", architecture="vgg16")


def test_a_recipe_of_no_network_that_is_trained_is_refused(tmp_path):
    """A training of hours would begin in place of the short one that was meant."""
    message = (
        r"^deep_cnn\.epochs would have no effect: this run trains simple_cnn\. .* as in simple_cnn\.epochs, or add"
    )
    with pytest.raises(InputError, match=message):
        run(tmp_path, "train_simple_cnn", deep_cnn={"epochs": 1})


def changed_conf(folder, **files):
    """Return a copy of the configuration, with these files in its local environment."""
    conf = shutil.copytree(PROJECT / "conf", folder / "conf", ignore=shutil.ignore_patterns("local"))
    (conf / "local").mkdir()
    for name, values in files.items():
        (conf / f"local/{name}.yml").write_text(yaml.safe_dump(values), encoding="utf-8")
    return conf


def run_in(conf, data_root, pipeline):
    """Run a pipeline with this configuration."""
    bootstrap()
    values = {"data_root": str(data_root)}
    with KedroSession.create(PROJECT, conf_source=str(conf), runtime_params=values) as session:
        session.run(pipeline_names=[pipeline])


@pytest.mark.parametrize("kind", ["link", "file", "read-only"])
def test_a_run_that_cannot_save_is_refused_before_any_work(tmp_path, monkeypatch, caplog, kind):
    """As where the drive to which a link points is not connected."""
    place = tmp_path / "03_primary"
    if kind == "link":
        place.symlink_to(tmp_path / "drive")
    elif kind == "file":
        place.touch()
    else:
        place.mkdir()
        monkeypatch.setattr("os.access", lambda path, mode: path != place)
    reason = {
        "link": "is a link to .*/drive, which does not exist",
        "file": "is a file",
        "read-only": "is not writable",
    }
    with pytest.raises(
        InputError, match=rf"^Nothing can be saved in .*03_primary, because .*03_primary {reason[kind]}"
    ):
        run(tmp_path, "ingestion", "preprocessing")
    assert "Completed node" not in caplog.text
    assert list(tmp_path.iterdir()) == [place]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--params=simple_cnn.epochs=3", "--params=data_root=x"], "--params is given 2 times"),
        (["--pipelines=training", "--env=demo", "--pipelines", "evaluation"], "--pipelines is given 2 times"),
        (["-e", "demo", "--env=long", "--env=demo"], "--env is given 3 times"),
    ],
)
def test_an_option_given_twice_is_refused(kedro_run, options, message):
    """Of which Click would take the last without a word."""
    result = kedro_run(*options)
    assert (result.exit_code, result.output.count("Error: ")) == (1, 1), result.output
    assert f"Error: {message}, of which only the last would count. Give it once; where it takes" in result.output
