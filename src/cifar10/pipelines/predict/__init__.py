"""Classify images that no model has seen."""
