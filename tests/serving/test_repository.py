"""Which export is served while exports appear, change and disappear."""

import json
import logging
import re
import shutil
import threading

import numpy as np
import pytest

from cifar10.serving import repository as repository_module
from cifar10.serving.repository import Repository
from tests.serving.conftest import network, wait_for, write_export


def served(repository):
    repository.refresh()
    return repository.model and (repository.model.name, repository.model.version)


def test_the_export_with_the_latest_export_time_is_served(tmp_path):
    repository = Repository(tmp_path)
    assert served(repository) is None
    write_export(tmp_path, "vgg16", 7, "2026-11-21T10:00:00+00:00")
    assert served(repository) == ("vgg16", 7)
    write_export(tmp_path, "airbench94", 1, "2026-11-21T11:00:00+00:00")
    assert served(repository) == ("airbench94", 1)
    write_export(tmp_path, "simple_cnn", 9, "2026-11-21T12:30:00+02:00")  # 10:30 UTC
    assert served(repository) == ("airbench94", 1)
    write_export(tmp_path, "airbench94", 2, "2026-11-21T11:00:01+00:00")
    assert served(repository) == ("airbench94", 2)


def test_within_a_name_the_highest_version_is_served(tmp_path):
    """The clock was ahead when version 2 was exported."""
    repository = Repository(tmp_path)
    write_export(tmp_path, version=2, exported_at="2027-01-01T00:00:00+00:00")
    assert served(repository) == ("airbench94", 2)
    third = write_export(tmp_path, version=10, exported_at="2026-11-21T11:00:00+00:00")
    assert served(repository) == ("airbench94", 10)
    write_export(tmp_path, "vgg16", 1, "2026-11-21T10:00:00+00:00")
    assert served(repository) == ("airbench94", 10)
    write_export(tmp_path, "simple_cnn", 1, "2026-11-21T12:00:00+00:00")
    assert served(repository) == ("simple_cnn", 1)
    shutil.rmtree(third)
    assert served(repository) == ("airbench94", 2)


def test_a_chosen_name_or_version_is_served_whatever_is_newer(tmp_path, caplog):
    write_export(tmp_path, "vgg16", 1, "2026-11-21T10:00:00+00:00")
    write_export(tmp_path, "vgg16", 2, "2026-11-21T11:00:00+00:00")
    write_export(tmp_path, "simple_cnn", 1, "2026-11-21T12:00:00+00:00")
    by_name, by_version = Repository(tmp_path, "vgg16"), Repository(tmp_path, "vgg16:1")
    assert (served(by_name), served(by_version)) == (("vgg16", 2), ("vgg16", 1))
    write_export(tmp_path, "vgg16", 3, "2026-11-21T13:00:00+00:00")
    assert (served(by_name), served(by_version)) == (("vgg16", 3), ("vgg16", 1))
    assert served(Repository(tmp_path, "vgg16:4")) is None
    (record,) = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert "there is no vgg16/4/model_card.json in" in record.message
    assert "It has simple_cnn:1, vgg16:1, vgg16:2, vgg16:3." in record.message


@pytest.mark.parametrize(
    ("folder", "advice"),
    [
        ("serving/airbench94/1", "pass --models {root}/serving$"),
        ("serving/airbench94", "pass --models {root}/serving$"),
        (".", "pass --models {root}/serving$"),
        ("serving/airbench94/1/samples", "keeps looking"),
    ],
)
def test_a_folder_without_exports_is_logged_once_with_what_to_do(tmp_path, caplog, folder, advice):
    write_export(tmp_path / "serving")
    repository = Repository(tmp_path / folder)
    for _ in range(3):
        assert served(repository) is None
    (record,) = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert "there is no NAME/VERSION/model_card.json in" in record.message
    assert re.search(advice.format(root=tmp_path), record.message)


def test_when_the_newest_export_is_deleted_the_next_newest_is_served(tmp_path):
    repository = Repository(tmp_path)
    write_export(tmp_path, version=1, exported_at="2026-11-21T10:00:00+00:00")
    newest = write_export(tmp_path, version=2, exported_at="2026-11-21T11:00:00+00:00")
    assert served(repository) == ("airbench94", 2)
    shutil.rmtree(newest)
    assert served(repository) == ("airbench94", 1)
    shutil.rmtree(tmp_path / "airbench94")
    assert served(repository) == ("airbench94", 1)  # the last model stays loaded


def test_a_model_is_loaded_once(tmp_path):
    repository = Repository(tmp_path)
    write_export(tmp_path)
    repository.refresh()
    model = repository.model
    repository.refresh()
    assert repository.model is model


def truncate_card(folder):
    (folder / "model_card.json").write_text('{"name": ')


def edit_card(folder, **fields):
    card = json.loads((folder / "model_card.json").read_text())
    (folder / "model_card.json").write_text(json.dumps({**card, **fields}))


