"""The lines at the end of a run that name its result and the next step."""

import logging
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest

from cifar10.run_log import log_result

RUN = {"env": "demo", "runtime_params": {"data_root": "/data", "deep_cnn": {"epochs": 4}}}
TUNED = "# Tuned by 2 trials\n# significantly better\nsimple_cnn:\n  epochs: 3\n"
CONFIRM = "Next: kedro run --pipelines=tune_simple_cnn --from-nodes=tuning.simple_cnn.confirm --env=demo"


class Catalog:
    """Has every dataset at a path of its name."""

    def get(self, name):
        return SimpleNamespace(path=Path("/data") / name)

    def load(self, name):
        found = {"simple_cnn": ["a recipe"], "deep_cnn": []}
        architecture, _, kind = name.partition(".")
        return {"tuned": TUNED, "confirmed": SimpleNamespace(candidates=found[architecture])}[kind]


@pytest.mark.parametrize(
    ("made", "lines"),
    [
        ({"simple_cnn.trials"}, [f"{CONFIRM} --params=data_root=/data"]),
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
                "Next: raise tuning.trials or tuning.minutes, and run the same again; or change the space, for which "
                "deep_cnn_study must be moved away first",
            ],
        ),
        (
            {"deep_cnn.trials"},
            [f"{CONFIRM.replace('simple', 'deep')} --params=data_root=/data (with the same --params of deep_cnn)"],
        ),
        ({"runs", "figure.runs"}, ["All versions: file:///data/figure.runs, and /data/runs"]),
        ({"train"}, []),
    ],
)
def test_a_run_ends_with_what_it_made_and_what_to_run_next(caplog, made, lines):
    with caplog.at_level(logging.INFO):
        log_result(made, Catalog(), RUN)
    assert caplog.messages == lines


def test_a_ranking_says_of_which_seeds_it_is(caplog):
    columns = {"rank": 1, "name": "vgg16", "mean_val_accuracy": 0.9, "accuracy": 0.8, "accuracy_low": 0.7}
    for seeds, last in ((1, "   1  vgg16"), (2, "Validation: the mean over the seeds")):
        caplog.clear()
        board = pd.DataFrame([{**columns, "accuracy_high": 0.9, "seeds": seeds}])
        with caplog.at_level(logging.INFO):
            log_result({"leaderboard"}, SimpleNamespace(load=lambda name, board=board: board), RUN)
        assert caplog.messages[-1].startswith(last)
