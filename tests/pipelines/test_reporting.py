"""From evaluations to the report, with as many models as there are architectures."""

import json
import time

import numpy as np
import pandas as pd
import pytest
from kedro.io import Version

from cifar10.architectures import ARCHITECTURES
from cifar10.contracts import Examples, Predictions, digest
from cifar10.datasets.arrays import ExamplesDataset, PredictionsDataset
from cifar10.datasets.files import MetricsDataset, StatisticsDataset
from cifar10.pipelines.benchmark.throughput import peak_memory
from tests.conftest import run

VERSION = "2026-01-01T00.00.00.000Z"


def make_models(root, statistics, pictures, names, seed=0):
    """Write what evaluations begin with: pictures of noise, and predictions as if models had been trained on them."""
    generator = np.random.default_rng(seed)

    def part(count):
        return Examples(
            generator.integers(0, 256, (count, 32, 32, 3), dtype=np.uint8),
            (np.arange(count) % 10).astype(np.uint8),
        )

    parts = {"train": part(pictures), "val": part(pictures // 2), "test": part(pictures)}
    digests = {name: digest(each) for name, each in parts.items()}
    ExamplesDataset(filepath=str(root / "03_primary/train.npz")).save(parts["train"])
    ExamplesDataset(filepath=str(root / "03_primary/val.npz")).save(parts["val"])
    ExamplesDataset(filepath=str(root / "02_intermediate/test_examples.npz")).save(parts["test"])
    made = statistics._replace(digests=digests)
    StatisticsDataset(filepath=str(root / "03_primary/statistics.json")).save(made)

    difficulty = {name: generator.normal(size=len(each.labels)) for name, each in parts.items()}
    for place, name in enumerate(names):
        skill = 1.9 - 0.04 * place

        def answers(which, skill=skill):
            labels = parts[which].labels
            logits = generator.normal(size=(len(labels), 10))
            logits[np.arange(len(labels)), labels] += 1.8 * (
                skill + difficulty[which] + 0.5 * generator.normal(size=len(labels))
            )
            powers = np.exp(2 * logits)
            return (powers / powers.sum(axis=1, keepdims=True)).astype(np.float32)

        epochs = 5 + 2 * place
        history = [
            {
                "phase": "training", "epoch": epoch, "accuracy": 0.9 - 0.5 / epoch, "loss": 1 / epoch,
                "val_accuracy": 0.95 - 0.01 * place - 0.5 / epoch, "val_loss": 1 / epoch, "learning_rate": 0.1,
                "seconds": 10.0,
            }
            for epoch in range(1, epochs + 1)
        ]  # fmt: skip
        record = {
            "architecture": name, "version": VERSION, "data_version": made.data_version, "digests": digests,
            "parameters": 10 ** (5 + place / 10), "bytes": 10 ** (6 + place / 10), "seconds": 60.0 * (place + 1),
            "epochs": epochs, "best_epoch": epochs, "recipe": {"seed": 0, "epochs": epochs, "train_on": "train"},
            "recipe_hash": "abc", "versions": {"commit": "1234567", "keras": "3"}, "hardware": "a machine",
            "precision": "float32", "initialisation": "random", "image_size": 32, "training_pictures": pictures,
            "history": history,
        }  # fmt: skip
        record["parameters"] = int(record["parameters"])
        predictions = Predictions(answers("train"), answers("val"), answers("test"), record)
        version = Version(None, VERSION)
        path = root / f"07_model_output/{name}_predictions.npz"
        PredictionsDataset(filepath=str(path), version=version).save(predictions)
        costs = {
            "architecture": name, "data_version": made.data_version, "model_version": VERSION,
            "flops": 10**7 * (place + 1), "latency_ms": 1.5 * 1.2**place, "throughput": 3000 / (place + 1),
            "measured_on": "a machine",
        }  # fmt: skip
        MetricsDataset(filepath=str(root / f"08_reporting/{name}_costs.json"), version=version).save(costs)


def latest(root, name):
    return max((root / "08_reporting" / name).glob(f"*/{name}"))


@pytest.mark.slow
def test_all_architectures_within_a_minute(tmp_path, statistics, capsys):
    """10,000 test pictures each."""
    make_models(tmp_path, statistics, 10_000, ARCHITECTURES)
    run(tmp_path, "evaluation")
    started = time.perf_counter()
    run(tmp_path, "reporting")
    seconds, peak = time.perf_counter() - started, peak_memory() / 1e9
    with capsys.disabled():
        print(f"\nreporting on {len(ARCHITECTURES)} models: {seconds:.0f} s, at most {peak:.1f} GB in this process")
    assert seconds < 60
    assert peak < 2
    board = pd.read_csv(latest(tmp_path, "leaderboard.csv"))
    assert list(board["rank"]) == list(range(1, 22))
    assert json.loads(latest(tmp_path, "evaluations.json").read_text())[0]["architecture"] == board.architecture[0]
