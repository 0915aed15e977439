"""Run Keras networks without training them: devices, batches, predictions, and what they cost."""
