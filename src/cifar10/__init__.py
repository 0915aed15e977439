"""CIFAR-10, from raw pictures to a versioned leaderboard of CNN architectures."""

import os

__version__ = "0.1.0"

# TensorFlow's C++ start-up chatter says nothing that a user of this project can act on.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
