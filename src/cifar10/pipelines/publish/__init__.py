"""Publish the evaluated models, so that others can check every figure without training."""

from cifar10.pipelines.publish.pipeline import create_pipeline

__all__ = ["create_pipeline"]
