"""What a recipe sets, and the command that trains it again."""

import re
import shlex
from typing import Any

from pydantic import ValidationError

from cifar10.contracts import Record
from cifar10.errors import InputError
from cifar10.training.recipe import RECIPES, Recipe, as_text, with_defaults

HASH = re.compile(r" \([0-9a-f]{64}\)$")  # behind the name of a file of weights, in the description of a recipe


def chosen_options(record: Record) -> dict[str, str]:
    """Return the options of a recipe that are not at their default, as text; without the seed.

    The hash of the recipe leaves those at their default out, too, and a default never changes. So this says the same of
    a model whatever the configuration is by now.
    """
    fields = RECIPES.get(record.architecture, Recipe).model_fields
    return {
        name: as_text(value)
        for name, value in record.recipe.items()
        if name != "seed" and (name not in fields or fields[name].is_required() or value != fields[name].default)
    }


def training_command(
    name: str, recipe: dict[str, Any], configured: dict[str, Any], env: str | None, data_root: str | None
) -> str:
    """Return the command that trains a recipe with its seed; empty if the architecture does not exist any more.

    Args:
        name: the architecture.
        recipe: its options, as they are recorded. Of a file of weights, the command has the name, without its folder,
            unless the recipe of the environment has the same file.
        configured: the recipe of that architecture in this environment; the command says what differs, or every option
            if that recipe is only valid with others that the command line gave.
        env: the environment of the data; None: the default one.
        data_root: the folder of the data; None: that of the environment.
    """
    if name not in RECIPES:
        return ""
    try:
        current = RECIPES[name].model_validate(configured).described()
    except (ValidationError, InputError):  # of the latter, a file of weights is the reason
        current = {}
    recorded = with_defaults(name, recipe)
    changes = [
        f"{name}.{option}={HASH.sub('', as_text(recorded[option]))}"
        for option in RECIPES[name].model_fields
        if option in recorded and not (option in current and recorded[option] == current[option])
    ]
    parameters = ",".join([*([f"data_root={data_root}"] if data_root else []), *changes])
    words = ["kedro", "run", *([f"--env={env}"] if env else []), f"--pipelines=train_{name}"]
    return shlex.join([*words, f"--params={parameters}"] if parameters else words)
