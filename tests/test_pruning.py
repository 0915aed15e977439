"""Old versions and remains go; whatever the leaderboard stands on stays."""

import os
import time

import pytest

from cifar10.errors import InputError
from cifar10.pruning import delete, old_versions
from tests.helpers import kedro, make_evaluation, make_evaluations, make_record, make_row

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


def test_checkpoints_and_exports_stay(tmp_path):
    make(tmp_path, "06_models/vgg16_checkpoint/a_training/epoch_1.npz", hours_ago=50)
    for version in (1, 2, 3):
        make(tmp_path, f"07_model_output/serving/vgg16/{version}/model.onnx", hours_ago=50)
    assert pruned(tmp_path) == []


@pytest.mark.parametrize("content", [b"", b'{"schema": 2', b"\xff\xfe\x00", b'{"schema": 1, "models": []}'])
def test_nothing_is_deleted_without_knowing_what_the_leaderboard_needs(tmp_path, content):
    for version in (V1, V2):
        make_model(tmp_path, "vgg16", version)
    path = make(tmp_path, f"08_reporting/evaluations.json/{V1}/evaluations.json")
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"evaluations\.json .*kedro run --pipelines=evaluation"):
        old_versions(tmp_path, 1)


def test_the_command_says_so_in_one_sentence(tmp_path):
    path = make(tmp_path, f"08_reporting/evaluations.json/{V1}/evaluations.json")
    result = kedro("prune", "--keep=1", f"--data-root={tmp_path}", "--yes")
    assert result.returncode == 1
    assert result.stderr.startswith(f"Error: {path} is not valid JSON")
    assert "Traceback" not in result.stdout + result.stderr
    nowhere = kedro("prune", "--keep=1", "--env=deom")
    assert "Error: There is no environment deom" in nowhere.stderr


def test_what_cannot_be_deleted_is_named(tmp_path, monkeypatch):
    for version in (V1, V2):
        make_model(tmp_path, "vgg16", version)
    old = old_versions(tmp_path, 1)

    def refuse(path):
        raise OSError(13, "Permission denied")

    monkeypatch.setattr("shutil.rmtree", refuse)
    with pytest.raises(InputError, match=rf"vgg16\.keras/{V1} could not be deleted: Permission denied"):
        delete(old)
