"""Old versions and remains go; the models of the latest evaluation stay."""

import os
import shutil
import time

import pytest
from click.testing import CliRunner

from cifar10 import cli
from cifar10.errors import InputError
from cifar10.pruning import delete, old_versions
from tests.helpers import PROJECT, make_evaluation, make_evaluations, make_record, make_row

V1, V2, V3, V4 = (f"2026-01-0{day}T00.00.00.000Z" for day in (1, 2, 3, 4))


def make(root, path, *, hours_ago=0.0):
    """Make a file in a data folder."""
    file = root / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(b"content")
    for each in (file, *file.parents):
        if each.is_relative_to(root):
            os.utime(each, (time.time() - 3600 * hours_ago,) * 2)
    return file


def make_model(root, name, version):
    for path in (f"06_models/{name}.keras/{version}/record.json", f"06_models/{name}.keras/{version}/{name}.keras",
                 f"07_model_output/predictions/{name}/{version}.npz"):  # fmt: skip
        make(root, path)


def evaluate(root, version, *rows):
    """Save the evaluation of these rows, each of which is an architecture and a version per seed."""
    evaluations = make_evaluations(*(
        make_row(*(
            make_evaluation(record=make_record(architecture=name, recipe={"seed": seed}), version=each)
            for seed, each in enumerate(seeds)
        ))
        for name, *seeds in rows
    ))  # fmt: skip
    make(root, f"08_reporting/evaluations.json/{version}/evaluations.json").write_text(evaluations.to_json())


def pruned(root, keep=1):
    """Prune, and return what was deleted."""
    old = old_versions(root, keep)
    before = [str(each.path.relative_to(root)) for each in old]
    delete(old)
    return before


def test_the_latest_versions_of_each_artifact_stay(tmp_path):
    for version in (V1, V2, V3):
        make_model(tmp_path, "vgg16", version)
        make(tmp_path, f"08_reporting/leaderboard.csv/{version}/leaderboard.csv")
    make(tmp_path, f"08_reporting/portraits/{V1}/portraits/a.svg")
    assert pruned(tmp_path, keep=2) == [
        f"06_models/vgg16.keras/{V1}",
        f"08_reporting/leaderboard.csv/{V1}",
        f"07_model_output/predictions/vgg16/{V1}.npz",
    ]
    assert sorted(path.name for path in (tmp_path / "06_models/vgg16.keras").iterdir()) == [V2, V3]
    assert pruned(tmp_path, keep=2) == []


@pytest.mark.parametrize("hours_ago", [0.0, 2.0])
@pytest.mark.parametrize("remains", [".unfinished-1a2b-vgg16.keras", "record.json"])
def test_the_only_whole_version_stays_and_remains_do_not_count(tmp_path, remains, hours_ago):
    """A save that was killed leaves an unfinished file, or a folder without the file of the artifact."""
    make_model(tmp_path, "vgg16", V1)
    for version in (V2, V3):
        make(tmp_path, f"06_models/vgg16.keras/{version}/{remains}", hours_ago=hours_ago)
    expected = [f"06_models/vgg16.keras/{version}" for version in (V2, V3)]
    assert pruned(tmp_path) == (expected if hours_ago else [])  # another run may be writing the new ones
    assert (tmp_path / f"06_models/vgg16.keras/{V1}/vgg16.keras").exists()
    assert (tmp_path / f"07_model_output/predictions/vgg16/{V1}.npz").exists()


def test_remains_go_first(tmp_path):
    for version in (V1, V2):
        make_model(tmp_path, "vgg16", version)
    rest = [
        make(tmp_path, f"08_reporting/portraits/{V1}/.unfinished-1a2b-portraits/a.svg", hours_ago=2).parents[1],
        make(tmp_path, f"08_reporting/report.html/.deleted-{V1}/report.html").parent,
        make(tmp_path, f"08_reporting/report.html/{V2}/report.html").with_name(".unfinished-1a2b-report.html"),
        make(tmp_path, f"07_model_output/predictions/vgg16/.unfinished-1a2b-{V1}.npz", hours_ago=2),
    ]
    make(tmp_path, rest[2].relative_to(tmp_path), hours_ago=2)
    make(tmp_path, f"07_model_output/predictions/vgg16/.unfinished-1a2b-{V2}.npz")  # being written
    assert pruned(tmp_path) == [
        *(str(path.relative_to(tmp_path)) for path in rest),
        f"06_models/vgg16.keras/{V1}",
        f"07_model_output/predictions/vgg16/{V1}.npz",
    ]
    assert (tmp_path / f"08_reporting/report.html/{V2}/report.html").exists()


