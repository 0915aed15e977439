"""What TensorFlow writes when it is imported, and what ONNX Runtime would report."""

import subprocess
import sys

import pytest


def python(script, **options):
    return subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, **options)


@pytest.mark.parametrize("first", ["keras", pytest.param("tensorflow", marks=pytest.mark.slow)])
def test_tensorflow_is_imported_without_its_startup_messages(first):
    script = f"""
import sys
import cifar10, {first}
import tensorflow as tf
assert tf.config.list_physical_devices("CPU")
tf.config.list_physical_devices("GPU")
print("an error of our own", file=sys.stderr)
"""
    assert python(script).stderr == "an error of our own\n"


def test_what_else_is_written_meanwhile_is_passed_on():
    script = """
import os, sys
from cifar10.quiet import hidden_messages
with hidden_messages():
    os.write(2, b"I0000 port.cc:153] oneDNN custom operations are on.\\nsomething important\\n")
print("afterwards", file=sys.stderr)
"""
    assert python(script).stderr == "something important\nafterwards\n"


def test_without_standard_error_the_import_works():
    assert python("import os; os.close(2); import cifar10, keras; print('imported')").stdout == "imported\n"


@pytest.mark.parametrize(
    ("machine", "given", "expected"),
    [("x86_64", None, "1"), ("AMD64", None, "1"), ("x86_64", "0", "0"), ("aarch64", None, "None")],
)
def test_onednn_is_on_for_x86_unless_the_user_has_set_it(machine, given, expected):
    script = f"""
import os, platform
platform.machine = lambda: {machine!r}
os.environ.pop("TF_ENABLE_ONEDNN_OPTS", None)
{f'os.environ["TF_ENABLE_ONEDNN_OPTS"] = {given!r}' if given else ""}
import cifar10
print(os.environ.get("TF_ENABLE_ONEDNN_OPTS"))
"""
    assert python(script).stdout == f"{expected}\n"


@pytest.mark.parametrize(("given", "expected"), [(None, "1"), ("0", "0")])
def test_onnx_runtime_reports_nothing_unless_the_user_wants_it(given, expected):
    script = f"""
import os
os.environ.pop("ORT_DISABLE_TELEMETRY", None)
{f'os.environ["ORT_DISABLE_TELEMETRY"] = {given!r}' if given else ""}
import cifar10
print(os.environ["ORT_DISABLE_TELEMETRY"])
"""
    assert python(script).stdout == f"{expected}\n"
