"""Read raw files, of either format, into examples."""