def test_every_seed_of_the_latest_evaluation_stays(tmp_path):
    """All seeds count for the mean of their row; models of earlier evaluations are old."""
    for name in ("vgg16", "vgg19"):
        for version in (V1, V2, V3, V4):
            make_model(tmp_path, name, version)
    evaluate(tmp_path, V1, ("vgg19", V1))
    evaluate(tmp_path, V2, ("vgg16", V3, V1), ("vgg19", V2))
    make(tmp_path, f"08_reporting/evaluations.json/{V3}/.unfinished-1a2b-evaluations.json")
    kept = {("vgg16", V1), ("vgg16", V3), ("vgg16", V4), ("vgg19", V2), ("vgg19", V4)}
    assert f"08_reporting/evaluations.json/{V1}" in pruned(tmp_path)
    assert {(path.parent.name[:-6], path.name) for path in tmp_path.glob("06_models/*/*")} == kept
    assert {(path.parent.name, path.stem) for path in tmp_path.glob("07_model_output/predictions/*/*")} == kept


def test_the_newest_of_each_recipe_and_seed_stays_whatever_was_evaluated_last(tmp_path):
    """As after an evaluation of one old version; models of other data are old."""
    changes = [{"recipe_hash": "another"}, {"data_version": "other data"}, {}, {}]
    for version, change in zip((V1, V2, V3, V4), changes, strict=True):
        make_model(tmp_path, "vgg16", version)
        record = make_record(**change)
        (tmp_path / f"06_models/vgg16.keras/{version}/record.json").write_text(record.to_json())
    evaluate(tmp_path, V1, ("vgg19", V1))
    pruned(tmp_path)
    assert {path.name for path in tmp_path.glob("06_models/*/*")} == {V1, V4}


def test_every_seed_of_the_latest_data_stays_before_it_is_evaluated(tmp_path):
    """As after `kedro farm --seeds=0..2`, with or without an evaluation of other data."""
    changes = [{"data_version": "old data"}, *({"recipe": {"seed": seed}} for seed in (0, 1, 2))]
    for version, change in zip((V1, V2, V3, V4), changes, strict=True):
        make_model(tmp_path, "vgg16", version)
        record = make_record(**change)
        (tmp_path / f"06_models/vgg16.keras/{version}/record.json").write_text(record.to_json())
    assert [path for path in pruned(tmp_path) if path.startswith("06")] == [f"06_models/vgg16.keras/{V1}"]
    evaluate(tmp_path, V1, ("vgg19", V1))
    assert pruned(tmp_path) == []


def test_checkpoints_and_exports_stay(tmp_path):
    make(tmp_path, "06_models/vgg16_checkpoint/a_training/epoch_1.npz", hours_ago=50)
    make(tmp_path, "06_models/vgg16_checkpoint/a_training/.unfinished-1-epoch_2.npz")
    for version in (1, 2, 3):
        make(tmp_path, f"07_model_output/serving/vgg16/{version}/model.onnx", hours_ago=50)
    assert pruned(tmp_path) == []


def test_what_a_killed_training_did_not_finish_to_write_goes(tmp_path):
    make(tmp_path, "06_models/vgg16_checkpoint/a_training/epoch_1.npz", hours_ago=50)
    left = make(tmp_path, "06_models/vgg16_checkpoint/a_training/.unfinished-1-epoch_2.npz", hours_ago=50)
    assert pruned(tmp_path) == [str(left.relative_to(tmp_path))]


@pytest.mark.parametrize("content", [b"", b'{"schema": 2', b"\xff\xfe\x00", b'{"schema": 1, "models": []}'])
def test_nothing_is_deleted_without_knowing_what_the_leaderboard_needs(tmp_path, content):
    for version in (V1, V2):
        make_model(tmp_path, "vgg16", version)
    path = make(tmp_path, f"08_reporting/evaluations.json/{V1}/evaluations.json")
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"evaluations\.json .*kedro run --pipelines=evaluation"):
        old_versions(tmp_path, 1)


@pytest.fixture
def command(tmp_path, in_project):
    """Return a function that runs `kedro prune`, with the environments `base` and `mine` of a configuration in `conf`.

    Their data folders and a third, `elsewhere`, have two versions of one artifact each.
    """
    shutil.copytree(PROJECT / "conf", tmp_path / "conf")
    for root in ("base", "mine", "elsewhere"):
        for version in (V1, V2):
            make(tmp_path / root, f"08_reporting/report.html/{version}/report.html")
    for env in ("base", "mine"):
        (tmp_path / "conf" / env).mkdir(exist_ok=True)
        (tmp_path / "conf" / env / "globals.yml").write_text(
            f"data_root: {tmp_path / env}\npublished_root: published\n"
        )

    def run(*arguments, env=None, answer="y\n"):
        options = ["--keep=1", f"--conf-source={tmp_path / 'conf'}", *(each.format(tmp_path) for each in arguments)]
        return CliRunner().invoke(cli.prune, options, input=answer, env={"KEDRO_ENV": env})

    return run


