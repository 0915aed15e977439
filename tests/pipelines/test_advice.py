"""Which model to use, in words: each sentence is true of the evaluations at hand, and of no more."""

from cifar10.pipelines.reporting.advice import advise
from tests.helpers import COSTS, make_evaluation, make_evaluations, make_pair, make_record, make_row


def model(name, val, test, minutes, parameters, latency, seed=0, hardware="a machine", measured_on="a machine"):
    record = make_record(
        architecture=name,
        training_seconds=60 * minutes,
        parameters=parameters,
        hardware=hardware,
        recipe={"seed": seed},
    )
    costs = COSTS.model_copy(update={"latency_ms": latency, "measured_on": measured_on})
    return make_evaluation(version=f"2026-01-0{seed + 1}", record=record, costs=costs, val_accuracy=val, accuracy=test)


BEST = model("vgg16", 0.94, 0.935, 126.0, 14_000_000, 9.5)
MIDDLE = model("airbench94", 0.93, 0.9288, 6.0, 2_000_000, 3.0)
SMALL = model("simple_cnn", 0.83, 0.8252, 5.0, 350_000, 3.5)
WORSE = model("vgg19", 0.82, 0.83, 11.0, 2_500_000, 4.0)
ONE_SEED = (
    "All of these models were trained with fewer than 3 seeds: a difference to another model, even if significant, is "
    "one between two trainings, and not yet one between architectures."
)
RECIPES = "Each result is that of a recipe: by another one, the same network may do better or worse."


def test_each_budget_has_its_model():
    pairs = [
        make_pair("vgg16", "airbench94", significant=False),
        make_pair("vgg16", "simple_cnn"),
        make_pair("airbench94", "simple_cnn"),
    ]
    assert advise(make_evaluations(BEST, MIDDLE, SMALL, WORSE, pairs=pairs)) == [
        "Without a limit: vgg16 (test accuracy 93.50%; 126.0 minutes, 14,000,000 parameters, 9.50 ms).",
        "Training time on a machine: with less than 6.0 minutes, simple_cnn (5.0 minutes, test accuracy 82.52%); from "
        "6.0 minutes on, airbench94 (test accuracy 92.88%); from 126.0 minutes on, vgg16 (test accuracy 93.50%, not "
        "significantly different from airbench94).",
        "Size: with less than 2,000,000 parameters, simple_cnn (350,000 parameters, test accuracy 82.52%); from "
        "2,000,000 parameters on, airbench94 (test accuracy 92.88%); from 14,000,000 parameters on, vgg16 (test "
        "accuracy 93.50%, not significantly different from airbench94).",
        "Latency of one image on a machine: with less than 9.50 ms, airbench94 (3.00 ms, test accuracy 92.88%); from "
        "9.50 ms on, vgg16 (test accuracy 93.50%, not significantly different from airbench94).",
        "Never the best choice: vgg19, because within each limit another model has at least the same validation "
        "accuracy.",
        RECIPES,
        ONE_SEED,
    ]


def test_models_that_saw_only_a_part_of_the_images_are_named():
    record = SMALL.record
    part = record.model_copy(update={"recipe": {**record.recipe, "examples": 500}, "training_examples": 500})
    few = SMALL.model_copy(update={"record": part})
    sentence = "Trained on a part of the training images only: simple_cnn (500)."
    assert sentence in advise(make_evaluations(BEST, few, pairs=[make_pair("vgg16", "simple_cnn")]))
    assert sentence not in advise(make_evaluations(BEST, SMALL, pairs=[make_pair("vgg16", "simple_cnn")]))


def test_one_model_that_is_better_and_cheaper_is_the_answer_to_all():
    better = model("airbench94", 0.93, 0.92, 1.0, 7, 1.0)
    sentences = advise(make_evaluations(better, SMALL, pairs=[make_pair("airbench94", "simple_cnn")]))
    assert (
        "Size: airbench94 (7 parameters, test accuracy 92.00%) costs the least and has the best validation accuracy."
        in sentences
    )
    assert sentences[4].startswith("Never the best choice: simple_cnn, because")


