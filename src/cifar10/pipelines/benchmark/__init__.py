"""Measure how fast each network is on this machine, and how long its recipe would take."""

from cifar10.pipelines.benchmark.pipeline import create_pipeline

__all__ = ["create_pipeline"]
