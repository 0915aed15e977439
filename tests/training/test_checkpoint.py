"""Checkpoints survive whatever may happen to a run or to their files."""

import json
import multiprocessing
import os

import numpy as np
import pytest
from filelock import FileLock

from cifar10.errors import BusyError, InputError
from cifar10.training.checkpoint import Checkpoint, Checkpoints, FollowedCheckpoints
from tests.helpers import full_disk

IDENTITY = {"architecture": "vgg16", "recipe": {"seed": 0, "learning_rate": 0.1}, "data_version": "abc"}


def after(epochs):
    """Return a checkpoint after that number of epochs."""
    state = [np.full((3, 2), epochs, "float32"), np.uint32([epochs, 7])]
    best = None if epochs % 2 else [np.zeros(4)]
    return Checkpoint(state, best, {"history": [{"epoch": epochs}] * epochs, "more": "x"})


def files(checkpoints):
    return sorted(checkpoints.folder.glob("*/*.npz"))


def test_another_process_of_a_training_reads_what_the_first_saves(checkpoints):
    followed = FollowedCheckpoints(checkpoints.folder)
    with checkpoints.lock(IDENTITY), followed.lock(IDENTITY):
        checkpoints.save(IDENTITY, after(1))
        followed.save(IDENTITY, after(2))
        assert len(followed.latest(IDENTITY).facts["history"]) == 1


def test_latest_checkpoint_is_loaded_as_it_was_saved(checkpoints):
    assert checkpoints.latest(IDENTITY) is None
    for epochs in range(1, 5):
        checkpoints.save(IDENTITY, after(epochs))
        latest = checkpoints.latest(IDENTITY)
        for array, saved in zip(latest.state, after(epochs).state, strict=True):
            np.testing.assert_array_equal(array, saved)
            assert array.dtype == saved.dtype
        assert (latest.best is None) == (epochs % 2 == 1)
        assert latest.facts == after(epochs).facts
    assert [path.stem for path in files(checkpoints)] == ["epoch_00003", "epoch_00004"]


@pytest.mark.parametrize("damage", ["truncated", "bit flipped", "empty", "not a ZIP file"])
def test_damaged_checkpoint_falls_back_to_the_one_before(checkpoints, caplog, damage):
    for epochs in (1, 2):
        checkpoints.save(IDENTITY, after(epochs))
    last = files(checkpoints)[-1]
    content = bytearray(last.read_bytes())
    content[content.index(np.full((3, 2), 2, "float32").tobytes())] ^= 64
    contents = {"truncated": content[:-30], "bit flipped": content, "empty": b"", "not a ZIP file": b"x" * 500}
    last.write_bytes(contents[damage])
    assert len(checkpoints.latest(IDENTITY).facts["history"]) == 1
    assert "epoch_00002.npz is damaged" in caplog.text
    files(checkpoints)[0].write_bytes(b"")
    assert checkpoints.latest(IDENTITY) is None
    assert "starting from scratch, because no checkpoint is readable" in caplog.text
    for epochs in (1, 2, 3):  # the damaged ones do not count as the latest two
        checkpoints.save(IDENTITY, after(epochs))
        assert len(checkpoints.latest(IDENTITY).facts["history"]) == epochs
    assert [path.stem for path in files(checkpoints)] == ["epoch_00002", "epoch_00003"]


@pytest.mark.parametrize("content", [b"", b"\xff\xfe", b"[]", b"{}"])
def test_another_training_with_a_damaged_identity_is_not_in_the_way(checkpoints, caplog, content):
    other = {**IDENTITY, "data_version": "def"}
    with checkpoints.lock(other):
        checkpoints.save(other, after(1))
    (path,) = checkpoints.folder.glob("*/identity.json")
    path.write_bytes(content)
    assert checkpoints.latest(IDENTITY) is None
    assert f"{path} is damaged" in caplog.text


