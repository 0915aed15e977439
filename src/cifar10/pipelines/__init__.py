"""One package a pipeline: `nodes.py` has the functions, `pipeline.py` puts them together."""
