"""No sentence claims a result that the evaluations do not have, whichever model is the best of them."""

import itertools
import re

import pytest

from cifar10.architectures import ARCHITECTURES
from cifar10.architectures.descriptions import describe
from cifar10.pipelines.reporting.advice import BUDGETS, advise
from cifar10.pipelines.reporting.nodes import summarise
from tests.helpers import COSTS, make_evaluation, make_evaluations, make_pair, make_record, make_row
from tests.pipelines.test_reporting import markdown, report

NAMES = ["simple_cnn", "airbench94", "vgg16", "densenet121"]
RISING, FALLING, EQUAL = (0.6, 0.7, 0.8, 0.9), (0.9, 0.8, 0.7, 0.6), (0.7, 0.7, 0.7, 0.7)
NEARLY = (0.9, 0.895, 0.89, 0.5)
RESULTS = {  # of these models: validation accuracy, test accuracy, cost, number of seeds
    "the larger, the better": (RISING, RISING, RISING, 1),
    "the smaller, the better": (FALLING, FALLING, RISING, 1),
    "all equal": (EQUAL, EQUAL, EQUAL, 1),
    "equal at different costs": (EQUAL, EQUAL, FALLING, 3),
    "test contradicts validation": (RISING, FALLING, EQUAL, 1),
    "the noisiest by a hair": ((0.8, 0.81, 0.81, 0.8), NEARLY, FALLING, 2),
    "several seeds": (NEARLY, RISING, FALLING, 3),
}
COMPARING = r"\b(best|better|worst|worse|ahead|behind|unbeaten|beats?|fast\w*|slow\w*|longer|robust|noisy|hard)\b"
SOURCE = r"\([^)]*(19|20)\d\d"
GENERAL = {
    "Each result is that of a recipe: by another one, the same network may do better or worse.",
    "All of these models were trained with fewer than 3 seeds: a difference to another model, even if significant, is "
    "one between two trainings, and not yet one between architectures.",
}


@pytest.fixture(params=RESULTS.values(), ids=RESULTS)
def evaluations(request):
    return evaluated(*request.param)


def evaluated(validation, test, costs, seeds):
    rows = []
    for name, val, accuracy, cost in zip(NAMES, validation, test, costs, strict=True):
        models = [
            make_evaluation(
                version=f"2026-01-0{seed + 1}",
                record=make_record(
                    architecture=name, recipe={"seed": seed}, parameters=int(1e6 * cost), training_seconds=600 * cost
                ),
                costs=COSTS.model_copy(update={"latency_ms": 10 * cost}),
                val_accuracy=val,
                accuracy=accuracy,
            )
            for seed in range(seeds)
        ]
        rows.append(make_row(*models))
    rows.sort(key=lambda row: -row.val_accuracy)
    pairs = []
    for one, other in itertools.combinations(rows, 2):
        gap = one.first.metrics.accuracy - other.first.metrics.accuracy
        ends = {"difference": gap, "low": gap - 0.01, "high": gap + 0.01}
        pairs.append(make_pair(one.name, other.name, significant=abs(gap) > 0.01, **ends))
    return make_evaluations(*rows, pairs=pairs)


