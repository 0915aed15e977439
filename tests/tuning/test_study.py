"""Nothing of a study is lost, whoever dies, and whenever: trainings are replaced by numbers here."""

import errno
import multiprocessing
import time

import pytest

from cifar10.errors import InputError, RecipeError
from cifar10.tuning.study import JOURNAL, MAX_DEATHS, Study
from cifar10.tuning.worker import Data, work

optuna = pytest.importorskip("optuna")

pytestmark = pytest.mark.usefixtures("fast_disk")
NOTHING = Data(None, None, None, None)  # to train on


def silent(kind, what):
    pass


def search(plan, data, at_most=100, say=silent):
    """Work on the study as a new process does, and return it."""
    study = Study(plan)
    work(study, data, say, at_most)
    return study


def states(study):
    return [trial.state for trial in study.results()]


def test_first_trial_is_the_recipe_and_the_budget_is_that_of_the_study(make_plan, fake_fit):
    lines = []
    search(make_plan(trials=3), NOTHING, say=lambda *message: lines.append(message))
    study = search(make_plan(trials=5), NOTHING)
    trials = study.results()
    assert [trial.number for trial in trials] == list(range(5))
    assert trials[0].options == {"learning_rate": 0.001, "batch_size": 64}
    assert all(0.0001 <= trial.options["learning_rate"] <= 0.1 for trial in trials)
    assert [recipe.learning_rate for recipe in fake_fit.recipes] == [trial.options["learning_rate"] for trial in trials]
    assert [what for kind, what in lines if kind == "trial"] == [0, 1, 2]
    said = [what for kind, what in lines if kind == "line"]
    assert len(said) == 3
    assert "trial 2 (3 of 3 finished): " in said[2]
    best = max(trials[:3], key=lambda trial: trial.val_accuracy)
    assert f"; best so far {best.val_accuracy:.2%} (trial {best.number})" in said[2]
    assert not list(study.plan.folder.glob("search/*"))  # checkpoints


def test_search_ends_after_its_minutes(make_plan, fake_fit):
    study = search(make_plan(trials=None, deadline=time.time() - 1), NOTHING)
    assert [trial.number for trial in study.results()] == [0]  # the recipe, at least


def test_proposals_do_not_depend_on_restarts(make_plan, fake_fit, tmp_path):
    once = search(make_plan(trials=7), NOTHING)
    again = make_plan(trials=7, folder=tmp_path / "again")
    for _ in range(7):
        restarted = search(again, NOTHING, at_most=1)
    assert [trial.options for trial in restarted.results()] == [trial.options for trial in once.results()]
    assert len({str(trial.options) for trial in once.results()}) == 7


def test_trial_of_a_dead_process_is_taken_over_and_that_of_a_living_one_is_not(make_plan, fake_fit):
    plan = make_plan(trials=3)
    one, other = Study(plan), Study(plan)
    with one.claim() as claimed:
        one.report(claimed, {"epoch": 1, "val_accuracy": 0.5, "seconds": 1.0})
        with other.claim() as beside:
            assert beside.number == claimed.number + 1
            with Study(plan).claim() as third, Study(plan).claim() as none:
                assert (third.number, none) == (2, None)
                assert Study(plan).unfinished()

    with other.claim() as again:  # the block above has released the locks, as the end of a process does
        assert (again.number, again.options, again.taken_over) == (claimed.number, claimed.options, True)
    study = search(plan, NOTHING)
    assert states(study) == ["complete"] * 3
    assert len(fake_fit.recipes) == 3
    assert not study.unfinished()


def test_checkpoints_of_a_process_that_died_after_its_result_are_removed(make_plan, fake_fit):
    study = search(make_plan(trials=1), NOTHING)
    left = study.plan.folder / "search/00000"
    left.mkdir(parents=True)
    search(make_plan(trials=2), NOTHING)
    assert not left.exists()


@pytest.mark.parametrize("left", [1, 20, -1])
def test_journal_that_was_cut_off_is_repaired(make_plan, fake_fit, left):
    """Its last line is the result of a trial, which is then trained again."""
    plan = make_plan(trials=3)
    search(plan, NOTHING, at_most=1)
    journal = plan.folder / JOURNAL
    *complete, last = journal.read_bytes().splitlines(keepends=True)
    journal.write_bytes(b"".join(complete) + last[:left])
    study = search(plan, NOTHING)
    assert [trial.number for trial in study.results()] == [0, 1, 2]
    assert states(study) == ["complete"] * 3


