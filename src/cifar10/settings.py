"""Kedro's settings for this project."""

import os
import sys

from cifar10.configuration import ConfigLoader
from cifar10.hooks import ProjectHooks

HOOKS: tuple = (ProjectHooks(),)

if os.environ.get("CIFAR10_MLFLOW"):  # experiment tracking, with the extra `mlflow`
    try:
        from cifar10.tracking import TrackingHooks
    except ModuleNotFoundError as error:
        sys.exit(
            f"Error: CIFAR10_MLFLOW is set, but {error.name} is not installed: pip install '.[mlflow]', or unset it."
        )

    HOOKS = (*HOOKS, TrackingHooks())
else:
    DISABLE_HOOKS_FOR_PLUGINS = ("kedro-mlflow",)  # which breaks runs by merely being installed

CONFIG_LOADER_CLASS = ConfigLoader
CONFIG_LOADER_ARGS = {
    "base_env": "base",
    "default_run_env": "local",
    # Environments change single values of a recipe; without this they would replace the whole block.
    "merge_strategy": {"parameters": "soft"},
}
