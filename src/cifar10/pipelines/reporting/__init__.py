"""The comparison, from metrics alone."""

from cifar10.pipelines.reporting.pipeline import create_pipeline

__all__ = ["create_pipeline"]