@pytest.mark.parametrize(
    ("arguments", "env", "root"),
    [
        ([], None, "base"),
        ([], "mine", "mine"),
        (["--env=mine"], None, "mine"),
        (["--env=mine"], "demo", "mine"),
        (["--env=local"], "mine", "base"),
        (["--params=data_root={}/elsewhere"], "mine", "elsewhere"),
    ],
)
def test_the_command_finds_the_data_as_a_run_does_and_names_the_folder_first(tmp_path, command, arguments, env, root):
    result = command(*arguments, env=env)
    assert result.exit_code == 0, result.output
    lines = result.output.splitlines()
    assert lines[0] == f"In {tmp_path / root}:"
    assert lines[1].endswith(f" MB  08_reporting/report.html/{V1}")
    assert f"Delete them from {tmp_path / root}?" in lines[3]
    left = {
        each: len(list((tmp_path / each / "08_reporting/report.html").iterdir()))
        for each in ("base", "mine", "elsewhere")
    }
    assert left == {"base": 2, "mine": 2, "elsewhere": 2, root: 1}


def test_an_environment_that_the_variable_names_must_exist(command):
    assert "Error: There is no environment deom; did you mean demo?" in command(env="deom").output


def test_the_command_deletes_nothing_unasked(tmp_path, command):
    assert "Nothing was deleted" in command(answer="n\n").output
    assert len(list((tmp_path / "base/08_reporting/report.html").iterdir())) == 2


@pytest.mark.parametrize(
    ("arguments", "file", "content", "message"),
    [
        (["--env="], None, "", "--env is empty, as where a variable of the shell is not set"),
        (["--env=deom"], None, "", "There is no environment deom; did you mean demo?"),
        (["--params=data_root="], None, "", "data_root is empty"),
        (["--env=published"], None, "", "kedro prune is not for published models: leave out --env"),
        (["--params=data_root=[x"], None, "", "--params is not valid: expected ',' or ']'"),
        (["--params=data_roo=x"], None, "", "data_roo: no such parameter; did you mean data_root?"),
        ([], "conf/base/globals.yml", "data_root: [", "conf/base/globals.yml could not be read: "),
        ([], "conf/base/globals.yml", "other: x", "The catalog in "),
        ([], "conf/base/parameters.yml", "val_fraction: 2", "The parameters are not valid"),
        ([], "conf/local/parameters.yml", "data_root: x", "data_root is set in conf/*/parameters*.yml, where nothing"),
        ([], "conf/base/catalog.yml", "models: 3", "models"),
        ([], f"base/08_reporting/evaluations.json/{V1}/evaluations.json", "", "evaluations.json is not valid JSON"),
    ],
)
def test_a_mistake_ends_the_command_in_one_message(tmp_path, command, arguments, file, content, message):
    if file:
        make(tmp_path, file).write_text(content)
    result = command("--yes", *arguments)
    assert (result.exit_code, result.output.count("Error: ")) == (1, 1), result.output
    assert message in result.output
    assert all(len(list(path.iterdir())) == 2 for path in tmp_path.glob("*/08_reporting/report.html"))


def test_what_may_not_be_read_is_named(command, monkeypatch):
    def refuse(*_):
        raise PermissionError(13, "Permission denied", "FOLDER")

    monkeypatch.setattr(cli, "old_versions", refuse)
    expected = "Error: FOLDER could not be read or written: Permission denied. Give this user the permission.\n"
    assert command().output == expected


def test_of_a_version_that_was_moved_to_another_disk_the_link_is_deleted(tmp_path):
    for version in (V1, V2):
        make_model(tmp_path, "vgg16", version)
    moved = (tmp_path / f"06_models/vgg16.keras/{V1}").rename(tmp_path / "disk")
    (tmp_path / f"06_models/vgg16.keras/{V1}").symlink_to(moved)
    (tmp_path / f"06_models/vgg16.keras/.deleted-{V1}").symlink_to(moved)
    old = old_versions(tmp_path, 1)
    assert [each.megabytes for each in old[:2]] == [0, 0]
    delete(old)
    assert [path.name for path in (tmp_path / "06_models/vgg16.keras").iterdir()] == [V2]
    assert (moved / "record.json").exists()


@pytest.mark.parametrize(
    ("error", "reason"),
    [(OSError(13, "Permission denied"), "Permission denied"), (OSError("without a number"), "without a number")],
)
def test_what_cannot_be_deleted_is_named(tmp_path, monkeypatch, error, reason):
    for version in (V1, V2):
        make_model(tmp_path, "vgg16", version)
    old = old_versions(tmp_path, 1)

    def refuse(path):
        raise error

    monkeypatch.setattr("shutil.rmtree", refuse)
    with pytest.raises(InputError, match=rf"vgg16\.keras/{V1} could not be deleted: {reason}\. What stands above"):
        delete(old)
