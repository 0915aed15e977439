"""Export the winner to formats that need neither this project nor Keras."""
