"""Descriptions come from the docstrings of the builders, without importing Keras."""

import subprocess
import sys

import pytest

from cifar10 import architectures
from cifar10.architectures import ARCHITECTURES, descriptions
from cifar10.architectures.descriptions import describe

MODULE = '''"""A module.

Its last paragraph.
"""

from typing import Any


def short(num_classes: int) -> None:
    """Build a network in
    two lines."""


def with_arguments(num_classes: int) -> None:
    """Build a network.

    Args:
        num_classes: length of the logits.
    """


def long(num_classes: int) -> None:
    """Build a network.

    It has layers: many
    of them.

    It is a network.

    Returns:
        The network.
    """


def undocumented(num_classes: int) -> None:
    pass


elsewhere: Any = short
'''


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_every_architecture_is_described(name):
    description = describe(name)
    assert description.endswith(".")
    assert len(description.split()) > 10
    assert not any(unwanted in description for unwanted in ("\n", "`", "  "))
    assert ("pretrained on ImageNet" in description) == name.endswith("_imagenet")


@pytest.mark.parametrize(
    ("name", "description"),
    [
        ("short", "Build a network in two lines."),
        ("with_arguments", "Build a network."),
        ("long", "It has layers: many of them. It is a network."),
        ("undocumented", "There is no description of undocumented."),
        ("elsewhere", "There is no description of elsewhere."),
        ("not_in_the_table", "not_in_the_table is no longer an architecture of this project."),
        ("without_a_module", "There is no description of without_a_module."),
    ],
)
def test_description_is_the_docstring_after_its_summary(name, description, tmp_path, monkeypatch):
    (tmp_path / "made_up.py").write_text(MODULE)
    monkeypatch.setattr(architectures, "__path__", [*architectures.__path__, str(tmp_path)])
    monkeypatch.setitem(ARCHITECTURES, "without_a_module", "nowhere")
    for made_up in ("short", "with_arguments", "long", "undocumented", "elsewhere"):
        monkeypatch.setitem(ARCHITECTURES, made_up, "made_up")
    assert describe(name) == description


def test_paragraph_on_transfer_is_appended(tmp_path, monkeypatch):
    (tmp_path / "imagenet.py").write_text(MODULE)
    monkeypatch.setattr(architectures, "__path__", [str(tmp_path)])
    monkeypatch.setitem(ARCHITECTURES, "short", "imagenet")
    monkeypatch.delitem(sys.modules, "cifar10.architectures.imagenet", raising=False)  # of an earlier test
    assert describe("short") == "Build a network in two lines. Its last paragraph."


def test_describing_does_not_import_keras():
    program = (
        "import sys; from cifar10.architectures import ARCHITECTURES; "
        f"from {descriptions.__name__} import describe; [describe(name) for name in ARCHITECTURES]; "
        "sys.exit(bool({'keras', 'tensorflow'} & sys.modules.keys()))"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