class Facts:
    """What is true of evaluations, computed apart from the code that writes about them."""

    def __init__(self, evaluations):
        self.rows = {row.name: row for row in evaluations.rows}
        self.val = {name: row.val_accuracy for name, row in self.rows.items()}
        self.test = {name: row.first.metrics.accuracy for name, row in self.rows.items()}
        self.same = [{pair.first, pair.second} for pair in evaluations.pairs if not pair.significant]
        self.winner = evaluations.rows[0].name

    def named(self, text):
        return {name for name in self.rows if re.search(rf"\b{name}\b", text)}

    def cost(self, budget):
        (found,) = (each for each in BUDGETS if each.name == budget)
        return {name: found.cost(row) for name, row in self.rows.items()}

    def is_best(self, name, count, others):
        best = {each for each, value in self.val.items() if value == max(self.val.values())}
        return int(count) == len(self.rows) and best == {name} | self.named(others)

    def is_ahead(self, points, order, other):
        gap = self.test[self.winner] - self.test[other]
        assert {self.winner, other} not in self.same
        right = pytest.approx(abs(100 * gap), abs=0.05)
        return order == ("ahead of" if gap > 0 else "behind") and float(points) == right

    def are_the_same(self, names):
        return self.named(names) == {name for name in self.rows if {name, self.winner} in self.same}

    def is_chosen(self, budget, steps):
        cost = self.cost(budget)
        named = re.findall(r"(?:^|, )(\w+) \(", steps)
        affordable = {name: [self.val[each] for each in cost if cost[each] <= cost[name]] for name in named}
        return bool(named) and all(self.val[name] == max(values) for name, values in affordable.items())

    def is_best_and_cheapest(self, budget, name):
        cost = self.cost(budget)
        return cost[name] == min(cost.values()) and self.val[name] == max(self.val.values())

    def are_never_chosen(self, names):
        return all(
            any(
                cost[other] <= cost[name] and self.val[other] >= self.val[name]
                for other in self.rows if other != name
            )
            for cost in map(self.cost, (each.name for each in BUDGETS))
            for name in self.named(names)
        )  # fmt: skip

    def is_single(self, seeds):
        counts = {len(row.seeds) for row in self.rows.values()}
        return counts == ({1} if seeds == "one seed" else {2})

    def have_enough_seeds(self):
        return all(len(row.seeds) >= 3 for row in self.rows.values())

    CLAIMS = (
        (r"(\w+) has the best validation accuracy of (\d+) models \([^)]*?%(.*?)\), and .*\.", is_best),
        (r"On the test images it is (.+) points (ahead of|behind) the next model, (\w+).*, which is .*", is_ahead),
        (r"This test accuracy is not significantly different from that of (.+)\.", are_the_same),
        (r"With (one seed|fewer than 3 seeds) each, this compares trainings, not architectures\.", is_single),
        (r"Significance is that of the trainings with the lowest seed[;,] .*", have_enough_seeds),
        (r"Without a limit: (\w+) \(.*\)\.", lambda self, name: self.val[name] == max(self.val.values())),
        (r"(Training time|Size|Latency of one image).*?: (\w+) \(.*\) costs the least and has the best .*",
         is_best_and_cheapest),
        (r"(Training time|Size|Latency of one image).*?: (with less than .*)\.", is_chosen),
        (r"Never the best choice: (.+), because .*", are_never_chosen),
        (r"Mean test accuracies over the seeds: (\w+) .*", lambda self, name: name == self.winner),
    )  # fmt: skip

    def allow(self, sentence):
        """Return whether a sentence is general, or claims what is true."""
        if sentence in GENERAL:
            return True
        found = [(re.fullmatch(pattern, sentence), check) for pattern, check in self.CLAIMS]
        (claim,) = [(match, check) for match, check in found if match]
        return claim[1](self, *claim[0].groups())


def sentences(text):
    return re.split(r"(?<=[.:])\s+(?=[A-Z])", text)


def test_every_sentence_about_a_result_is_true(evaluations):
    """A new kind of sentence needs a check here."""
    facts = Facts(evaluations)
    written = [*sentences(summarise(evaluations).replace(" (seed 0)", "")), *advise(evaluations)]
    assert len(written) > 6
    assert [each for each in written if not facts.allow(each)] == []


def test_a_sentence_that_stays_when_results_are_reversed_compares_nothing():
    def comparing(results):
        evaluations = evaluated(*RESULTS[results])
        page = report(evaluations) + markdown(evaluations)
        return {each for each in sentences(page.replace("\n- ", " ")) if re.search(COMPARING, each)}

    same = comparing("the larger, the better") & comparing("the smaller, the better")
    assert {each for each in same if not re.search(SOURCE, each)} <= GENERAL


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_a_description_that_compares_names_its_source(name):
    described = sentences(describe(name))
    assert [each for each in described if re.search(COMPARING, each) and not re.search(SOURCE, each)] == []
