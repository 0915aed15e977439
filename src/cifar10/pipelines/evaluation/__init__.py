"""Evaluate whatever has been trained, on the test images, which decide nothing."""

from cifar10.pipelines.evaluation.pipeline import create_pipeline

__all__ = ["create_pipeline"]
