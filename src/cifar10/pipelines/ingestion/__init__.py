"""Read raw files, of either format, into examples."""

from cifar10.pipelines.ingestion.pipeline import create_csv_pipeline, create_pipeline

__all__ = ["create_csv_pipeline", "create_pipeline"]
