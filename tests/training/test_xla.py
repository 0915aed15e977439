"""The GPU path on a CPU: XLA, bfloat16, 32 steps per execution, a short last batch, a checkpoint and a resumption."""

import json

import keras
import numpy as np
import pytest
import yaml

from cifar10.architectures import ARCHITECTURES, build
from cifar10.compute import device
from cifar10.contracts import Examples
from cifar10.pipelines.preprocessing.nodes import measure
from cifar10.training import accelerate, phase
from cifar10.training.augmentation import Augmentation, make_mixing
from cifar10.training.checkpoint import Checkpoints
from cifar10.training.fit import fit
from cifar10.training.model import TrainingModel
from cifar10.training.recipe import RECIPES
from tests.helpers import CLASS_NAMES, PROJECT

ON_TENSORFLOW = keras.backend.backend() == "tensorflow"
# In the order of the time that XLA takes to compile them on a CPU: 5 s to 4 minutes for the first seven.
TRAINED = ["simple_cnn", "batchnorm_cnn", "deep_cnn", "airbench94", "vgg16", "vgg19", "googlenet"]
LOWERED = ["resnet50", "mobilenetv2", "efficientnetb0", "densenet121", "resnet101", "nasnetmobile"]
STEPS = 32  # per execution
BATCH = 4


@pytest.fixture
def as_on_a_gpu(monkeypatch):
    """Compile the standard layers with XLA, and return to Python every 32 steps."""
    for module in (phase, device):
        monkeypatch.setattr(module, "jit_compile", lambda: True)
    for module in (accelerate, device):
        monkeypatch.setattr(module, "uses_fast_layers", lambda: False)
    monkeypatch.setattr(phase, "steps_per_execution", lambda: STEPS)


@pytest.fixture(scope="module")
def splits():
    """One execution of 32 steps, one more step, and a batch of one image."""
    generator = np.random.default_rng(0)

    def make(count):
        labels = (np.arange(count) % 10).astype(np.uint8)
        noise = generator.integers(0, 60, (count, 32, 32, 3))
        return Examples((noise + 18 * labels[:, None, None, None]).astype(np.uint8), labels)

    return make(BATCH * (STEPS + 1) + 1), make(10)


def recipe(name, **changes):
    blocks = yaml.safe_load((PROJECT / "conf/base/parameters_architectures.yml").read_text())
    short = {"epochs": 2, "batch_size": BATCH, "accumulate": 1, "compute_dtype": "bfloat16", "early_stopping": None}
    whitening = {"whitening_epochs": 1} if blocks[name]["whitening_epochs"] else {}
    return RECIPES[name](**{**blocks[name], **short, **whitening, **changes})


def test_every_network_from_scratch_is_here():
    assert sorted(TRAINED + LOWERED) == sorted(name for name, module in ARCHITECTURES.items() if module != "imagenet")


@pytest.mark.xla
@pytest.mark.usefixtures("as_on_a_gpu")
@pytest.mark.parametrize("name", TRAINED if ON_TENSORFLOW else ["simple_cnn", "batchnorm_cnn", "airbench94"])
def test_training_resumes_to_the_same_result(name, splits, tmp_path, monkeypatch):
    train, val = splits
    statistics = measure(train, val, val)

    def run(folder):
        return fit(name, train, val, statistics, CLASS_NAMES, recipe(name), Checkpoints(tmp_path / folder))

    model, history = run("whole")
    assert model.record.xla
    assert model.record.compute_dtype == "bfloat16"
    assert np.isfinite(history.loss).all()

    with monkeypatch.context() as context:

        def interrupt(*arguments):
            raise KeyboardInterrupt

        context.setattr(phase, "_log", interrupt)  # after the checkpoint of the first epoch
        with pytest.raises(KeyboardInterrupt, match=f"{name} was interrupted after epoch 1"):
            run("interrupted")
    resumed, _ = run("interrupted")
    weights = zip(model.load_network().get_weights(), resumed.load_network().get_weights(), strict=True)
    for whole, again in weights:
        np.testing.assert_allclose(again, whole, rtol=1e-5, atol=1e-6)
    same = [{key: row[key] for key in ("epoch", "learning_rate")} for row in model.record.history]
    assert json.dumps(same) == json.dumps([{key: row[key] for key in same[0]} for row in resumed.record.history])


@pytest.mark.xla
@pytest.mark.usefixtures("as_on_a_gpu")
@pytest.mark.skipif(not ON_TENSORFLOW, reason="the other networks are lowered on TensorFlow")
@pytest.mark.parametrize("name", LOWERED)
def test_training_step_can_be_lowered_to_xla(name, splits):
    """Without compiling it to machine code, which takes minutes on a CPU."""
    import tensorflow as tf

    train, val = splits
    keras.utils.set_random_seed(0)
    chosen = recipe(name)
    network = accelerate.accelerate(build(name, 10, measure(train, val, val)), "bfloat16")
    model = TrainingModel(network, train.images, val.images, Augmentation(chosen, (0.0, 0.0, 0.0)), make_mixing(chosen))
    phase.compile_by(chosen, model, len(train), "bfloat16")

    @tf.function(jit_compile=True)
    def step(index, targets):
        return model.train_step((index, targets))

    targets = tf.one_hot(train.labels[:BATCH], 10)
    lowered = step.experimental_get_compiler_ir(tf.range(BATCH), targets)(stage="hlo")
    assert "convolution" in lowered
    assert "bf16" in lowered
