"""Export the winner to formats that need neither this project nor Keras."""

from cifar10.pipelines.export.pipeline import create_pipeline

__all__ = ["create_pipeline"]
