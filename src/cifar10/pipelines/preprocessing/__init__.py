"""Examples to a training and a validation part, and what is to be known about them."""

from cifar10.pipelines.preprocessing.pipeline import create_pipeline

__all__ = ["create_pipeline"]
