"""Measure how accuracy falls on corrupted images."""

from cifar10.pipelines.robustness.pipeline import create_pipeline

__all__ = ["create_pipeline"]
