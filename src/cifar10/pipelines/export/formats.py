"""Convert a network to other formats, and run each of them.

Only TensorFlow can write them, so this module does not work with other backends. In every format, the input `images` is
raw RGB, float32 (n, 32, 32, 3) of 0 to 255, and the output `probabilities` is float32 (n, classes).
"""

import errno
import glob
import os
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras import layers

from cifar10.compute.device import cores
from cifar10.compute.layers import walk_layers
from cifar10.compute.portable import save
from cifar10.errors import InputError
from cifar10.quiet import hidden_messages

Files = dict[str, bytes]  # path inside the export -> content
Predict = Callable[[np.ndarray], np.ndarray]

INPUT, OUTPUT = "images", "probabilities"
OPSET = 17  # of ONNX; supported by servers since 2022
KERAS, SAVED_MODEL, ONNX, LITERT, LITERT_INT8 = "keras", "saved_model", "onnx", "litert", "litert_int8"
FORMATS = {  # in the order of the table -> its file; a SavedModel has others beside it
    KERAS: "model.keras",
    SAVED_MODEL: "saved_model.pb",
    ONNX: "model.onnx",
    LITERT: "model.tflite",
    LITERT_INT8: "model_int8.tflite",
}


def convert(
    network: keras.Model, representative: np.ndarray, kinds: Collection[str] = tuple(FORMATS)
) -> dict[str, Files]:
    """Convert the network to each of these formats.

    Args:
        network: of standard layers, from images to probabilities.
        representative: training images, uint8 (n, 32, 32, 3), from which the int8 ranges are taken.
        kinds: keys of `FORMATS`.

    Raises:
        InputError: the backend of Keras is not TensorFlow, TensorFlow could not read temporary files, or their disk is
            full.
    """
    if keras.backend.backend() != "tensorflow":
        raise InputError(
            f"Export needs the TensorFlow backend, but KERAS_BACKEND is {keras.backend.backend()}: run the same "
            "command without KERAS_BACKEND. Models that were trained with another backend can be exported, too."
        )
    if glob.has_magic(tempfile.gettempdir()):
        raise InputError(
            f"Temporary files are in {tempfile.gettempdir()}, which TensorFlow would take for a pattern. Set the "
            "environment variable TMPDIR to a folder without [, * and ? in its path."
        )
    import tensorflow as tf

    convertible = _convertible(network)
    signature = [tf.TensorSpec((None, *network.input_shape[1:]), tf.float32, name=INPUT)]

    @tf.function(input_signature=signature)
    def serve(images: Any) -> dict[str, Any]:
        return {OUTPUT: convertible(images, training=False)}

    with _temporary_folder() as folder:
        saved_model = folder / "saved_model"
        module = tf.Module()
        module.weights = [
            variable.value for variable in convertible.variables
        ]  # Keras's own export would write them twice
        tf.saved_model.save(module, str(saved_model), signatures={"serving_default": serve})
        makers: dict[str, Callable[[], Files]] = {
            KERAS: lambda: {FORMATS[KERAS]: _to_keras(network, folder)},
            SAVED_MODEL: lambda: {
                path.relative_to(saved_model).as_posix(): path.read_bytes()
                for path in sorted(saved_model.rglob("*"))
                if path.is_file()
            },
            ONNX: lambda: {FORMATS[ONNX]: _to_onnx(saved_model)},
            LITERT: lambda: {FORMATS[LITERT]: _to_litert(network, folder)},
            LITERT_INT8: lambda: {FORMATS[LITERT_INT8]: _to_litert(network, folder, representative)},
        }
        return {kind: make() for kind, make in makers.items() if kind in kinds}


def runner(kind: str, files: Files) -> Predict:
    """Return a function that runs the format: from images, uint8 (n, 32, 32, 3), to float32 (n, classes)."""
    return {KERAS: _run_keras, SAVED_MODEL: _run_saved_model, ONNX: _run_onnx}.get(kind, _run_litert)(files)


def _convertible(network: keras.Model) -> keras.Model:
    """Return a copy made of layers that every format supports, with the same predictions.

    TensorFlow's GELU uses erfc, which ONNX lacks, and the variables of a Normalization layer would become ONNX inputs.
    """
    import tensorflow as tf

    def gelu(x: Any) -> Any:
        return 0.5 * x * (1 + tf.math.erf(x * np.float32(0.5**0.5)))

    def copy(layer: keras.Operation) -> keras.Operation:
        if isinstance(layer, layers.Activation) and layer.activation is keras.activations.gelu:
            return layers.Activation(gelu, name=layer.name)
        if isinstance(layer, layers.Normalization):
            mean, variance = (keras.ops.convert_to_numpy(each).ravel() for each in (layer.mean, layer.variance))
            scale = 1 / np.maximum(np.sqrt(variance), keras.config.epsilon())
            return layers.Rescaling(scale.tolist(), (-mean * scale).tolist(), name=layer.name)
        return type(layer).from_config(layer.get_config())

    copied = keras.models.clone_model(network, clone_function=copy, recursive=True)
    for ours, theirs in zip(walk_layers(copied), walk_layers(network), strict=True):
        if not isinstance(theirs, keras.Model | layers.Normalization):
            ours.set_weights(theirs.get_weights())
    return copied


