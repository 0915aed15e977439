"""Evaluate whatever has been trained, on the test images, which decide nothing."""
