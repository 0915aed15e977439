"""Train one architecture by its recipe."""

from cifar10.pipelines.training.pipeline import create_pipeline

__all__ = ["create_pipeline"]
