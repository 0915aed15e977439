"""Which models are evaluated on corrupted images, on which images, and what identifies them."""

import logging

import numpy as np
import pytest

from cifar10.contracts import Examples, TrainedModel
from cifar10.datasets.cifar10_c import COMMON, EXTRA, CIFAR10CDataset
from cifar10.errors import InputError
from cifar10.pipelines.robustness import nodes
from tests.helpers import CLASS_NAMES, make_record

TEST = Examples(
    np.random.default_rng(0).integers(0, 256, (20, 32, 32, 3), dtype=np.uint8), np.arange(20, dtype=np.uint8) % 10
)


def model(version, seed, **changes):
    record = make_record(recipe={"seed": seed}, training_digest=version, **changes)
    return TrainedModel(record, lambda: version, version)


class Models:
    def __init__(self, *models):
        self.models = {each.version: each for each in models}

    def names(self):
        return sorted({each.record.architecture for each in self.models.values()})

    def versions(self, name):
        return sorted(version for version, each in self.models.items() if each.record.architecture == name)

    def load(self, name, version):
        return self.models[version]


@pytest.fixture
def evaluate(monkeypatch, statistics):
    """Evaluate versions of one architecture; each network is right on as many images as its day."""

    def infer(network, images, image_size):
        labels = np.arange(len(images))
        return np.eye(10, dtype=np.float32)[np.where(labels < int(network[-2:]), labels, (labels + 1) % 10)]

    def run(*models, examples=10, seed=0, cifar10_c=None, use=True, earlier=None):
        options = {"examples": examples, "seed": seed, "cifar10_c": use}
        current = statistics.model_copy(update={"digests": {"test": chosen.digest}})
        evaluate = nodes.robustness_evaluator(["vgg16"])
        given = cifar10_c if callable(cifar10_c) else lambda: cifar10_c
        return evaluate(current, chosen, given, CLASS_NAMES, options, earlier, Models(*models), models[-1])

    chosen = TEST.take(slice(0, 10))
    monkeypatch.setattr("cifar10.compute.inference.infer", infer)
    monkeypatch.setattr(nodes, "SEVERITIES", (1,))
    return run


def test_the_lowest_seed_of_each_row_is_evaluated(evaluate):
    """The same models as those that an evaluation compares, under the same names."""
    models = [
        model("2026-01-01", seed=2),
        model("2026-01-02", seed=1),
        model("2026-01-03", seed=1),
        model("2026-01-08", seed=5, recipe_hash="9876543210ab"),
        model("2026-01-09", seed=0, data_version="another"),
        model("2026-01-10", seed=0, class_names=["a", "b"]),
    ]
    table = evaluate(*models)
    rows = table.groupby("name", sort=False).first()
    assert rows.index.tolist() == ["vgg16-9876", "vgg16-0123"]  # the best first
    assert rows.model_version.tolist() == ["2026-01-08", "2026-01-03"]
    assert rows.identity.tolist() == [models[3].identity, models[2].identity]
    assert rows.seed.tolist() == [5, 1]
    assert rows.recipe_hash.tolist() == ["9876543210ab", "0123456789ab"]
    assert set(table.data_version) == {"a data version"}
    assert table.clean_accuracy.tolist() == [0.8] * 6 + [0.3] * 6
    assert set(table.images) == {10}


def test_what_an_earlier_run_has_found_is_used_again(evaluate, caplog):
    """Of the same model on the same images: the accuracies in the table of that run are marked here."""
    old, new = model("2026-01-01", seed=0), model("2026-01-05", seed=0, recipe_hash="9876543210ab")
    marked = evaluate(old).assign(accuracy=0.123)
    with caplog.at_level(logging.INFO):
        table = evaluate(old, new, earlier=marked).set_index("model_version")
    assert set(table.accuracy["2026-01-01"]) == {0.123}
    assert set(table.accuracy["2026-01-05"]) == {0.5}
    assert table.columns.tolist() == [name for name in marked if name != "model_version"]
    assert table.loc["2026-01-01", "name"].unique().tolist() == ["vgg16-0123"]  # as it is named now
    reused = [message for message in caplog.messages if "reusing" in message]
    assert reused == ["vgg16: reusing the accuracy of version 2026-01-01 on corrupted images"]


@pytest.mark.parametrize("changes", [{"seed": 1}, {"examples": 5}])
def test_other_images_are_evaluated_anew(evaluate, changes):
    old = model("2026-01-01", seed=0)
    marked = evaluate(old).assign(accuracy=0.123)
    assert 0.123 not in set(evaluate(old, earlier=marked, **changes).accuracy)


def test_changed_corruptions_are_evaluated_anew(evaluate, monkeypatch):
    old = model("2026-01-01", seed=0)
    marked = evaluate(old).assign(accuracy=0.123)
    monkeypatch.setitem(nodes.CORRUPTIONS, "contrast", lambda images, *_: 255 - images)
    assert 0.123 not in set(evaluate(old, earlier=marked).accuracy)


def test_nothing_to_evaluate_says_what_to_do(evaluate):
    with pytest.raises(InputError, match="kedro run --pipelines=train_simple_cnn,robustness"):
        evaluate(model("2026-01-01", seed=0, data_version="another"))


