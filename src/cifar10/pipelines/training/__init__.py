"""Train one architecture by its recipe."""
