"""Publish the evaluated models, so that others can check every figure without training."""