def test_costs_of_different_machines_are_not_compared():
    elsewhere = model("deep_cnn", 0.82, 0.83, 1.0, 9_000_000, 1.0, hardware="another", measured_on="another")
    pairs = [make_pair("vgg16", "simple_cnn"), make_pair("vgg16", "deep_cnn"), make_pair("simple_cnn", "deep_cnn")]
    sentences = advise(make_evaluations(BEST, SMALL, elsewhere, pairs=pairs))
    assert sentences[1].startswith("Training time on a machine: with less than 126.0 minutes, simple_cnn")
    assert "deep_cnn" not in sentences[1]
    assert sentences[2] == "Training time: not compared for deep_cnn, measured on a machine of its own."
    assert sentences[5] == "Latency of one image: not compared for deep_cnn, measured on a machine of its own."
    assert not [each for each in sentences if each.startswith("Never the best choice")]


def test_less_than_a_minute_is_told_in_seconds():
    quick = model("deep_cnn", 0.82, 0.83, 0.305, 9_000_000, 1.0)
    sentences = advise(make_evaluations(BEST, quick, pairs=[make_pair("vgg16", "deep_cnn")]))
    assert "with less than 126.0 minutes, deep_cnn (18.3 seconds, test accuracy 83.00%)" in sentences[1]


def test_latencies_that_varied_are_said_to_be_unreliable():
    costs = SMALL.costs.model_copy(update={"latency_low_ms": 2.0, "latency_high_ms": 6.1})
    sentences = advise(make_evaluations(BEST, SMALL.model_copy(update={"costs": costs}), pairs=[]))
    (sentence,) = [each for each in sentences if each.startswith("Latencies are not reliable")]
    assert "those of simple_cnn varied more than 3-fold" in sentence


def test_one_model_and_none_with_a_rank():
    (sentence,) = advise(make_evaluations(BEST))
    assert sentence == "vgg16 is the only ranked model, so these runs do not tell which architecture is better."
    everything = model("vgg19", None, 0.95, 1.0, 7, 1.0)
    assert advise(make_evaluations(everything)) == []
    assert advise(make_evaluations(BEST, everything)) == [sentence]


def test_recipes_of_one_architecture_are_not_architectures():
    rows = [make_row(BEST, name="vgg16-0123"), make_row(model("vgg16", 0.9, 0.9, 5.0, 9, 1.0), name="vgg16-9876")]
    sentences = advise(make_evaluations(*rows, pairs=[make_pair("vgg16-0123", "vgg16-9876")]))
    assert "All of these models are vgg16: they compare its recipes, not architectures." in sentences
    assert RECIPES not in sentences
    assert ONE_SEED.replace("architectures", "recipes") in sentences


def test_enough_seeds_give_intervals_of_the_means():
    def seeds(name, *accuracies):
        return make_row(*(model(name, 0.9, each, 5.0, 9, 1.0, seed) for seed, each in enumerate(accuracies)))

    pairs = [make_pair("vgg16", "vgg19"), make_pair("vgg16", "simple_cnn"), make_pair("vgg19", "simple_cnn")]
    three = [seeds("vgg16", 0.5, 0.52, 0.54), seeds("vgg19", 0.4, 0.42, 0.44)]
    *_, means, caveat = advise(make_evaluations(*three, SMALL, pairs=pairs))
    assert means == (
        "Mean test accuracies over the seeds: vgg16 52.00% (95% CI 47.03 to 56.97, 3 seeds), vgg19 42.00% (95% CI "
        "37.03 to 46.97, 3 seeds)."
    )
    assert caveat.startswith("simple_cnn was trained with fewer than 3 seeds: a difference")
    *_, before, last = advise(make_evaluations(*three, pairs=pairs[:1]))
    assert (before, last) == (means, "Significance is that of the trainings with the lowest seed, not of the means.")
