"""The Parquet files of the Hugging Face Hub: the same arrays as from the batches, and a second source of them."""

import contextlib
import hashlib
import logging
import re

import numpy as np
import pytest
from kedro.io import DatasetError

from cifar10.datasets import parquet
from cifar10.datasets.raw import TEST_BATCHES, TRAIN_BATCHES, BatchesDataset
from cifar10.errors import InputError
from cifar10.pipelines.ingestion.nodes import read_batches
from tests.helpers import CLASS_NAMES, png, raw_images, serve, write_batch, write_parquet

pyarrow = pytest.importorskip("pyarrow", reason='needs the extra: pip install -e ".[parquet]"')
REFUSED = (InputError, DatasetError)  # Kedro wraps what a dataset raises
NOWHERE = "http://127.0.0.1:9/cifar-10-python.tar.gz"
BATCHES = [(raw_images(8, seed)[0], [(seed + place) % 10 for place in range(8)]) for seed in range(6)]


def dataset(raw, **options):
    values = {"archive": "cifar-10-python.tar.gz", "url": NOWHERE, "md5": "0" * 32, **options}
    return BatchesDataset(filepath=str(raw / "cifar-10-batches-py"), **values)


def joined(batches):
    pixels, labels = zip(*batches, strict=True)
    return np.concatenate(pixels), [label for each in labels for label in each]


def write(folder, order=(1, 2, 3, 4, 5), class_names=CLASS_NAMES):
    write_parquet(folder / parquet.TRAIN, *joined([BATCHES[number - 1] for number in order]), class_names)
    write_parquet(folder / parquet.TEST, *BATCHES[5], class_names)
    return folder


@pytest.fixture
def expected(tmp_path):
    """The examples of the batches."""
    folder = tmp_path / "batches/cifar-10-batches-py"
    folder.mkdir(parents=True)
    for name, batch in zip(TRAIN_BATCHES + TEST_BATCHES, BATCHES, strict=True):
        write_batch(folder / name, *batch)
    return read_batches(dataset(folder.parent).load(), CLASS_NAMES)


def assert_equal(one, other):
    assert [each.digest for each in one] == [each.digest for each in other]


@pytest.mark.parametrize("place", [".", "plain_text", "cifar10/plain_text"])
def test_images_are_those_of_the_batches(tmp_path, monkeypatch, expected, place, caplog):
    monkeypatch.setattr(parquet, "ROWS", 3)
    folder = write(tmp_path / "raw" / place)
    with caplog.at_level(logging.INFO, "cifar10"):
        assert_equal(read_batches(dataset(tmp_path / "raw").load(), CLASS_NAMES), expected)
    assert caplog.messages == [f"Reading the images from {folder}"]


def test_images_of_cifar10_get_the_order_of_the_batches(tmp_path, monkeypatch, expected):
    """The Hub has them in the order of the archive, and another order would be another split of the same data."""
    write(tmp_path / "raw", order=(4, 3, 2, 5, 1))
    with pytest.raises(AssertionError):
        assert_equal(read_batches(dataset(tmp_path / "raw").load(), CLASS_NAMES), expected)
    labels = np.array(joined(BATCHES[:5])[1])
    monkeypatch.setattr(parquet, "TRAIN_LABELS", hashlib.sha256(labels.tobytes()).hexdigest())
    assert_equal(read_batches(dataset(tmp_path / "raw").load(), CLASS_NAMES), expected)


@pytest.mark.parametrize(("names", "refused"), [(CLASS_NAMES, False), (CLASS_NAMES[::-1], True), (None, False)])
def test_names_of_the_classes_are_compared(tmp_path, names, refused):
    write(tmp_path, class_names=names)
    with (
        pytest.raises(InputError, match=rf"{parquet.TRAIN} has the class names posts, .*, but the parameter")
        if refused
        else contextlib.nullcontext()
    ):
        read_batches(dataset(tmp_path).load(), CLASS_NAMES)


def flip(content, place):
    return content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :]


IMAGE = np.full((32, 32, 3), 7, np.uint8)


