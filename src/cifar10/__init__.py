"""CIFAR-10, from raw images to a versioned leaderboard of CNN architectures."""

import os

__version__ = "0.1.0"

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # hide TensorFlow's start-up messages
