"""Classify images that no model has seen."""

from cifar10.pipelines.predict.pipeline import create_pipeline

__all__ = ["create_pipeline"]
