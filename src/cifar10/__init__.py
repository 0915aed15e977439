"""CIFAR-10, from raw pictures to a versioned leaderboard of CNN architectures."""

import os

__version__ = "0.1.0"

# Less of TensorFlow's start-up chatter. What it logs before it reads this cannot be kept back.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
