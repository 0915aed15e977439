"""README, CONTRIBUTING and docs: their links, the width of their code, and the table of options made from the code.

`python -m tests.test_docs` writes the table into docs/training.md again.
"""

import itertools
import re
import types
import typing
from collections.abc import Iterator, Mapping
from pathlib import Path

import annotated_types
import pytest
from markdown_it import MarkdownIt
from pydantic.fields import FieldInfo

from cifar10.training.optimizers import OPTIMIZERS
from cifar10.training.options import AugmentationOptions, MixingOptions
from cifar10.training.recipe import Choice, MobileNetTransferRecipe, Recipe, TransferRecipe, as_text
from cifar10.training.schedules import SCHEDULES
from tests.helpers import PROJECT

PAGES = [PROJECT / "README.md", PROJECT / "CONTRIBUTING.md", *sorted((PROJECT / "docs").glob("*.md"))]
TRAINING = PROJECT / "docs/training.md"
TABLE = re.compile(r"(?<=<!-- options -->\n).*?(?=<!-- /options -->)", re.DOTALL)
MARKDOWN = MarkdownIt("commonmark", {"html": True}).enable("table")
PRESENT_ON_GITHUB_ALONE = "../../actions/"  # the badge of the workflow


def targets(page: Path) -> Iterator[str]:
    """Return where the links and images of a page point to."""
    for token in MARKDOWN.parse(page.read_text(encoding="utf-8")):
        for each in (token, *(token.children or [])):
            if target := each.attrGet("href") or each.attrGet("src"):
                yield str(target)
            if each.type in ("html_block", "html_inline"):
                yield from re.findall(r'(?:src|href)="([^"]*)"', each.content)


def anchors(page: Path) -> set[str]:
    """Return the anchors that GitHub gives to the headings of a page."""
    tokens = MARKDOWN.parse(page.read_text(encoding="utf-8"))
    headings = [after.content for token, after in itertools.pairwise(tokens) if token.type == "heading_open"]
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    broken = []
    for target in targets(page):
        if target.startswith(("https://", PRESENT_ON_GITHUB_ALONE)):
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        if not file.exists() or (anchor and anchor not in anchors(file)):
            broken.append(target)
    assert not broken


def test_every_page_of_the_docs_can_be_reached_from_the_readme():
    linked = {(PROJECT / target.partition("#")[0]).resolve() for target in targets(PROJECT / "README.md")}
    assert linked >= set(PAGES[1:])


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_code_fits_the_width_of_a_page(page):
    """Except the context of a diff, which stands in a file of wider lines."""
    blocks = [token for token in MARKDOWN.parse(page.read_text(encoding="utf-8")) if token.type == "fence"]
    if page.name == "CONTRIBUTING.md":
        blocks = [block for block in blocks if block.info != "diff"]
    assert not [line for block in blocks for line in block.content.splitlines() if len(line) > 80]


def test_readme_is_short():
    lines = (PROJECT / "README.md").read_text(encoding="utf-8").splitlines()
    assert len(lines) <= 190
    assert not [line for line in lines if len(line) > 124 and not line.startswith(("|", "<img", "[!["))]


def test_every_module_is_in_the_architecture():
    page = (PROJECT / "docs/architecture.md").read_text(encoding="utf-8")
    listed = set(re.findall(r"^  (\w+)(?:/|\.py) ", page, re.MULTILINE))
    modules = {path.stem for path in (PROJECT / "src/cifar10").iterdir() if not path.name.startswith("_")}
    assert listed >= modules


def test_table_of_options_is_that_of_the_code():
    """Otherwise write it again: `python -m tests.test_docs`."""
    assert TABLE.search(TRAINING.read_text(encoding="utf-8"))[0] == options()


def test_every_option_says_what_it_does():
    assert not [name for name, field in MobileNetTransferRecipe.model_fields.items() if not field.description]


def options() -> str:
    """Return the options of recipes in Markdown, in tables of those that belong together."""
    own = [name for name in Recipe.model_fields if name not in {*_names(AugmentationOptions), *_names(MixingOptions)}]
    transfer = [name for name in MobileNetTransferRecipe.model_fields if name not in Recipe.model_fields]
    assert set(transfer) >= set(_names(TransferRecipe)) - set(_names(Recipe))
    groups = {
        "Training": own,
        "Augmentation": [*_names(AugmentationOptions), *_names(MixingOptions)],
        "Networks with ImageNet weights": transfer,
    }
    lines = []
    for title, names in groups.items():
        lines += [f"**{title}**", "", "| option | values | default | meaning |", "|---|---|---|---|"]
        lines += [_line(name, MobileNetTransferRecipe.model_fields[name]) for name in names] + [""]
    return "\n".join(["", *lines])


def _names(model) -> list[str]:
    return list(model.model_fields)


def _line(name: str, field: FieldInfo) -> str:
    tables: dict[str, Mapping[str, Choice]] = {"optimizer": OPTIMIZERS, "schedule": SCHEDULES}
    values = " \\| ".join(sorted(tables[name])) if name in tables else _values(field.annotation, field.metadata)
    default = "" if field.is_required() else f"`{as_text(field.default)}`"
    users = [each for table in tables.values() for each, row in table.items() if name in row.options]
    used = f" ({', '.join(users)})" if users else ""
    description = (field.description or "").removesuffix(".")
    return f"| `{name}` | {values} | {default} | {description}{used} |"


def _values(kind: typing.Any, metadata: typing.Sequence[typing.Any] = ()) -> str:
    """Return in words which values of a type, with these constraints, are allowed."""
    arguments = typing.get_args(kind)
    if typing.get_origin(kind) is typing.Annotated:
        constraints = [
            each for given in arguments[1:] for each in (given.metadata if isinstance(given, FieldInfo) else [])
        ]
        return _values(arguments[0], constraints)
    if typing.get_origin(kind) in (typing.Union, types.UnionType):
        return " or ".join("null" if each is type(None) else _values(each) for each in arguments)
    if typing.get_origin(kind) is typing.Literal:
        return " \\| ".join(arguments)
    if typing.get_origin(kind) is list:
        return f"list of {_values(arguments[0])}"
    if kind is bool:
        return "false \\| true"
    name = {int: "integer", float: "number", str: "text"}[kind]
    signs = {annotated_types.Gt: "gt", annotated_types.Ge: "ge", annotated_types.Lt: "lt", annotated_types.Le: "le"}
    texts = {"gt": ">", "ge": "≥", "lt": "<", "le": "≤"}
    limits = [
        f"{texts[sign]} {getattr(each, sign)}"
        for each in metadata
        for cls, sign in signs.items()
        if isinstance(each, cls)
    ]
    return " ".join([name, ", ".join(limits)]).strip()


if __name__ == "__main__":
    TRAINING.write_text(TABLE.sub(lambda _: options(), TRAINING.read_text(encoding="utf-8")), encoding="utf-8")