class TestCIFAR10C:
    """Its images are read as they are, and its errors are those of the literature's table."""

    @pytest.fixture
    def folder(self, tmp_path):
        """Ten images for each severity; the first value says whether `infer` is right: on 9, 8, 7, 6, 5."""
        folder = tmp_path / "CIFAR-10-C"
        folder.mkdir()
        np.save(folder / "labels.npy", np.tile(TEST.labels[:10], 5))
        for name in (*COMMON, *EXTRA):
            images = np.zeros((50, 32, 32, 3), np.uint8)
            images[:, 0, 0, 0] = [place < 10 - severity for severity in range(1, 6) for place in range(10)]
            np.save(folder / f"{name}.npy", images)
        return folder

    @pytest.fixture
    def infer(self, evaluate, monkeypatch):
        def infer(network, images, image_size):
            wrong = images[:, 0, 0, 0] != 1
            return np.eye(10, dtype=np.float32)[(np.arange(len(images)) + wrong) % 10]

        monkeypatch.setattr("cifar10.compute.inference.infer", infer)
        monkeypatch.setattr(nodes, "SEVERITIES", (1, 2, 3, 4, 5))

    def load(self, folder):
        return CIFAR10CDataset(filepath=str(folder)).load()()

    def test_is_a_suite_of_its_own(self, evaluate, infer, folder, caplog):
        cifar10_c = self.load(folder)
        assert all(isinstance(images, np.memmap) for images in cifar10_c.images.values())
        table = evaluate(model("2026-01-01", seed=0), examples=4, cifar10_c=cifar10_c)
        found = table[table.suite == "CIFAR-10-C"]
        assert found.corruption.unique().tolist() == [*COMMON, *EXTRA]
        assert found.groupby("severity").accuracy.unique().map(list).tolist() == [[0.9], [0.8], [0.7], [0.6], [0.5]]
        assert (set(found.images), set(found.identity)) == ({10}, {table.identity[0]})
        assert set(table[table.suite == "project"].images) == {4}
        assert "lacks" not in caplog.text

    def test_what_is_new_is_evaluated_beside_what_was_found_before(self, evaluate, infer, folder):
        marked = evaluate(model("2026-01-01", seed=0)).assign(accuracy=0.123)
        table = evaluate(model("2026-01-01", seed=0), earlier=marked, cifar10_c=self.load(folder))
        assert set(table.accuracy[table.suite == "project"]) == {0.123}
        assert set(table.accuracy[table.suite == "CIFAR-10-C"]) == {0.9, 0.8, 0.7, 0.6, 0.5}

    def test_is_left_out_where_it_is_not_wanted_or_not_there(self, evaluate, infer, folder, caplog):
        caplog.set_level(logging.INFO, "cifar10")
        table = evaluate(model("2026-01-01", seed=0), cifar10_c=self.load(folder), use=False)
        assert set(table.suite) == {"project"}
        assert "CIFAR-10-C" not in caplog.text
        assert self.load(folder.with_name("nothing")) is None
        assert set(evaluate(model("2026-01-01", seed=0)).suite) == {"project"}
        assert caplog.text.count("CIFAR-10-C is not in 01_raw, so models are evaluated on") == 1

    def test_is_not_even_read_where_it_is_not_wanted(self, evaluate, infer, folder):
        (folder / "labels.npy").unlink()
        damaged = CIFAR10CDataset(filepath=str(folder)).load()
        assert set(evaluate(model("2026-01-01", seed=0), cifar10_c=damaged, use=False).suite) == {"project"}
        with pytest.raises(InputError, match=r"labels\.npy could not be read"):
            evaluate(model("2026-01-01", seed=0), cifar10_c=damaged)

    def test_a_part_of_it_is_evaluated_and_what_is_missing_is_named(self, evaluate, infer, folder, caplog):
        for name in ("fog", "spatter"):
            (folder / f"{name}.npy").unlink()
        table = evaluate(model("2026-01-01", seed=0), cifar10_c=self.load(folder))
        assert len(table[table.suite == "CIFAR-10-C"]) == 17 * 5
        assert f"{folder} lacks fog.npy, spatter.npy" in caplog.text

    def test_of_other_images_is_refused(self, evaluate, infer, folder):
        np.save(folder / "labels.npy", np.tile(TEST.labels[9::-1], 5))
        with pytest.raises(InputError, match=r"CIFAR-10-C/labels.npy does not have the labels of the 10 test images"):
            evaluate(model("2026-01-01", seed=0), cifar10_c=self.load(folder))

    @pytest.mark.parametrize(
        ("name", "content", "complaint"),
        [
            ("labels.npy", None, "No such file or directory"),
            ("labels.npy", np.zeros((50, 2), int), r"its labels are int64 \(50, 2\)"),
            ("labels.npy", np.zeros(50), r"its labels are float64 \(50,\)"),
            ("fog.npy", b"", "No data left in file"),
            ("fog.npy", lambda whole: whole[:-1], "mmap length is greater than file size"),
            ("fog.npy", lambda whole: whole[10:], r".+"),
            ("fog.npy", np.array([{}]), ".*objects.*"),
            ("fog.npy", np.zeros((40, 32, 32, 3), np.uint8), r"its images are uint8 \(40, 32, 32, 3\) for 50 labels"),
            (
                "fog.npy",
                np.zeros((50, 32, 32, 3), np.float32),
                r"its images are float32 \(50, 32, 32, 3\) for 50 labels",
            ),
        ],
    )
    def test_damaged_files(self, folder, name, content, complaint):
        path = folder / name
        whole = path.read_bytes()
        path.unlink()
        if callable(content) or isinstance(content, bytes):
            path.write_bytes(content(whole) if callable(content) else content)
        elif content is not None:
            np.save(path, content, allow_pickle=True)
        with pytest.raises(InputError, match=rf"{path} could not be read: {complaint}\. Replace the file, or move"):
            self.load(folder)
