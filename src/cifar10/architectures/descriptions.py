"""Descriptions of the architectures for the report and the model card: the docstrings of their builders."""

import ast
import importlib.util
import re
from pathlib import Path

from cifar10.architectures import ARCHITECTURES


def describe(name: str) -> str:
    """Return the description of an architecture as running text.

    It is the docstring of the builder: the paragraphs after the summary line, up to a section such as `Args:`, or the
    summary if there is nothing else. The last paragraph of the docstring of `imagenet.py` applies to all of its
    networks and is appended to theirs. The source is parsed, not imported, because importing a builder imports Keras.
    """
    module = ARCHITECTURES.get(name)
    if module is None:
        return f"{name} is no longer an architecture of this project."
    tree = _parse(module)
    description = _body(_builder_docstring(tree, name)) if tree else ""
    if not description:
        return f"There is no description of {name}."
    if tree and module == "imagenet":
        description += f" {_paragraphs(ast.get_docstring(tree))[-1]}"
    return description


def _parse(module: str) -> ast.Module | None:
    """Parse a module of this package; None if it does not exist."""
    spec = importlib.util.find_spec(f"{__package__}.{module}")
    return ast.parse(Path(spec.origin).read_text(encoding="utf-8")) if spec and spec.origin else None


def _builder_docstring(tree: ast.Module, name: str) -> str | None:
    """Return the docstring of the function of that name; None if it has none, or there is no such function."""
    functions = (node for node in tree.body if isinstance(node, ast.FunctionDef))
    return next((ast.get_docstring(function) for function in functions if function.name == name), None)


def _body(docstring: str | None) -> str:
    """Return what follows the summary, or the summary if nothing does; an empty string without a docstring."""
    summary, *body = _paragraphs(docstring) or [""]
    return " ".join(body) or summary


def _paragraphs(docstring: str | None) -> list[str]:
    """Return the paragraphs before the first section (`Args:`, `Returns:`, ...), each on one line."""
    text = re.split(r"^[A-Z][a-z]+:$", docstring or "", maxsplit=1, flags=re.MULTILINE)[0]
    return [" ".join(paragraph.split()) for paragraph in re.split(r"\n\s*\n", text) if paragraph.strip()]
