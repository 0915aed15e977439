"""The lines at the end of a run that name its result and the next step."""

import logging
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest
from kedro.io import DatasetError

from cifar10.hooks import ProjectHooks, _mention_the_same
from cifar10.pipelines.reporting.nodes import rank
from cifar10.run_log import log_result
from tests.helpers import CLASS_NAMES, make_evaluation, make_evaluations, make_record, make_row

RUN = {"env": "demo", "project_path": "/project", "runtime_params": {"data_root": "/data", "deep_cnn": {"epochs": 4}}}
TUNED = "# Tuned by 2 trials\n# significantly better\nsimple_cnn:\n  epochs: 3\n"
CONFIRM = "Next: kedro run --pipelines=tune_simple_cnn --from-nodes=tuning.simple_cnn.confirm --env=demo"


class Catalog:
    """Has every dataset at a path of its name."""

    def get(self, name):
        return SimpleNamespace(path=Path("/data") / name)

    def load(self, name):
        found = {"simple_cnn": ["a recipe"], "deep_cnn": []}
        architecture, _, kind = name.partition(".")
        confirmed = SimpleNamespace(candidates=found[architecture])
        return {"tuned": TUNED, "confirmed": confirmed, "study": Path("/data/a_study")}[kind]


@pytest.mark.parametrize(
    ("made", "lines"),
    [
        ({"simple_cnn.trials"}, [f"{CONFIRM} --params=data_root=/data"]),
        ({"train_examples", "statistics", "simple_cnn.trials"}, [f"{CONFIRM} --params=data_root=/data"]),
        (
            {"simple_cnn.trials", "simple_cnn.confirmed", "simple_cnn.tuned"},
            [
                "Tuned by 2 trials",
                "significantly better",
                "Recipe, a block for the parameters in conf/demo: /data/simple_cnn.tuned",
            ],
        ),
        (
            {"deep_cnn.trials", "deep_cnn.confirmed", "deep_cnn.tuned"},
            [
                "Tuned by 2 trials",
                "significantly better",
                "Next: kedro run --pipelines=tune_deep_cnn --env=demo --params=data_root=/data (the same --params, but "
                "more tuning.trials or tuning.minutes); or change the space, for which /data/a_study must be moved "
                "away first",
            ],
        ),
        (
            {"deep_cnn.trials"},
            [f"{CONFIRM.replace('simple', 'deep')} --params=data_root=/data (with the same --params of deep_cnn)"],
        ),
        ({"runs", "figure.runs"}, ["All versions: file:///data/figure.runs, and /data/runs"]),
        ({"train_examples"}, ["Next: kedro run --pipelines=preprocessing --env=demo --params=data_root=/data"]),
        (
            {"train_examples", "statistics"},
            [
                "Next: kedro run --pipelines=train_simple_cnn --env=demo --params=data_root=/data (or another of "
                "`kedro models`)"
            ],
        ),
        ({"train"}, []),
    ],
)
def test_a_run_ends_with_what_it_made_and_what_to_run_next(caplog, made, lines):
    with caplog.at_level(logging.INFO):
        log_result(made, Catalog(), RUN, None)
    assert caplog.messages == lines


def test_a_ranking_says_of_which_seeds_it_is_and_what_is_not_significant(caplog):
    columns = {"rank": 1, "name": "vgg16", "mean_val_accuracy": 0.9, "accuracy": 0.8, "accuracy_low": 0.7}
    cases = (
        (1, False, "   1  vgg16  "),
        (2, False, "Validation: the mean over the seeds"),
        (1, True, "≈: test accuracy not significantly different from that of the first."),
    )
    for seeds, ties, last in cases:
        caplog.clear()
        board = pd.DataFrame([{**columns, "accuracy_high": 0.9, "seeds": seeds, "recipe": "", "ties_with_first": ties}])
        with caplog.at_level(logging.INFO):
            log_result({"leaderboard"}, SimpleNamespace(load=lambda name, board=board: board), RUN, None)
        assert caplog.messages[-1].startswith(last)
        assert ("vgg16 ≈" in caplog.text) == ties