def test_checkpoint_with_any_bit_of_its_directory_flipped_is_read_correctly_or_not_at_all(checkpoints):
    for epochs in (1, 2):
        checkpoints.save(IDENTITY, after(epochs))
    last = files(checkpoints)[-1]
    content = last.read_bytes()
    directory = content.index(b"PK\x01\x02")
    fallen_back = 0
    for bit in range(8 * (len(content) - directory)):
        damaged = bytearray(content)
        damaged[directory + bit // 8] ^= 1 << bit % 8
        last.write_bytes(damaged)
        latest = checkpoints.latest(IDENTITY)
        expected = after(len(latest.facts["history"]))
        fallen_back += latest.facts != after(2).facts
        for array, saved in zip(latest.state, expected.state, strict=True):
            np.testing.assert_array_equal(array, saved)
        assert (latest.best is None) == (expected.best is None)
    assert fallen_back > 100


def test_unfinished_file_of_a_killed_run_is_ignored_and_removed(checkpoints):
    checkpoints.save(IDENTITY, after(1))
    files(checkpoints)[0].rename(files(checkpoints)[0].with_name(".unfinished-0a1b2c3d-epoch_00001.npz"))
    assert checkpoints.latest(IDENTITY) is None
    assert checkpoints.latest({**IDENTITY, "data_version": "other"}) is None
    with checkpoints.lock(IDENTITY):
        assert files(checkpoints) == []


def test_folder_that_cannot_be_created_is_an_input_error(tmp_path):
    (tmp_path / "file").touch()
    checkpoints = Checkpoints(tmp_path / "file" / "checkpoint")
    with pytest.raises(InputError, match="could not be written: Not a directory"), checkpoints.lock(IDENTITY):
        pass


def test_a_training_that_saves_nothing_leaves_no_folder(checkpoints):
    """As one whose loss is not finite in its first epoch, or that is interrupted in it."""
    with pytest.raises(KeyboardInterrupt), checkpoints.lock(IDENTITY):
        raise KeyboardInterrupt
    assert not list(checkpoints.folder.iterdir())
    with checkpoints.lock(IDENTITY):
        checkpoints.cached(IDENTITY, "features", lambda path: np.save(path.open("wb"), np.zeros(3)))
    assert len(list(checkpoints.folder.glob("*/identity.json"))) == 1


def test_a_folder_that_another_run_deletes_meanwhile_is_made_again(checkpoints, monkeypatch):
    acquire, attempts = FileLock.acquire, []

    def deleted_at_first(lock, *arguments, **options):
        attempts.append(lock)
        if len(attempts) == 1:
            raise FileNotFoundError
        return acquire(lock, *arguments, **options)

    monkeypatch.setattr(FileLock, "acquire", deleted_at_first)
    with checkpoints.lock(IDENTITY):
        assert len(attempts) == 2


def test_locked_training_is_not_cleared(checkpoints):
    with checkpoints.lock(IDENTITY):
        checkpoints.save(IDENTITY, after(1))
        Checkpoints(checkpoints.folder).clear(IDENTITY)
        assert files(checkpoints)
    checkpoints.clear(IDENTITY)
    assert not checkpoints.folder.exists()


def test_full_disk_is_an_input_error_and_keeps_the_checkpoint_before(checkpoints):
    checkpoints.save(IDENTITY, after(1))
    with full_disk(200), pytest.raises(InputError, match=r"epoch_00002.npz could not be written.*Free disk space"):
        checkpoints.save(IDENTITY, after(2))
    assert [path.stem for path in files(checkpoints)] == ["epoch_00001"]
    assert len(checkpoints.latest(IDENTITY).facts["history"]) == 1


def test_changed_recipe_starts_from_scratch_and_says_what_changed(checkpoints, caplog):
    caplog.set_level("INFO")
    with checkpoints.lock(IDENTITY):
        checkpoints.save(IDENTITY, after(3))
    changed = {**IDENTITY, "recipe": {"seed": 0, "learning_rate": 0.05}}
    assert checkpoints.latest(changed) is None
    assert "vgg16: starting from scratch" in caplog.text
    assert "(learning_rate 0.1 -> 0.05)" in caplog.text
    assert "has 3 epochs" in caplog.text
    checkpoints.clear(changed)
    caplog.clear()
    assert len(checkpoints.latest(IDENTITY).facts["history"]) == 3
    assert "from scratch" not in caplog.text


def test_what_another_run_is_training_is_not_to_be_deleted(checkpoints, caplog):
    caplog.set_level("INFO")
    with checkpoints.lock(IDENTITY):
        checkpoints.save(IDENTITY, after(3))
        assert Checkpoints(checkpoints.folder).latest({**IDENTITY, "recipe": {"seed": 1}}) is None
    assert "delete" not in caplog.text
    checkpoints.clear(IDENTITY)
    assert not checkpoints.folder.exists()


def test_second_run_of_the_same_training_is_refused(checkpoints):
    with checkpoints.lock(IDENTITY):
        with pytest.raises(BusyError, match=r"vgg16 is being trained by another run, with the same recipe"):
            Checkpoints(checkpoints.folder).lock(IDENTITY).__enter__()
        with Checkpoints(checkpoints.folder).lock({**IDENTITY, "recipe": {"seed": 1}}):
            pass
    with Checkpoints(checkpoints.folder).lock(IDENTITY):
        pass


def test_lock_of_a_run_that_dies_is_released(checkpoints):
    process = multiprocessing.get_context("fork").Process(target=_lock_and_die, args=(checkpoints,))
    process.start()
    process.join()
    assert process.exitcode == 9
    with checkpoints.lock(IDENTITY):
        assert json.loads(next(checkpoints.folder.glob("*/identity.json")).read_text()) == IDENTITY


def _lock_and_die(checkpoints):
    with checkpoints.lock(IDENTITY):
        os._exit(9)
