"""Which export is served, whatever comes into the folder and goes."""

import json
import logging
import re
import shutil
import threading

import numpy as np
import pytest

from cifar10.serving.repository import Repository
from tests.serving.conftest import network, wait_for, write_export


def served(repository):
    repository.refresh()
    return repository.model and (repository.model.name, repository.model.version)


def test_the_newest_by_its_time_of_export(tmp_path):
    repository = Repository(tmp_path)
    assert served(repository) is None
    write_export(tmp_path, "vgg16", 7, "2026-11-21T10:00:00+00:00")
    assert served(repository) == ("vgg16", 7)
    write_export(tmp_path, "airbench94", 1, "2026-11-21T11:00:00+00:00")
    assert served(repository) == ("airbench94", 1)
    write_export(tmp_path, "simple_cnn", 9, "2026-11-21T12:30:00+02:00")  # which is half past ten
    assert served(repository) == ("airbench94", 1)
    write_export(tmp_path, "airbench94", 2, "2026-11-21T11:00:01+00:00")
    assert served(repository) == ("airbench94", 2)


def test_what_is_taken_away_gives_way_to_the_one_before(tmp_path):
    repository = Repository(tmp_path)
    write_export(tmp_path, version=1, exported_at="2026-11-21T10:00:00+00:00")
    newest = write_export(tmp_path, version=2, exported_at="2026-11-21T11:00:00+00:00")
    assert served(repository) == ("airbench94", 2)
    shutil.rmtree(newest)
    assert served(repository) == ("airbench94", 1)
    shutil.rmtree(tmp_path / "airbench94")
    assert served(repository) == ("airbench94", 1)  # rather than none


def test_a_model_is_loaded_once(tmp_path):
    repository = Repository(tmp_path)
    write_export(tmp_path)
    repository.refresh()
    model = repository.model
    repository.refresh()
    assert repository.model is model


def break_card(folder):
    (folder / "model_card.json").write_text('{"name": ')


def rename_card(folder):
    card = json.loads((folder / "model_card.json").read_text())
    (folder / "model_card.json").write_text(json.dumps({**card, "name": "vgg16"}))


def without_zone(folder):
    card = json.loads((folder / "model_card.json").read_text())
    (folder / "model_card.json").write_text(json.dumps({**card, "exported_at": "2027-01-01T00:00:00"}))


def no_network(folder):
    (folder / "model.onnx").unlink()


def half_a_network(folder):
    (folder / "model.onnx").write_bytes(network()[:-50])


def other_classes(folder):
    (folder / "model.onnx").write_bytes(network(classes=7))


def another_input(folder):
    (folder / "model.onnx").write_bytes(network(input_name="pixels"))


FAULTS = {
    break_card: "its card is wrong at its beginning: Invalid JSON",
    rename_card: "its card is that of vgg16",
    without_zone: "its card is wrong at exported_at",
    no_network: "model.onnx",
    half_a_network: "no whole export",
    other_classes: "probabilities of 10 classes",
    another_input: r"inputs and outputs are \['pixels'\]",
}


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
def test_a_broken_export_is_told_once_and_passed_over(tmp_path, caplog, fault):
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
def test_only_whole_numbers_are_versions(tmp_path, name):
    write_export(tmp_path).rename(tmp_path / "airbench94" / name)
    assert served(Repository(tmp_path)) is None


def test_an_export_needs_no_samples(tmp_path):
    shutil.rmtree(write_export(tmp_path) / "samples")
    repository = Repository(tmp_path)
    assert served(repository) == ("airbench94", 1)
    assert repository.model.samples == {}


def test_calibrated_is_by_the_temperature_of_the_card(tmp_path):
    write_export(tmp_path, temperature=2.0)
    repository = Repository(tmp_path)
    repository.refresh()
    images = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), dtype=np.uint8)
    raw = repository.model.probabilities(images)
    roots = np.sqrt(raw)
    np.testing.assert_allclose(repository.model.calibrated(images), roots / roots.sum(axis=1, keepdims=True), rtol=1e-5)


def test_an_export_that_was_copied_slowly_is_served_once_it_is_whole(tmp_path):
    """Its card came before its network."""
    folder = write_export(tmp_path)
    content = (folder / "model.onnx").read_bytes()
    repository = Repository(tmp_path)
    for part in (content[:0], content[:-50]):
        (folder / "model.onnx").write_bytes(part)
        assert served(repository) is None
    (folder / "model.onnx").write_bytes(content)
    assert served(repository) == ("airbench94", 1)


def test_what_hinders_a_look_is_told_once_and_does_not_end_the_watch(tmp_path, monkeypatch, caplog):
    repository, hindered = Repository(tmp_path), threading.Event()
    looks = []

    def refresh():
        looks.append(1)
        if not hindered.is_set():
            raise PermissionError("not for you")
        Repository.refresh(repository)

    monkeypatch.setattr(repository, "refresh", refresh)
    repository.watch(seconds=0.01)
    try:
        wait_for(lambda: len(looks) > 3)
        assert caplog.text.count("PermissionError: not for you") == 1
        write_export(tmp_path)
        hindered.set()
        wait_for(lambda: repository.model)
    finally:
        repository.stop()
