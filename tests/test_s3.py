"""Data in a bucket, on a server that speaks the protocol of Amazon S3."""

import time
import urllib.request

import pytest
from kedro.io import DatasetError, Version

from cifar10 import store
from cifar10.cli import _message
from cifar10.datasets.files import JSONDataset
from cifar10.datasets.raw import TEST_BATCHES, TRAIN_BATCHES
from cifar10.errors import InputError
from tests.datasets.test_artifact import FIRST
from tests.helpers import kedro, kill, launch, raw_images, write_batch
from tests.test_road import contents

pytest.importorskip("s3fs", reason="s3fs is not installed: pip install '.[store]'")
moto = pytest.importorskip("moto.server", reason="moto is not installed: pip install 'moto[s3]' flask flask-cors")


@pytest.fixture(scope="module")
def endpoint():
    """The address of the server, which has one bucket, `bucket`."""
    server = moto.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


def send(url, method):
    urllib.request.urlopen(urllib.request.Request(url, method=method)).close()


@pytest.fixture
def bucket(endpoint, tmp_path, monkeypatch):
    """The file system of fsspec with an empty bucket, `bucket`, which processes that are started see, too."""
    from s3fs import S3FileSystem

    send(f"{endpoint}/moto-api/reset", "POST")
    send(f"{endpoint}/bucket", "PUT")
    for name, value in {
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_ACCESS_KEY_ID": "a key",
        "AWS_SECRET_ACCESS_KEY": "a secret",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
        "HOME": str(tmp_path),  # without the credentials of a user
        "XDG_CACHE_HOME": str(tmp_path / "cache"),
    }.items():
        monkeypatch.setenv(name, value)
    S3FileSystem.clear_instance_cache()
    yield S3FileSystem(use_listings_cache=False)
    S3FileSystem.clear_instance_cache()
    store._COPIES.clear()


def test_an_object_is_saved_replaced_and_deleted(bucket):
    dataset, other = (JSONDataset(filepath="s3://bucket/data/a.json") for _ in range(2))
    store.check_writable(dataset.path.parent)
    assert not dataset.exists()
    dataset.save([1])
    assert bucket.find("bucket") == ["bucket/data/a.json"]
    assert other.load() == [1]
    bucket.pipe_file("bucket/data/a.json", b"[1, 2]")
    other.release()
    assert other.load() == [1, 2]
    store.delete(dataset.path)
    other.release()
    assert not other.exists()


def test_empty_objects_that_stand_for_folders_are_no_files(bucket):
    """As the console of AWS makes them."""
    for name in ("data/", "data/a.json/", f"data/a.json/{FIRST}/", f"data/a.json/{FIRST}/empty/"):
        bucket.pipe_file(f"bucket/{name}", b"")
    dataset = JSONDataset(filepath="s3://bucket/data/a.json", version=Version(None, FIRST))
    assert not dataset.exists()
    dataset.save([1])
    assert JSONDataset(filepath="s3://bucket/data/a.json", version=Version(None, None)).load() == [1]


@pytest.mark.parametrize("action", ["exists", "check_writable"])
@pytest.mark.parametrize(
    ("problem", "why"),
    [
        ("no bucket", "The specified bucket does not exist"),
        ("no permission", "The AWS Access Key Id you provided does not exist in our records"),
        ("no credentials", "Unable to locate credentials"),
        ("no server", "Could not connect to the endpoint URL: "),
    ],
)
def test_a_bucket_that_cannot_be_used_is_one_sentence(bucket, monkeypatch, problem, why, action):
    url = "s3://bucket/data"
    match problem:
        case "no bucket":
            url = "s3://other/data"
        case "no permission":
            monkeypatch.setattr("moto.settings.INITIAL_NO_AUTH_ACTION_COUNT", 0.0)  # requests that are allowed
        case "no credentials":
            monkeypatch.delenv("AWS_ACCESS_KEY_ID")
            monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
        case "no server":
            monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    dataset = JSONDataset(filepath=f"{url}/a.json")
    store.check_writable.cache_clear()
    with pytest.raises((InputError, DatasetError)) as error:
        getattr(dataset, action)()
    message = _message(error.value)
    assert message.startswith(f"{url}")
    assert f" could not be {'read' if action == 'exists' else 'written'}: {why}" in message
    assert message.endswith("Check the name of the bucket, your credentials and permissions, and the endpoint "
                            "(docs/store.md); then run the command again.")  # fmt: skip
    assert "\n" not in message


PARAMS = "simple_cnn.epochs=5,batchnorm_cnn.epochs=1,robustness.examples=20"
ROOT = "s3://bucket/data"


def run(data_root, pipelines, **environment):
    """Return what a run prints that ends well."""
    params = f"--params=data_root={data_root},{PARAMS}"
    done = kedro("run", "--env=s3", f"--pipelines={pipelines}", params, **environment)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.slow
def test_a_road_in_a_bucket_that_is_killed_ends_like_a_local_one(bucket, tmp_path):
    """Each command runs on a machine of its own: only the bucket has what the others have saved."""
    local, copy = tmp_path / "local", tmp_path / "copy"
    raw = local / "01_raw/cifar-10-batches-py"
    raw.mkdir(parents=True)
    for number, name in enumerate(TRAIN_BATCHES + TEST_BATCHES):
        write_batch(raw / name, *raw_images(100, seed=number))
    bucket.put(str(local / "01_raw"), "bucket/data/", recursive=True)

    def machine(number):
        return {"XDG_CACHE_HOME": str(tmp_path / f"machine {number}")}

    run(ROOT, "ingestion,preprocessing", **machine(1))
    params = f"--params=data_root={ROOT},{PARAMS}"
    process = launch("run", "--env=s3", "--pipelines=train_simple_cnn", params, **machine(2))
    while not any("epoch_00002" in path for path in bucket.find("bucket/data/06_models")):
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.05)
    kill(process)
    assert not any(path.endswith(".keras") for path in bucket.find("bucket/data/06_models"))
    assert "simple_cnn: resuming after epoch" in run(ROOT, "train_simple_cnn", **machine(3))
    run(ROOT, "evaluation,robustness,reporting", **machine(4))
    bucket.get("bucket/data/", str(copy), recursive=True)

    run(local, "ingestion,preprocessing,train_simple_cnn,evaluation,robustness,reporting")
    for path in copy.rglob("report.html/*/*.html"):  # which has the commands that train the models again
        path.write_text(path.read_text().replace(ROOT, str(local)))
    expected, found = (
        {place: each for place, each in contents(root).items() if each != "folder"} for root in (local, copy)
    )
    assert found.keys() == expected.keys()
    assert [place for place in expected if found[place] != expected[place]] == []

    run(ROOT, "train_batchnorm_cnn,evaluation,history", **machine(5))
    (runs,) = bucket.glob("bucket/data/08_reporting/runs.csv/*/runs.csv")
    assert f"{ROOT}/06_models/batchnorm_cnn.keras/" in bucket.cat_file(runs).decode()
    for command in (["models", "simple_cnn"], ["compare", "simple_cnn", "batchnorm_cnn"]):
        done = kedro(*command, "--env=s3", f"--params=data_root={ROOT}", **machine(6))
        assert done.returncode == 0, done.stdout + done.stderr
    assert bucket.glob("bucket/data/08_reporting/compare.html/*/compare.html")
