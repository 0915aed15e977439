"""The comparison, from metrics alone."""
