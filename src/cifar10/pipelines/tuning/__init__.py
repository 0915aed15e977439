"""Search for a better recipe of one architecture, and confirm it."""

from cifar10.pipelines.tuning.pipeline import create_pipeline

__all__ = ["create_pipeline"]
