"""What happened, written down: ids, log lines, metrics."""
