"""Kedro's settings for this project."""

import os

from cifar10.configuration import ConfigLoader
from cifar10.hooks import ProjectHooks

HOOKS: tuple = (ProjectHooks(),)

if os.environ.get("CIFAR10_MLFLOW", "").lower() not in ("", "0", "false", "no", "off"):
    from cifar10.tracking import TrackingHooks

    HOOKS = (*HOOKS, TrackingHooks())

DISABLE_HOOKS_FOR_PLUGINS = ("kedro-mlflow",)  # installed, it breaks runs; tracking.py does its work

CONFIG_LOADER_CLASS = ConfigLoader
CONFIG_LOADER_ARGS = {
    "base_env": "base",
    "default_run_env": "local",
    # Environments change single values of a recipe; without this they would replace the whole block.
    "merge_strategy": {"parameters": "soft"},
}
