"""Kedro's settings for this project."""

from cifar10.hooks import ProjectHooks

HOOKS = (ProjectHooks(),)

CONFIG_LOADER_ARGS = {
    "base_env": "base",
    "default_run_env": "local",
    # An environment changes single values of a recipe; without this it would replace the whole block.
    "merge_strategy": {"parameters": "soft"},
}
