"""Measurements of this project beside its peers: `python benchmarks/run.py`."""
