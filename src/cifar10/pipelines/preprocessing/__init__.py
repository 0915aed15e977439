"""Split the training examples, and compute statistics and a description of the data."""

from cifar10.pipelines.preprocessing.pipeline import create_pipeline

__all__ = ["create_pipeline"]
