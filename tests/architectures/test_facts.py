"""Facts stand in one place; `tests/training/test_blocks.py` builds the networks that they are about."""

import re

import pytest

from cifar10.architectures import ARCHITECTURES
from cifar10.architectures.facts import FACTS, Facts
from tests.helpers import PROJECT


def test_facts_are_in_the_order_of_the_table():
    """A new architecture may lack them."""
    assert list(FACTS) == [name for name in ARCHITECTURES if name in FACTS]
    assert len(FACTS) >= 21
    assert all(0.5 < low <= high < 1 and facts.source for facts in FACTS.values() for low, high in [facts.expected])


@pytest.mark.parametrize(
    ("expected", "text"), [((0.94, 0.94), "94%"), ((0.8024, 0.8024), "80.24%"), ((0.9, 0.925), "90 to 92.5%")]
)
def test_expectation_in_words(expected, text):
    assert Facts(1, 1, 32, expected, "a source").expectation == text


@pytest.mark.parametrize("env", ["base/parameters_architectures.yml", "long/parameters.yml"])
def test_comments_on_recipes_do_not_repeat_them(env):
    comments = re.findall(r"#.*", (PROJECT / "conf" / env).read_text(encoding="utf-8"))
    assert comments
    assert not [line for line in comments if re.search(r"[Ee]xpected \d|reports a test accuracy", line)]


def test_docs_have_the_accuracy_of_the_notebook():
    page = " ".join((PROJECT / "docs/training.md").read_text(encoding="utf-8").split())
    reported = re.findall(r"notebook that reports ([\d.]+%)", page)
    assert reported
    assert set(reported) == {FACTS["mobilenetv2_imagenet"].expectation}
