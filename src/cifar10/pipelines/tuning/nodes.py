"""Search among recipes, train the best ones at full length, and write the one to use."""

import logging
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from cifar10.contracts import Confirmed, ConfirmedRecipe, Examples, Statistics, Trial, Trials
from cifar10.errors import InputError
from cifar10.metrics import compare_seeds, holm, t_interval
from cifar10.training.recipe import RECIPES, Recipe
from cifar10.training.subset import check_examples
from cifar10.tuning.options import Fidelity, Tuning, at_fidelity
from cifar10.tuning.space import recipe_of, unused
from cifar10.tuning.study import Plan
from cifar10.tuning.worker import Data, run

logger = logging.getLogger(__name__)


def searcher(architecture: str) -> Callable:
    """Return the node function that tunes this architecture."""

    def search(
        train: Examples,
        val: Examples,
        statistics: Statistics,
        recipe: dict[str, Any],
        tuning: dict[str, Any],
        class_names: list[str],
        folder: Path,
    ) -> Trials:
        """Try recipes until the budget is spent, and no other process tries one. Returns all trials of the study."""
        options, parsed = Tuning.model_validate(tuning), RECIPES[architecture].model_validate(recipe)
        shipped = at_fidelity(architecture, recipe, options.fidelity)
        space = options.space_of(architecture, shipped)
        for examples in [shipped["examples"], *(space["examples"].ends if "examples" in space else [])]:
            check_examples(architecture, train_on="train", examples=examples, train=len(train), val=len(val))
        described = {name: values.model_dump(exclude_defaults=True) for name, values in space.items()}
        skipped = unused(shipped)
        plan = Plan(
            folder=folder,
            name="search",
            architecture=architecture,
            recipe=shipped,
            question={
                **_question(architecture, parsed, statistics, class_names),
                "fidelity": options.fidelity.options,
                "space": described,
            },
            queue=[{name: shipped[name] for name in space if name not in skipped}],
            space=space,
            trials=options.trials,
            deadline=time.time() + 60 * options.minutes if options.minutes else math.inf,
            tuning=options,
        )
        study = run(plan, Data(train, val, statistics, class_names))
        trials = Trials(
            architecture=architecture,
            recipe=parsed.described(),
            data_version=statistics.data_version,
            fidelity=options.fidelity.options,
            space=described,
            trials=study.results(),
            importance=study.importance(),
        )
        if not trials.best:
            raise InputError(
                f"{architecture}: none of its {len(trials.trials)} trials is complete. The first failed: "
                f"{trials.trials[0].message}. Change its recipe, and move {folder} away."
            )
        best = trials.best[0]
        logger.info("%s: %s; best %.2f%%, trial %d", architecture, trials.summary, _points(best), best.number)
        return trials

    return search


def confirmer(architecture: str) -> Callable:
    """Return the node function that trains the best recipes of this architecture at full length."""

    def confirm(
        trials: Trials,
        train: Examples,
        val: Examples,
        statistics: Statistics,
        recipe: dict[str, Any],
        tuning: dict[str, Any],
        class_names: list[str],
        folder: Path,
    ) -> Confirmed:
        """Train the best trials and the recipe that was tuned at full length, with seeds that no trial had."""
        options, parsed = Tuning.model_validate(tuning), RECIPES[architecture].model_validate(recipe)
        _check_recipe(trials, parsed)
        if trials.data_version != statistics.data_version:
            raise InputError(
                f"{architecture}.trials are of other data. Search again: kedro run --pipelines=tune_{architecture}"
            )
        seeds = [(parsed.seed + number) % 2**32 for number in range(1, options.confirm_seeds + 1)]
        best = _candidates(trials, options.confirm_top)
        recipes = [{}, *(trial.options for trial in best)]
        plan = Plan(
            folder=folder,
            name="confirm",
            architecture=architecture,
            recipe=at_fidelity(architecture, recipe, Fidelity(epochs=None, examples=None)),
            question=_question(architecture, parsed, statistics, class_names),
            queue=[{**each, "seed": seed} for seed in seeds for each in recipes],
            space={},
            trials=None,
            deadline=math.inf,
            tuning=options,
        )
        results = run(plan, Data(train, val, statistics, class_names)).results() if best else []
        shipped = _confirmed(None, {}, seeds, results)
        candidates = [_confirmed(trial.number, trial.options, seeds, results) for trial in best]
        return Confirmed(
            architecture=architecture,
            data_version=statistics.data_version,
            trials=trials.digest,
            seeds=seeds,
            shipped=shipped,
            candidates=_compared(candidates, shipped),
        )

    return confirm


def choose(trials: Trials, confirmed: Confirmed, recipe: dict[str, Any]) -> str:
    """Return the block of the best recipe for `parameters_architectures.yml`, below how it was found.

    There is none if no trial was better than the recipe that was tuned. It has every option, because in an environment
    it is merged with the recipe of conf/base, whose values would take the place of those that it lacked.
    """
    name, parsed = trials.architecture, RECIPES[trials.architecture].model_validate(recipe)
    if confirmed.trials != trials.digest:
        raise InputError(f"{name}.confirmed is of other trials. Confirm these: kedro run --pipelines=tune_{name}")
    _check_recipe(trials, parsed)
    best = next(iter(confirmed.candidates), None)
    comment = "\n".join(f"# {line}" for line in _story(trials, confirmed, best))
    if best is None:
        return f"{comment}\n"
    chosen = recipe_of(name, parsed.model_dump(), best.options)
    return f"{comment}\n{yaml.safe_dump({name: chosen.model_dump()}, sort_keys=False)}"


