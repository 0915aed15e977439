"""Raw files to examples, from either of the two raw layouts."""

from cifar10.pipelines.ingestion.pipeline import create_csv_pipeline, create_pipeline

__all__ = ["create_csv_pipeline", "create_pipeline"]
