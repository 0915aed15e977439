"""Judge whatever has been trained, on the pictures that chose nothing."""

from cifar10.pipelines.evaluation.pipeline import create_pipeline

__all__ = ["create_pipeline"]
