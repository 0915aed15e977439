"""What the device decides: compute dtype, and whether to compile with XLA."""

import keras
import pytest

from cifar10.compute import device

ON_TENSORFLOW = pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="JAX always compiles with XLA")


@ON_TENSORFLOW
@pytest.mark.parametrize(
    ("gpus", "deterministic", "expected"),
    [([], False, False), (["gpu:0"], False, "auto"), ([], True, False), (["gpu:0"], True, False)],
)
def test_xla_is_for_gpus_that_need_not_be_deterministic(monkeypatch, gpus, deterministic, expected):
    monkeypatch.setattr(device, "_gpus", lambda: gpus)
    from tensorflow.python.framework import config

    monkeypatch.setattr(config, "is_op_determinism_enabled", lambda: deterministic)
    assert device.jit_compile() == expected
    assert device.uses_fast_layers() == (not gpus)  # of which some cannot be deterministic on a GPU


@ON_TENSORFLOW
def test_xla_is_off_while_a_training_must_be_deterministic(monkeypatch):
    """TensorFlow has no public functions that say so and end it, hence this test of the private ones."""
    from tensorflow.python.framework import config

    monkeypatch.setattr(device, "_gpus", lambda: ["gpu:0"])
    assert device.jit_compile() == "auto"
    try:
        device.set_deterministic(True)
        assert device.jit_compile() is False
        device.set_deterministic(False)
        assert device.jit_compile() == "auto"
    finally:
        config.disable_op_determinism()


@pytest.mark.parametrize(
    ("flags", "gpus", "on_cpu", "expected"),
    [
        ({"avx2"}, [], "bfloat16", "float32"),
        ({"avx2", "avx512_bf16"}, [], "bfloat16", "bfloat16"),
        ({"amx_bf16"}, [], "float32", "float32"),
        ({"avx2"}, ["gpu:0"], "float32", "bfloat16"),
    ],
)
def test_auto_compute_dtype_follows_the_device(monkeypatch, flags, gpus, on_cpu, expected):
    monkeypatch.setattr(device, "_processor_flags", lambda: flags)
    monkeypatch.setattr(device, "_gpus", lambda: gpus)
    assert device.choose_compute_dtype("auto", on_cpu) == expected
    assert device.choose_compute_dtype("float32", on_cpu) == "float32"
    assert device.choose_compute_dtype("bfloat16", on_cpu) == "bfloat16"


@ON_TENSORFLOW
@pytest.mark.parametrize(
    ("threads", "expected"), [(None, 3), ("", 3), ("0", 3), ("1", 1), ("2", 2), ("8", 3), ("-1", 3), ("all", 3)]
)
def test_cores_are_no_more_than_tensorflow_uses(monkeypatch, threads, expected):
    monkeypatch.setattr(device.sys, "platform", "linux")
    monkeypatch.setattr(device.os, "sched_getaffinity", lambda process: {0, 1, 5}, raising=False)
    monkeypatch.setattr(device, "_gpus", list)
    if threads is None:
        monkeypatch.delenv("TF_NUM_INTRAOP_THREADS", raising=False)
    else:
        monkeypatch.setenv("TF_NUM_INTRAOP_THREADS", threads)
    assert device.cores() == expected
    assert device.hardware().endswith(f", {expected} cores")
