"""What Keras computes on, and how it is compiled for it."""

import os
import pathlib
import platform
import sys

import keras


def jit_compile() -> bool | str:
    """Whether to compile with XLA: Keras decides, but for TensorFlow on a CPU, where XLA's convolutions are slower."""
    return False if keras.backend.backend() == "tensorflow" and not _gpus() else "auto"


def hardware() -> str:
    """The GPUs, or else the processor and the number of cores that this process may use."""
    return ", ".join(_gpu_names()) or f"{_processor()}, {_cores()} cores"


def _gpus() -> list[str]:
    # Asked for GPUs by name, JAX raises where it has none.
    return [device for device in keras.distribution.list_devices() if device.lower().startswith(("gpu", "cuda"))]


def _gpu_names() -> list[str]:
    """What the GPUs are called; Keras only counts them."""
    if not _gpus():
        return []
    if keras.backend.backend() == "jax":
        import jax

        return [device.device_kind for device in jax.devices()]

    import tensorflow as tf

    details = (tf.config.experimental.get_device_details(gpu) for gpu in tf.config.list_physical_devices("GPU"))
    return [each.get("device_name", "GPU") for each in details]


def _cores() -> int:
    """The cores this process may use, which on a shared machine can be fewer than it has."""
    return len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1


def _processor() -> str:
    """The processor's model name; on Linux `platform.processor()` has none."""
    try:
        lines = pathlib.Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()