def test_living_processes_do_not_append_to_what_a_killed_one_has_cut_off(make_plan, fake_fit):
    plan = make_plan(trials=3)
    living = search(plan, NOTHING, at_most=1)
    with (plan.folder / JOURNAL).open("a") as journal:
        journal.write('{"op_code":5,"wor')
    work(living, NOTHING, silent, 1)
    assert states(search(plan, NOTHING)) == ["complete"] * 3


def test_journal_with_a_damaged_line_is_refused(make_plan, fake_fit):
    plan = make_plan(trials=2)
    search(plan, NOTHING)
    journal = plan.folder / JOURNAL
    journal.write_bytes(journal.read_bytes().replace(b'"op_code"', b'"op_co', 1))
    with pytest.raises(
        InputError, match=r"journal\.log could not be read: .* Move .*study away to start from scratch\."
    ):
        Study(plan)


def test_study_that_cannot_be_written_is_not_called_damaged(make_plan, monkeypatch):
    """A study that is opened again also appends a line."""
    plan = make_plan()
    backend = type(Study(plan).storage._backend)

    def full(backend, logs):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(backend, "append_logs", full)
    with pytest.raises(InputError, match="could not be written: No space left"):
        Study(plan)


def test_full_disk_ends_the_search_with_one_message_and_loses_nothing(make_plan, fake_fit, monkeypatch):
    plan = make_plan(trials=3)
    study = Study(plan)
    append = type(study.storage._backend).append_logs

    def full(backend, logs):
        if any(log.get("intermediate_value") for log in logs):
            with (plan.folder / JOURNAL).open("a") as journal:
                journal.write('{"op_code": 6, "wor')
            raise OSError(errno.ENOSPC, "No space left on device")
        append(backend, logs)

    with monkeypatch.context() as context:
        context.setattr(type(study.storage._backend), "append_logs", full)
        with pytest.raises(InputError, match="could not be written: No space left"):
            work(study, NOTHING, silent, 1)
    assert states(search(plan, NOTHING)) == ["complete"] * 3


def _claim_and_finish(plan, begin):
    begin.wait()
    study = Study(plan)
    while study.unfinished():
        with study.claim() as claimed:
            if claimed:
                study.report(claimed, {"epoch": 1, "val_accuracy": 0.5, "seconds": 1.0})
                study.finish(claimed, 0.5, 1.0)


def test_processes_that_start_at_once_share_a_study(make_plan):
    plan = make_plan(trials=12)
    context = multiprocessing.get_context("spawn")
    begin = context.Event()
    workers = [context.Process(target=_claim_and_finish, args=(plan, begin)) for _ in range(2)]
    for worker in workers:
        worker.start()
    begin.set()
    for worker in workers:
        worker.join()
    assert [worker.exitcode for worker in workers] == [0, 0]
    assert [trial.number for trial in Study(plan).results()] == list(range(12))


def test_trials_that_are_behind_are_pruned_but_never_the_recipe(make_plan, fake_fit):
    fake_fit.curve = lambda recipe, epoch: 0.1 if recipe.learning_rate == 0.001 else 0.9 - recipe.learning_rate * epoch
    plan = make_plan(trials=12, recipe={"epochs": 9}, tuning_changes={"pruner": "hyperband", "min_epochs": 1})
    trials = search(plan, NOTHING).results()
    assert trials[0].state == "complete"
    pruned = [trial for trial in trials if trial.state == "pruned"]
    assert pruned
    assert all(1 <= len(trial.val_accuracies) < 9 for trial in pruned)
    plan = make_plan(trials=4, recipe={"epochs": 9}, folder=plan.folder / "other")
    assert set(states(search(plan, NOTHING))) == {"complete"}


def test_trials_are_also_compared_with_the_recipe(make_plan, fake_fit):
    fake_fit.curve = lambda recipe, epoch: 0.9 if recipe.learning_rate == 0.001 else 0.1 + recipe.learning_rate
    plan = make_plan(trials=12, recipe={"epochs": 27}, tuning_changes={"pruner": "hyperband"})
    assert "pruned" in states(search(plan, NOTHING))


