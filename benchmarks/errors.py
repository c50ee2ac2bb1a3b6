"""The one exception that ends a run with a sentence instead of a traceback."""


class BenchmarkError(Exception):
    """The measurement cannot go on; the text says why and what to do."""