def _question(name: str, recipe: Recipe, statistics: Statistics, class_names: list[str]) -> dict[str, Any]:
    from cifar10.training.identity import engine_version

    return {
        "engine version": engine_version(name),
        "recipe": recipe.described(exclude_defaults=True),
        "data version": statistics.data_version,
        "set of class names": class_names,
    }


def _check_recipe(trials: Trials, recipe: Recipe) -> None:
    if trials.recipe != recipe.described():
        name = trials.architecture
        raise InputError(
            f"{name}.trials are of another recipe. Set {name} to what it was, or search again: kedro run "
            f"--pipelines=tune_{name}"
        )


def _candidates(trials: Trials, count: int) -> list[Trial]:
    """Return the best trials, without those that have the same recipe, or are no better than the first."""
    found: list[Trial] = []
    first = next((trial for trial in trials.best if trial.number == 0), None)
    for trial in trials.best:
        if trial == first or (first and (trial.val_accuracy or 0.0) <= (first.val_accuracy or 0.0)):
            break
        if all(trial.options != other.options for other in found):
            found.append(trial)
    return found[:count]


def _confirmed(number: int | None, options: dict[str, Any], seeds: list[int], results: list[Trial]) -> ConfirmedRecipe:
    """Return a recipe with the results of its trainings, which are among these."""
    trainings = [each for seed in seeds for each in results if each.options == {**options, "seed": seed}]
    accuracies = [each.val_accuracy if each.state == "complete" else None for each in trainings]
    known = [accuracy for accuracy in accuracies if accuracy is not None]
    whole = bool(known) and len(known) == len(accuracies)
    interval = t_interval(known) if whole else None
    low, high = interval or (None, None)
    return ConfirmedRecipe(
        trial=number,
        options=options,
        val_accuracies=accuracies,
        mean=sum(known) / len(known) if whole else None,
        low=low,
        high=high,
        seconds=sum(each.seconds for each in trainings),
        message=next((each.message for each in trainings if each.message), ""),
    )


def _compared(candidates: list[ConfirmedRecipe], shipped: ConfirmedRecipe) -> list[ConfirmedRecipe]:
    """Return the candidates with their differences from the recipe that was tuned, the best mean first."""
    if shipped.mean is None:
        return sorted(candidates, key=lambda each: -(each.mean or 0.0))
    comparable = [each for each in candidates if each.mean is not None]
    comparisons = [compare_seeds(each.val_accuracies, shipped.val_accuracies) for each in comparable]  # type: ignore[arg-type]
    corrected = iter(holm([each.p_value for each in comparisons if each.p_value is not None]))
    p_values = [None if each.p_value is None else next(corrected) for each in comparisons]
    compared = [
        each.model_copy(
            update={
                "difference": comparison.difference,
                "difference_low": comparison.interval and comparison.interval.low,
                "difference_high": comparison.interval and comparison.interval.high,
                "p_value": p_value,
                "better": None if p_value is None else bool(p_value < 0.05 and comparison.difference > 0),
            }
        )
        for each, comparison, p_value in zip(comparable, comparisons, p_values, strict=True)
    ]
    failed = [each for each in candidates if each.mean is None]
    return [*sorted(compared, key=lambda each: -(each.mean or 0.0)), *failed]


def _story(trials: Trials, confirmed: Confirmed, best: ConfirmedRecipe | None) -> list[str]:
    """Return how a recipe was found, and what is known of it, in lines."""
    found = next(trial for trial in trials.trials if trial.number == best.trial) if best else trials.best[0]
    first = next(trial for trial in trials.trials if trial.number == 0)
    before = f"{_points(first):.2f}%" if first.state == "complete" else "none"
    lines = [
        f"Tuned by {trials.summary}:",
        f"validation {_points(found):.2f}% in trial {found.number}, {before} with the recipe before.",
    ]
    if best is None:
        return [*lines, "No trial was better than the recipe that was tuned, so it stays as it is."]
    seeds = ", ".join(map(str, confirmed.seeds))
    lines.append(
        f"Trained at full length with seeds {seeds}: validation {_mean(best)}, {_mean(confirmed.shipped)} with the "
        "recipe before."
    )
    if best.difference is None:
        return [*lines, f"Not confirmed, because a training failed: {best.message or confirmed.shipped.message}."]
    interval = ""
    if best.difference_low is not None and best.difference_high is not None:
        interval = f" (95% CI {100 * best.difference_low:+.2f} to {100 * best.difference_high:+.2f})"
    verdict = {
        True: "significantly better",
        False: "not confirmed to be better, so keep the recipe before",
        None: "these seeds cannot tell whether it is better",
    }[best.better]
    return [*lines, f"Difference {100 * best.difference:+.2f} points{interval}: {verdict}."]


def _mean(recipe: ConfirmedRecipe) -> str:
    if recipe.mean is None:
        return "none"
    if recipe.low is None or recipe.high is None:
        return f"{100 * recipe.mean:.2f}%"
    return f"{100 * recipe.mean:.2f}% (95% CI {100 * recipe.low:.2f} to {100 * recipe.high:.2f})"


def _points(trial: Trial) -> float:
    return 100 * (trial.val_accuracy or 0.0)