def test_trials_are_not_pruned_after_their_own_last_epoch(make_plan, fake_fit):
    fake_fit.curve = lambda recipe, epoch: 0.9 - 50 * abs(recipe.learning_rate - 0.001)
    space = {"learning_rate": {"low": 0.0001, "high": 0.01, "log": True}, "epochs": {"of": [9, 27]}}
    plan = make_plan(trials=20, space=space, recipe={"epochs": 27}, tuning_changes={"pruner": "hyperband"})
    trials = search(plan, NOTHING).results()
    pruned = [trial for trial in trials if trial.state == "pruned"]
    assert pruned
    assert all(len(trial.val_accuracies) < trial.options["epochs"] for trial in pruned)


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (RecipeError("simple_cnn: the loss is not finite since training step 7. Lower it."), "the loss is not finite"),
        (RecipeError("simple_cnn: there is not enough memory for batches of 64 images."), "not enough memory"),
        (MemoryError(), "MemoryError"),
    ],
)
def test_training_that_fails_ends_one_trial(make_plan, fake_fit, error, message):
    def curve(recipe, epoch):
        if len(fake_fit.recipes) == 2 and epoch == 3:
            raise error
        return 0.5

    fake_fit.curve = curve
    study = search(make_plan(trials=4), NOTHING)
    assert states(study) == ["complete", "failed", "complete", "complete"]
    failed = study.results()[1]
    assert message in failed.message
    assert len(failed.val_accuracies) == 2


def test_inconsistent_recipe_ends_one_trial(make_plan, fake_fit):
    space = {"mixup": {"low": 0.0, "high": 1.0}, "cutmix": {"low": 0.0, "high": 1.0}}
    study = search(make_plan(space, trials=3), NOTHING)
    assert states(study) == ["complete", "failed", "failed"]
    assert study.results()[1].message.startswith("mixup and cutmix cannot be combined")


def test_mistake_of_the_user_ends_the_search_and_the_trial_can_be_resumed(make_plan, fake_fit):
    def curve(recipe, epoch):
        raise InputError("its checkpoint was computed in bfloat16")

    works, fake_fit.curve = fake_fit.curve, curve
    with pytest.raises(InputError, match="bfloat16"):
        search(make_plan(trials=2), NOTHING)
    fake_fit.curve = works
    assert states(search(make_plan(trials=2), NOTHING)) == ["complete"] * 2


def test_process_that_dies_after_it_has_stored_its_result_is_not_noted(make_plan, fake_fit):
    plan = make_plan(trials=1)
    study = search(plan, NOTHING)
    study.note_death(0)
    assert states(study) == ["complete"]


def test_trial_whose_processes_die_by_themselves_fails_in_the_end(make_plan, fake_fit):
    plan = make_plan(trials=2)
    for _ in range(MAX_DEATHS):
        study = Study(plan)
        with study.claim() as claimed:
            assert claimed.number == 0
        study.note_death(0)
    study = search(plan, NOTHING)
    assert states(study) == ["failed", "complete"]
    assert "ended by the system 3 times, most likely for lack of memory" in study.results()[0].message


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"recipe": {"epochs": 5}}, r"another recipe \(epochs 4 -> 5\)\."),
        ({"data version": "b"}, r"another data version\."),
        ({"fidelity": {"epochs": 2}}, r"another fidelity \(epochs default -> 2\)\."),
        ({"space": {"shift": {"low": 0}}}, r"another space \(shift default -> "),
    ],
)
def test_study_of_another_question_is_refused(make_plan, change, message):
    question = {"recipe": {"epochs": 4}, "data version": "a", "fidelity": {}, "space": {}}
    Study(make_plan())
    with pytest.raises(InputError, match=rf"^The study in .*study is of {message}") as error:
        Study(make_plan(question={**question, **change}))
    assert "\n" not in str(error.value)


def test_folder_that_cannot_be_reached_is_refused(make_plan, tmp_path):
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(InputError, match=r"file/study could not be written: Not a directory"):
        Study(make_plan(folder=tmp_path / "file/study"))


def test_options_that_only_some_trials_have_are_important_too(make_plan):
    study = Study(make_plan())
    for number in range(20):
        params = dict.fromkeys(["learning_rate", "momentum"] if number % 2 else ["learning_rate"], number / 20)
        distributions = dict.fromkeys(params, optuna.distributions.FloatDistribution(0, 1))
        study.study.add_trial(optuna.create_trial(params=params, distributions=distributions, value=number / 20))
    assert set(study.importance()) == {"learning_rate", "momentum"}