def change_name(folder):
    edit_card(folder, name="vgg16")


def remove_time_zone(folder):
    edit_card(folder, exported_at="2027-01-01T00:00:00")


def delete_network(folder):
    (folder / "model.onnx").unlink()


def truncate_network(folder):
    (folder / "model.onnx").write_bytes(network()[:-50])


def change_class_count(folder):
    (folder / "model.onnx").write_bytes(network(classes=7))


def change_input_name(folder):
    (folder / "model.onnx").write_bytes(network(input_name="pixels"))


FAULTS = {
    truncate_card: "model_card.json is invalid: Invalid JSON",
    change_name: "model_card.json belongs to the model vgg16",
    remove_time_zone: "model_card.json is invalid at exported_at",
    delete_network: "model.onnx",
    truncate_network: "invalid or incomplete export",
    change_class_count: "probabilities of 10 classes",
    change_input_name: r"inputs and outputs are \['pixels'\]",
}


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
def test_a_broken_export_is_logged_once_and_skipped(tmp_path, caplog, fault):
    repository = Repository(tmp_path)
    write_export(tmp_path, version=1)
    fault(write_export(tmp_path, version=2, exported_at="2027-01-01T00:00:00+00:00"))
    for _ in range(3):
        assert served(repository) == ("airbench94", 1)
    (record,) = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert str(tmp_path / "airbench94" / "2") in record.message
    assert len(record.message.splitlines()) == 1
    assert re.search(FAULTS[fault], record.message)
    write_export(tmp_path, version=3, exported_at="2027-01-01T00:00:01+00:00")
    assert served(repository) == ("airbench94", 3)


@pytest.mark.parametrize("name", [".unfinished-2", "latest", "01", "-1", "1.5", "²"])
def test_only_positive_integers_are_versions(tmp_path, name):
    write_export(tmp_path).rename(tmp_path / "airbench94" / name)
    assert served(Repository(tmp_path)) is None


def test_samples_are_optional(tmp_path):
    shutil.rmtree(write_export(tmp_path) / "samples")
    repository = Repository(tmp_path)
    assert served(repository) == ("airbench94", 1)
    assert repository.model.samples == {}


def test_samples_that_arrive_later_are_loaded(tmp_path):
    """As from a copy that is still running when the network is complete."""
    folder = write_export(tmp_path)
    samples = (folder / "samples").rename(tmp_path / "samples")
    repository = Repository(tmp_path)
    assert served(repository) == ("airbench94", 1)
    samples.rename(folder / "samples")
    assert served(repository) == ("airbench94", 1)
    assert repository.model.samples


def test_an_export_that_becomes_readable_is_served(tmp_path, monkeypatch):
    folder = write_export(tmp_path)
    repository = Repository(tmp_path)
    with monkeypatch.context() as context:
        context.setattr(repository_module, "_read_card", lambda export: open_without_permission())
        assert served(repository) is None
    (folder / "model.onnx").chmod(0o640)
    assert served(repository) == ("airbench94", 1)


def open_without_permission():
    raise PermissionError(13, "Permission denied")


def test_probabilities_are_calibrated_with_the_temperature_of_the_card(tmp_path):
    write_export(tmp_path, temperature=2.0)
    repository = Repository(tmp_path)
    repository.refresh()
    images = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), dtype=np.uint8)
    roots = np.sqrt(repository.model.probabilities(images))
    calibrated = repository.model.calibrated_probabilities(images)
    np.testing.assert_allclose(calibrated, roots / roots.sum(axis=1, keepdims=True), rtol=1e-5)


def test_an_export_that_is_copied_slowly_is_served_once_it_is_complete(tmp_path):
    """The card is copied before the network, and there are no samples yet."""
    folder = write_export(tmp_path)
    shutil.rmtree(folder / "samples")
    content = (folder / "model.onnx").read_bytes()
    repository = Repository(tmp_path)
    for part in (content[:0], content[:-50]):
        (folder / "model.onnx").write_bytes(part)
        assert served(repository) is None
    (folder / "model.onnx").write_bytes(content)
    assert served(repository) == ("airbench94", 1)


def test_a_failed_scan_is_logged_once_and_retried(tmp_path, monkeypatch, caplog):
    repository, readable = Repository(tmp_path), threading.Event()
    scans = []

    def refresh():
        scans.append(1)
        if not readable.is_set():
            raise PermissionError("no access")
        Repository.refresh(repository)

    monkeypatch.setattr(repository, "refresh", refresh)
    repository.watch(interval_seconds=0.01)
    try:
        wait_for(lambda: len(scans) > 3)
        assert caplog.text.count("PermissionError: no access") == 1
        write_export(tmp_path)
        readable.set()
        wait_for(lambda: repository.model)
    finally:
        repository.stop()
