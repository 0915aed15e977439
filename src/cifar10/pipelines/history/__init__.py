"""List every version of every model."""

from cifar10.pipelines.history.pipeline import create_pipeline

__all__ = ["create_pipeline"]
