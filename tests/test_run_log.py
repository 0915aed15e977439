"""The lines at the end of a run that name its result and the next step."""

import logging
from pathlib import Path
from types import SimpleNamespace

import pytest

from cifar10.run_log import log_result

RUN = {"env": "demo", "runtime_params": {"data_root": "/data"}}
TUNED = "# Tuned by 2 trials\n# significantly better\nsimple_cnn:\n  epochs: 3\n"
CONFIRM = "Next: kedro run --pipelines=tune_simple_cnn --from-nodes=tuning.simple_cnn.confirm --env=demo"


class Catalog:
    """Has every dataset at a path of its name."""

    def get(self, name):
        return SimpleNamespace(path=Path("/data") / name)

    def load(self, name):
        return {"simple_cnn.tuned": TUNED}[name]


@pytest.mark.parametrize(
    ("made", "lines"),
    [
        ({"simple_cnn.trials"}, [f"{CONFIRM} --params=data_root=/data"]),
        (
            {"simple_cnn.trials", "simple_cnn.confirmed", "simple_cnn.tuned"},
            [
                "Tuned by 2 trials",
                "significantly better",
                "Recipe, a block for conf/base/parameters_architectures.yml: /data/simple_cnn.tuned",
            ],
        ),
        ({"runs", "figure.runs"}, ["All versions: file:///data/figure.runs, and /data/runs"]),
        ({"train"}, []),
    ],
)
def test_a_run_ends_with_what_it_made_and_what_to_run_next(caplog, made, lines):
    with caplog.at_level(logging.INFO):
        log_result(made, Catalog(), RUN)
    assert caplog.messages == lines
