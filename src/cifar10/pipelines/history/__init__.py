"""List every version of every model."""
