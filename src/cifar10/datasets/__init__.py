"""The catalog's own dataset classes. Each module imports what it needs, so that a catalog entry costs what it uses."""
