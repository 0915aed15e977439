"""What a model says of a picture it has never seen."""

from cifar10.pipelines.predict.pipeline import create_pipeline

__all__ = ["create_pipeline"]