def _to_keras(network: keras.Model, folder: Path) -> bytes:
    path = folder / FORMATS[KERAS]
    save(network, path)
    return path.read_bytes()


def _to_onnx(saved_model: Path) -> bytes:
    """Convert by the command of tf2onnx, which turns constants outside the weights into ONNX constants."""
    import onnx

    target = saved_model.with_name(FORMATS[ONNX])
    command = [*(sys.executable, "-m", "tf2onnx.convert", "--saved-model", str(saved_model), "--output", str(target))]
    done = subprocess.run([*command, "--opset", str(OPSET)], capture_output=True, text=True, check=False)  # noqa: S603
    if done.returncode or not target.exists():
        raise RuntimeError(f"tf2onnx failed: {done.stderr[-2000:]}")
    model = onnx.load(target)
    for tensor in (*model.graph.input, *model.graph.output):
        tensor.type.tensor_type.shape.dim[0].dim_param = "n"  # of images, which tf2onnx calls `unk__` and a number
    return model.SerializeToString()


def _to_litert(network: keras.Model, folder: Path, representative: np.ndarray | None = None) -> bytes:
    """Convert to LiteRT; with representative images, to int8 weights and activations, and float32 input and output."""
    import tensorflow as tf

    options: dict[str, Any] = {"target_spec": {"supported_ops": [tf.lite.OpsSet.TFLITE_BUILTINS]}}
    if representative is not None:
        options = {
            "target_spec": {"supported_ops": [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]},
            "optimizations": [tf.lite.Optimize.DEFAULT],
            "representative_dataset": lambda: ({INPUT: each[None].astype(np.float32)} for each in representative),
        }
    path = folder / FORMATS[LITERT]
    named = keras.Model(network.inputs, {OUTPUT: network.outputs[0]})
    signature = [keras.InputSpec("float32", network.input_shape, name=INPUT)]
    with warnings.catch_warnings(), hidden_messages():
        # TensorFlow quantizes by its own interpreter, and warns that this is deprecated.
        warnings.filterwarnings("ignore", message="[\\s\\S]*tf.lite.Interpreter")
        named.export(path, format="litert", verbose=False, input_signature=signature, **options)
    return path.read_bytes()


def _run_keras(files: Files) -> Predict:
    with _temporary_folder() as folder:
        path = folder / FORMATS[KERAS]
        path.write_bytes(files[FORMATS[KERAS]])
        network = keras.saving.load_model(path, compile=False)
    network.compile(jit_compile=False)
    return lambda images: network.predict_on_batch(images.astype(np.float32))


def _run_saved_model(files: Files) -> Predict:
    import tensorflow as tf

    with _temporary_folder() as folder:
        for name, content in files.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        loaded = tf.saved_model.load(str(folder))
    serve = loaded.signatures["serving_default"]
    return lambda images: serve(**{INPUT: tf.constant(images, tf.float32)})[OUTPUT].numpy()


def _run_onnx(files: Files) -> Predict:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = cores()
    session = onnxruntime.InferenceSession(files[FORMATS[ONNX]], options, providers=["CPUExecutionProvider"])
    return lambda images: session.run([OUTPUT], {INPUT: images.astype(np.float32)})[0]


def _run_litert(files: Files) -> Predict:
    from ai_edge_litert.interpreter import Interpreter

    (content,) = files.values()
    interpreter = Interpreter(model_content=content, num_threads=cores())
    place, result = interpreter.get_input_details()[0]["index"], interpreter.get_output_details()[0]["index"]
    ready_for: tuple[int, ...] | None = None

    def predict(images: np.ndarray) -> np.ndarray:
        nonlocal ready_for
        if images.shape != ready_for:
            with hidden_messages():
                interpreter.resize_tensor_input(place, images.shape)
                interpreter.allocate_tensors()
            ready_for = images.shape
        interpreter.set_tensor(place, images.astype(np.float32))
        interpreter.invoke()
        return interpreter.get_tensor(result)

    return predict


@contextmanager
def _temporary_folder() -> Iterator[Path]:
    """Provide a temporary folder.

    Raises:
        InputError: the disk that it is on is full.
    """
    try:
        with tempfile.TemporaryDirectory() as folder:
            yield Path(folder)
    except Exception as error:  # Python, HDF5, TensorFlow and tf2onnx each raise one of their own
        if os.strerror(errno.ENOSPC) not in str(error):
            raise
        raise InputError(
            f"The disk with the temporary files, in {tempfile.gettempdir()}, is full, so nothing was exported. Free "
            "disk space there, or set the environment variable TMPDIR to a folder on another disk."
        ) from error
