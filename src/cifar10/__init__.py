"""CIFAR-10, from raw images to a versioned leaderboard of CNN architectures."""

import os
import platform
import sys
from pathlib import Path

from cifar10.import_hook import around_import
from cifar10.keras_settings import choose_backend, own_settings
from cifar10.quiet import hidden_messages

__version__ = "0.1.0"

# TensorFlow reads these when it is first imported, which happens later, whatever the entry point. Level 2 hides what
# only concerns TensorFlow's developers, level 3 also the error that there is no GPU.
has_nvidia_driver = sys.platform != "linux" or Path("/proc/driver/nvidia").exists()
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2" if has_nvidia_driver else "3")
if platform.machine().lower() in ("x86_64", "amd64", "i386", "i686"):
    # By default, oneDNN is off on processors without AVX512-VNNI or AMX, where it makes training up to 3 times faster.
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
if not os.path.isabs(os.path.expanduser("~")):
    # Some libraries cannot be imported for a user without a home. Nothing can be created in this one.
    os.environ["HOME"] = f"{os.devnull}/home"
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # ONNX Runtime would send events of its use to Microsoft
choose_backend()
around_import("tensorflow", hidden_messages)
around_import("keras", own_settings)