@pytest.mark.parametrize(
    ("image", "complaint"),
    [
        (None, "image 7 has no content"),
        (b"", "image 7 is not a PNG"),
        (b"no image", "image 7 is not a PNG"),
        (png(IMAGE).replace(b"PNG", b"JPG"), "image 7 is not a PNG"),
        (png(IMAGE[:31]), "image 7 has 32x31 pixels instead of 32x32"),
        (png(np.zeros((64, 64, 3), np.uint8)), "image 7 has 64x64 pixels instead of 32x32"),
        (png(IMAGE)[:-30], r"image 7 is damaged \(.+\)"),
        (flip(png(IMAGE, compress_level=0), 60), r"image 7 is damaged \(.+\)"),
    ],
    ids=["none", "empty", "text", "JPG", "height", "size", "cut", "checksum"],
)
def test_images_that_are_none(tmp_path, monkeypatch, image, complaint):
    monkeypatch.setattr(parquet, "ROWS", 3)
    pixels, labels = BATCHES[0]
    write(tmp_path)
    write_parquet(tmp_path / parquet.TRAIN, [*pixels[:6], image, pixels[7]], labels)
    path = re.escape(str(tmp_path / parquet.TRAIN))
    with pytest.raises(REFUSED, match=rf"{path} could not be read: {complaint}\. Replace the file\."):
        dataset(tmp_path).load()


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (lambda table: table.drop_columns("label"), r"its columns are img \(struct<.*>\), but must be img, a struct"),
        (lambda table: table.rename_columns(["image", "label"]), r"its columns are image \(struct<.*, label \(int64\)"),
        (lambda table: table.set_column(0, "img", table.column("label")), r"img \(int64\), label \(int64\), but"),
        (lambda table: table.set_column(1, "label", table.column("img")), r"label \(struct<.*\), but must be"),
        (lambda table: table.set_column(1, "label", [[0, 1, None, 3, 4, 5, 6, 7]]), "image 3 has no label"),
        (lambda table: table.slice(0, 0), "it has no rows"),
        (lambda table: table.replace_schema_metadata({"huggingface": "{"}), "Expecting property name"),
    ],
)
def test_tables_that_are_not_those_of_the_hub(tmp_path, change, complaint):
    write(tmp_path)
    table = pyarrow.parquet.read_table(tmp_path / parquet.TEST)
    pyarrow.parquet.write_table(change(table), tmp_path / parquet.TEST)
    with pytest.raises(REFUSED, match=rf"{parquet.TEST} could not be read: .*{complaint}.*\. Replace the file\."):
        dataset(tmp_path).load()


@pytest.mark.parametrize("damage", [lambda whole: b"", lambda whole: b"PAR1", lambda whole: whole[:-100]])
def test_damaged_files(tmp_path, damage):
    path = write(tmp_path) / parquet.TRAIN
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(InputError, match=rf"{parquet.TRAIN} could not be read: .*\. Replace the file\.") as error:
        parquet.read_parquet(path)
    assert len(str(error.value).splitlines()) == 1


def test_labels_beyond_the_classes(tmp_path):
    write(tmp_path)
    write_parquet(tmp_path / parquet.TRAIN, BATCHES[0][0], [0, 1, 2, 300, 4, 5, 6, 7])
    with pytest.raises(InputError, match=rf"{parquet.TRAIN}: label 300 of image 4 is not between 0 and 9"):
        read_batches(dataset(tmp_path).load(), CLASS_NAMES)


def test_one_file_of_two(tmp_path):
    (write(tmp_path) / parquet.TEST).unlink()
    with pytest.raises(REFUSED, match=rf"{tmp_path.name} has no {parquet.TEST}\. Add it"):
        dataset(tmp_path).load()


def test_without_pyarrow(tmp_path, monkeypatch):
    monkeypatch.setattr(parquet, "is_installed", lambda: False)
    with pytest.raises(REFUSED, match=rf"{parquet.TRAIN} is a Parquet file, which needs pyarrow.*'\.\[parquet\]'"):
        dataset(write(tmp_path)).load()


class TestSecondSource:
    @staticmethod
    def mirror(folder, url):
        names = (parquet.TRAIN, parquet.TEST)
        hashes = {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in names}
        return {"url": url, "sha256": hashes}

    def test_is_read_where_the_archive_cannot_be_downloaded(self, tmp_path, expected, caplog):
        there, raw = write(tmp_path / "there"), tmp_path / "raw"
        with serve(there) as url:
            found = dataset(raw, mirror=self.mirror(there, url)).load()
        assert_equal(read_batches(found, CLASS_NAMES), expected)
        assert f"could not be downloaded from {NOWHERE}: ConnectionError. Downloading it from {url}" in caplog.text
        assert sorted(path.name for path in raw.rglob("*")) == ["plain_text", parquet.TEST, parquet.TRAIN]
        assert_equal(read_batches(dataset(raw).load(), CLASS_NAMES), expected)  # without any download

    def test_what_is_not_the_file_is_not_kept(self, tmp_path):
        there, raw = write(tmp_path / "there"), tmp_path / "raw"
        with serve(there) as url:
            mirror = self.mirror(there, url)
            mirror["sha256"][parquet.TEST] = "0" * 64
            with pytest.raises(
                REFUSED, match=rf"downloaded from {NOWHERE}: ConnectionError; nor from {url}: SHA256 hash"
            ):
                dataset(raw, mirror=mirror).load()
        assert not list(raw.iterdir())

    def test_needs_pyarrow(self, tmp_path, monkeypatch):
        monkeypatch.setattr(parquet, "is_installed", lambda: False)
        mirror = {"url": "http://127.0.0.1:9/plain_text", "sha256": {}}
        with pytest.raises(REFUSED, match=r"to try http://127.0.0.1:9/plain_text, too: pip install .*parquet"):
            dataset(tmp_path, mirror=mirror).load()

    def test_a_download_in_progress_is_not_read(self, tmp_path):
        write(tmp_path / ".unfinished-1234-plain_text/plain_text")
        with pytest.raises(REFUSED, match="could not be downloaded"):
            dataset(tmp_path).load()
