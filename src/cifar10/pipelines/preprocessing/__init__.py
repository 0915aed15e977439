"""Split the training examples, and compute statistics and a description of the data."""
