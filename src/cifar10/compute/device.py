"""The device that Keras computes on, and how to compile for it."""

import os
import pathlib
import platform
import sys

import keras

from cifar10.compute import parallel
from cifar10.errors import InputError

BFLOAT16_FLAGS = frozenset({"avx512_bf16", "amx_bf16"})  # CPU flags of bfloat16 arithmetic


def jit_compile() -> bool | str:
    """Return whether to compile with XLA, as `Model.compile` takes it.

    With TensorFlow, not on a CPU, where XLA's convolutions are slower, and not if operations must be deterministic,
    which XLA's are not in all cases. Otherwise Keras decides.
    """
    if keras.backend.backend() != "tensorflow":
        return "auto"
    from tensorflow.python.framework.config import (
        is_op_determinism_enabled,
    )  # as Keras does; there is no public function

    return "auto" if _gpus() and not is_op_determinism_enabled() else False


def uses_fast_layers() -> bool:
    """Return whether to train with the layers of `training.accelerate`, which are for TensorFlow on a CPU."""
    return keras.backend.backend() == "tensorflow" and not _gpus()


def uses_xla() -> bool:
    """Return whether computations are compiled with XLA, which draws other random numbers from the same seed."""
    return keras.backend.backend() == "jax" or bool(jit_compile())


def uses_onednn() -> bool:
    """Return whether TensorFlow computes with oneDNN, which changes the last digits; importing `cifar10` decides."""
    return keras.backend.backend() == "tensorflow" and os.environ.get("TF_ENABLE_ONEDNN_OPTS") == "1"


def steps_per_execution() -> int:
    """Return the number of training steps between two returns to Python, for which a GPU has to wait."""
    return 32 if _gpus() else 1


def choose_compute_dtype(requested: str, on_cpu: str) -> str:
    """Return `float32` or `bfloat16`, resolving a request for `auto`.

    Args:
        requested: `auto`, `float32` or `bfloat16`.
        on_cpu: what `auto` means on a CPU with bfloat16 instructions. It means bfloat16 on a GPU, and float32 on a CPU
            without these instructions, where bfloat16 is far slower.
    """
    if requested != "auto":
        return requested
    if _gpus():
        return "bfloat16"
    return on_cpu if BFLOAT16_FLAGS & _processor_flags() else "float32"


def set_deterministic(wanted: bool) -> None:
    """Make a GPU compute the same result every time, more slowly, or not any more. A CPU does so anyway.

    Raises:
        InputError: the backend needs an environment variable for it, which is not set.
    """
    if not _gpus():
        return
    if keras.backend.backend() != "tensorflow":
        flag = "--xla_gpu_deterministic_ops=true"
        if wanted and flag not in os.environ.get("XLA_FLAGS", ""):
            raise InputError(
                f"With Keras on {keras.backend.backend()}, deterministic=true needs the environment variable "
                f"XLA_FLAGS={flag}"
            )
        return
    from tensorflow.python.framework import config  # TensorFlow's public function can only turn it on

    (config.enable_op_determinism if wanted else config.disable_op_determinism)()


def describe(compute_dtype: str) -> str:
    """Return device, backend, compute dtype and compiler in one line for the log."""
    compiler = "XLA" if uses_xla() else "oneDNN" if uses_onednn() else "neither XLA nor oneDNN"
    sharing = f", {devices} devices" if (devices := parallel.count()) > 1 else ""
    return f"{hardware()}; {keras.backend.backend()}, {compute_dtype}, {compiler}{sharing}"


def has_gpu() -> bool:
    """Return whether Keras computes on a GPU."""
    return bool(_gpus())


def hardware() -> str:
    """Return the names of the GPUs in use, or the processor and the number of cores that this process may use."""
    # One core is "1 cores", too: machines are told apart by this text, and records have it.
    return ", ".join(_gpu_names()[: parallel.count()]) or f"{_processor()}, {cores()} cores"


def _gpus() -> list[str]:
    # Asked for GPUs alone, JAX raises where it has none.
    return [device for device in keras.distribution.list_devices() if device.lower().startswith(("gpu", "cuda"))]


def _gpu_names() -> list[str]:
    """Return the names of the GPUs, which Keras only counts."""
    if not _gpus():
        return []
    if keras.backend.backend() == "jax":
        import jax

        return [device.device_kind for device in jax.devices()]

    import tensorflow as tf

    details = (tf.config.experimental.get_device_details(gpu) for gpu in tf.config.list_physical_devices("GPU"))
    return [each.get("device_name", "GPU") for each in details]


def cores() -> int:
    """Return the number of cores that this process may use, which can be fewer than the machine has.

    TensorFlow uses no more than `TF_NUM_INTRAOP_THREADS` says, as in the tasks of `kedro farm`, which share a machine.
    """
    allowed = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
    threads = os.environ.get("TF_NUM_INTRAOP_THREADS", "")
    if keras.backend.backend() != "tensorflow" or not threads.isdecimal() or int(threads) == 0:
        return allowed
    return min(allowed, int(threads))


def _processor() -> str:
    """Return the model name of the processor, which `platform.processor()` lacks on Linux."""
    try:
        lines = pathlib.Path("/proc/cpuinfo").read_text("utf-8", "replace").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _processor_flags() -> set[str]:
    """Return the instruction set flags of the processor, or none where the system does not report them."""
    try:
        lines = pathlib.Path("/proc/cpuinfo").read_text("utf-8", "replace").splitlines()
    except OSError:
        return set()
    return next((set(line.split(":", 1)[1].split()) for line in lines if line.startswith("flags")), set())
