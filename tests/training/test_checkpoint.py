import json
import multiprocessing
import os
import resource

import numpy as np
import pytest

from cifar10.errors import InputError
from cifar10.training.checkpoint import Bundle, Checkpoint

IDENTITY = {"architecture": "vgg16", "recipe": {"seed": 0, "learning_rate": 0.1}, "data_version": "abc"}


def bundle(epochs):
    state = [np.full((3, 2), epochs, "float32"), np.uint32([epochs, 7])]
    return Bundle(state, None if epochs % 2 else [np.zeros(4)], {"history": [{"epoch": epochs}] * epochs, "more": "x"})


def files(checkpoint):
    return sorted(checkpoint.folder.glob("*/*.npz"))


def test_what_was_saved_last_comes_back(checkpoint):
    assert checkpoint.latest(IDENTITY) is None
    for epochs in range(1, 5):
        checkpoint.save(IDENTITY, bundle(epochs))
        latest = checkpoint.latest(IDENTITY)
        for array, saved in zip(latest.state, bundle(epochs).state, strict=True):
            np.testing.assert_array_equal(array, saved)
            assert array.dtype == saved.dtype
        assert (latest.best is None) == (epochs % 2 == 1)
        assert latest.facts == bundle(epochs).facts
    assert [path.stem for path in files(checkpoint)] == ["epoch_00003", "epoch_00004"]


@pytest.mark.parametrize("damage", ["cut off", "a bit flipped", "empty", "no zip"])
def test_a_damaged_bundle_falls_back_to_the_one_before(checkpoint, caplog, damage):
    for epochs in (1, 2):
        checkpoint.save(IDENTITY, bundle(epochs))
    last = files(checkpoint)[-1]
    content = bytearray(last.read_bytes())
    content[content.index(np.full((3, 2), 2, "float32").tobytes())] ^= 64
    last.write_bytes({"cut off": content[:-30], "a bit flipped": content, "empty": b"", "no zip": b"x" * 500}[damage])
    assert len(checkpoint.latest(IDENTITY).facts["history"]) == 1
    assert "epoch_00002.npz is damaged" in caplog.text
    files(checkpoint)[0].write_bytes(b"")
    assert checkpoint.latest(IDENTITY) is None
    assert "starts afresh, for there is no other" in caplog.text


def test_whatever_bit_is_flipped_in_the_directory_of_a_bundle_it_is_whole_or_not_taken(checkpoint):
    for epochs in (1, 2):
        checkpoint.save(IDENTITY, bundle(epochs))
    last = files(checkpoint)[-1]
    content = last.read_bytes()
    directory = content.index(b"PK\x01\x02")
    fallen_back = 0
    for bit in range(8 * (len(content) - directory)):
        damaged = bytearray(content)
        damaged[directory + bit // 8] ^= 1 << bit % 8
        last.write_bytes(damaged)
        latest = checkpoint.latest(IDENTITY)
        expected = bundle(len(latest.facts["history"]))
        fallen_back += latest.facts != bundle(2).facts
        for array, saved in zip(latest.state, expected.state, strict=True):
            np.testing.assert_array_equal(array, saved)
        assert (latest.best is None) == (expected.best is None)
    assert fallen_back > 100


def test_what_a_killed_save_left_is_no_bundle(checkpoint):
    checkpoint.save(IDENTITY, bundle(1))
    files(checkpoint)[0].rename(files(checkpoint)[0].with_name(".unfinished-0a1b2c3d-epoch_00001.npz"))
    assert checkpoint.latest(IDENTITY) is None
    assert checkpoint.latest({**IDENTITY, "data_version": "other"}) is None
    with checkpoint.lock(IDENTITY):
        assert files(checkpoint) == []


def test_a_folder_that_cannot_be_made_is_an_input_error(tmp_path):
    (tmp_path / "file").touch()
    checkpoint = Checkpoint(tmp_path / "file" / "checkpoint")
    with pytest.raises(InputError, match="could not be written: Not a directory"), checkpoint.lock(IDENTITY):
        pass


def test_a_training_is_not_cleared_under_another_run(checkpoint):
    with checkpoint.lock(IDENTITY):
        checkpoint.save(IDENTITY, bundle(1))
        Checkpoint(checkpoint.folder).clear(IDENTITY)
        assert files(checkpoint)
    checkpoint.clear(IDENTITY)
    assert not checkpoint.folder.exists()


def test_a_full_disk_ends_in_one_message_and_keeps_the_last_good_bundle(checkpoint):
    checkpoint.save(IDENTITY, bundle(1))
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (200, limits[1]))  # writing on fails, as on a full disk
    try:
        with pytest.raises(InputError, match=r"epoch_00002.npz could not be written.*Make room"):
            checkpoint.save(IDENTITY, bundle(2))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert [path.stem for path in files(checkpoint)] == ["epoch_00001"]
    assert len(checkpoint.latest(IDENTITY).facts["history"]) == 1


def test_another_recipe_starts_afresh_says_so_and_leaves_the_first_alone(checkpoint, caplog):
    caplog.set_level("INFO")
    with checkpoint.lock(IDENTITY):
        checkpoint.save(IDENTITY, bundle(3))
    changed = {**IDENTITY, "recipe": {"seed": 0, "learning_rate": 0.05}}
    assert checkpoint.latest(changed) is None
    assert "vgg16: starts afresh" in caplog.text
    assert "(learning_rate 0.1 -> 0.05)" in caplog.text
    assert "keeps 3 epochs" in caplog.text
    checkpoint.clear(changed)
    caplog.clear()
    assert len(checkpoint.latest(IDENTITY).facts["history"]) == 3
    assert "afresh" not in caplog.text
    checkpoint.clear(IDENTITY)
    assert not checkpoint.folder.exists()


def test_the_same_training_twice_at_once_is_refused(checkpoint):
    with checkpoint.lock(IDENTITY):
        with pytest.raises(InputError, match=r"vgg16 is being trained by another run, with the same recipe"):
            Checkpoint(checkpoint.folder).lock(IDENTITY).__enter__()
        with Checkpoint(checkpoint.folder).lock({**IDENTITY, "recipe": {"seed": 1}}):
            pass
    with Checkpoint(checkpoint.folder).lock(IDENTITY):
        pass


def test_a_run_that_dies_lets_go(checkpoint):
    process = multiprocessing.get_context("fork").Process(target=_lock_and_die, args=(checkpoint,))
    process.start()
    process.join()
    assert process.exitcode == 9
    with checkpoint.lock(IDENTITY):
        assert json.loads(next(checkpoint.folder.glob("*/about.json")).read_text()) == IDENTITY


def _lock_and_die(checkpoint):
    with checkpoint.lock(IDENTITY):
        os._exit(9)
