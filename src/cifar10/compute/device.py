"""What Keras computes on, and how it is compiled for it."""

import os
import pathlib
import platform
import sys

import keras

from cifar10.errors import InputError
from cifar10.training.recipe import Recipe

BFLOAT16_FLAGS = frozenset({"avx512_bf16", "amx_bf16"})  # of a processor that computes in bfloat16


def jit_compile() -> bool | str:
    """Whether to compile with XLA: not with TensorFlow on a CPU, where XLA's convolutions are slower, nor where it has
    to be deterministic, which XLA is not for all operations; else Keras decides.
    """
    if keras.backend.backend() != "tensorflow":
        return "auto"
    from tensorflow.python.framework.config import is_op_determinism_enabled  # as Keras does; there is no public one

    return "auto" if _gpus() and not is_op_determinism_enabled() else False


def steps_per_execution() -> int:
    """Training steps between two returns to Python: it costs a CPU nothing, but a GPU would wait for it."""
    return 32 if _gpus() else 1


def choose_precision(recipe: Recipe) -> str:
    """`float32` or `bfloat16`: what the recipe says, and for `auto` what is fast here.

    That is bfloat16 on a GPU; on a processor with instructions for it, what the recipe found to be faster there, for
    depthwise convolutions are not; and float32 elsewhere, where bfloat16 would be far slower.
    """
    if recipe.precision != "auto":
        return recipe.precision
    if _gpus():
        return "bfloat16"
    return recipe.bfloat16_cpu if BFLOAT16_FLAGS & _processor_flags() else "float32"


def make_deterministic() -> None:
    """Have a GPU give the same result each time, more slowly; a CPU does so anyway."""
    if not _gpus():
        return
    if keras.backend.backend() != "tensorflow":
        flag = "--xla_gpu_deterministic_ops=true"
        if flag not in os.environ.get("XLA_FLAGS", ""):
            raise InputError(
                f"deterministic=true is for TensorFlow; with Keras on {keras.backend.backend()}, set it to false and "
                f"the environment variable XLA_FLAGS={flag}"
            )
        return
    import tensorflow as tf

    tf.config.experimental.enable_op_determinism()


def describe(precision: str) -> str:
    """Device, precision and compiler, in one line for the log."""
    compiler = "XLA" if keras.backend.backend() == "jax" or jit_compile() else "no XLA"
    return f"{hardware()}; {keras.backend.backend()}, {precision}, {compiler}"


def has_gpu() -> bool:
    """Whether Keras computes on a GPU."""
    return bool(_gpus())


def hardware() -> str:
    """The GPUs, or else the processor and the number of cores that this process may use."""
    return ", ".join(_gpu_names()) or f"{_processor()}, {cores()} cores"


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


def cores() -> int:
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


def _processor_flags() -> set[str]:
    """What instructions the processor has, where the system tells (Linux)."""
    try:
        lines = pathlib.Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return set()
    return next((set(line.split(":", 1)[1].split()) for line in lines if line.startswith("flags")), set())