def test_a_ranking_says_how_the_recipes_of_one_architecture_differ(caplog):
    epochs = {"vgg16-f00": 3, "vgg16-ba4": 6}
    records = {name: make_record(architecture="vgg16", recipe={"epochs": count}) for name, count in epochs.items()}
    rows = [make_row(make_evaluation(record=record), name=name) for name, record in records.items()]
    evaluations = make_evaluations(*rows, make_evaluation("simple_cnn"))
    board = rank(evaluations, CLASS_NAMES)
    for name, source in (("evaluations", evaluations), ("leaderboard", board)):
        caplog.clear()
        with caplog.at_level(logging.INFO):
            log_result({name}, SimpleNamespace(load=lambda _, source=source: source), RUN, None)
        told = [line for line in caplog.messages if "epochs" in line]
        assert told == ["vgg16-f00: epochs 3", "vgg16-ba4: epochs 6"]


@pytest.mark.parametrize(
    ("changes", "told"), [({}, True), ({"seed": 7}, False), ({"damaged": True}, False), ({"unfinished": True}, False)]
)
def test_a_training_is_said_to_be_the_same_as_the_newest(caplog, tmp_path, changes, told):
    def load():
        if "damaged" in changes:
            raise DatasetError("not valid JSON")
        return SimpleNamespace(record=SimpleNamespace(seed=changes.get("seed", 0), recipe_hash="f00"), version="2026")

    checkpoints = SimpleNamespace(unfinished=lambda record: "unfinished" in changes)
    loads = {"vgg16.model": load, "vgg16.checkpoint": lambda: checkpoints}
    catalog = SimpleNamespace(get=lambda name: SimpleNamespace(path=tmp_path), load=lambda name: loads[name]())
    with caplog.at_level(logging.INFO):
        _mention_the_same("vgg16", {"seed": 0, "recipe_hash": "f00"}, catalog)
    same = "vgg16: version 2026 is of the same recipe, seed and data; this run trains another"
    assert caplog.messages == [same] * told


def test_a_process_that_follows_another_does_not_look_for_models():
    """Its catalog has no data, because only the first process saves."""
    hooks = ProjectHooks()
    hooks.recipes, hooks.follows = {"vgg16": SimpleNamespace(train_on="train", examples=None)}, True
    hooks.before_node_run(SimpleNamespace(outputs=["vgg16.model"]), None, {"train": range(8), "val": range(2)})


REPORT = "kedro run --env=published --pipelines=reporting"
COPY = "copy conf/published to conf/NAME, set class_names and data_name in its parameters.yml, then: "


@pytest.mark.parametrize(
    ("folder", "class_names", "command"),
    [
        ("/project/data/published", ["cat", "dog"], REPORT),
        ("/data/mine", ["cat", "dog"], f"{REPORT} --params=published_root=/data/mine,docs_root=/data/mine_docs"),
        (
            "/data/mine",
            ["disc", "ring"],
            f"{COPY}{REPORT.replace('published', 'NAME')} --params=published_root=/data/mine,docs_root=/data/mine_docs",
        ),
    ],
)
def test_the_report_of_a_publication_overwrites_that_of_no_other(caplog, folder, class_names, command):
    """And the command does not fail because the environment has other class names."""
    get = lambda name: SimpleNamespace(path=Path(folder))  # noqa: E731
    catalog = SimpleNamespace(get=get, load=lambda name: class_names)
    loader = SimpleNamespace(of_environment=lambda env, key: {"class_names": ["cat", "dog"]})
    with caplog.at_level(logging.INFO):
        log_result({"published"}, catalog, RUN, loader)
    assert caplog.messages == [f"Published in {Path(folder)}", f"Next: {command}"]
