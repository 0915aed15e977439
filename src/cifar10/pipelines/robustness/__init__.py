"""How much worse the models get as the pictures get worse."""

from cifar10.pipelines.robustness.pipeline import create_pipeline

__all__ = ["create_pipeline"]
