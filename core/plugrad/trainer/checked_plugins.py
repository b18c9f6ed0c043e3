"""The plugins of a run, selected and tried: what `train` and `compare` both check first."""

from __future__ import annotations

from collections.abc import Callable

from plugrad.config.engine_kinds import engines_where
from plugrad.config.run_file import RunFile
from plugrad.errors import DataError, RunFileError
from plugrad.host.environment import BoundEnvironment, of_set
from plugrad.host.evaluation_metrics import chosen_metrics
from plugrad.host.optimizer_trial import try_optimizer
from plugrad.host.preflight import preflight
from plugrad.host.read_examples import check_read_examples
from plugrad.host.select import Selection, select
from plugrad.host.trial_rollouts import try_environment
from plugrad.registry.bind import Component
from plugrad.rollout.prompts import TEACHER_PROMPT, has_teacher_prompt, reference_texts
from plugrad.trainer.batch.amounts import check_amounts
from plugrad.trainer.checkpoints.best import check_best
from plugrad.trainer.chosen_examples import check_chosen_examples
from plugrad.trainer.held_out_sets import examples_of_set, held_out_of
from plugrad.trainer.taught_examples import check_taught_examples
from plugrad.trainer.texts_for_trial import trial_texts
from plugrad.trainer.update.lr_schedule import check_lr_schedule


def check_plugins(
    run_file: RunFile, environment_of: Callable[[Component], BoundEnvironment] = BoundEnvironment.create
) -> tuple[Selection, BoundEnvironment, dict[str, BoundEnvironment]]:
    """Select every component of a run, read the examples, and try them all on a tiny batch.

    It returns the environments of held-out sets, too, by the name of the set.

    Args:
        run_file: the run.
        environment_of: gives the environment; several runs with the same one can read its examples once.

    Raises:
        PlugradError: a plugin, an option, the optimizer or an example cannot be used, a reference is missing, a step is
            larger than the examples allow, or the run records no number by which the best checkpoint is to be kept.
    """
    selection = select(run_file)
    check_best(run_file.checkpoint.keep_best, selection)
    try_optimizer(selection.optimizer, run_file.preflight_timeout_s)
    check_lr_schedule(run_file.optimizer, run_file.max_steps * run_file.updates_per_batch)
    environment = environment_of(selection.environment)
    check_amounts(run_file, environment)
    check_chosen_examples(selection.losses, environment)
    check_taught_examples(selection, run_file.model, environment)
    check_read_examples(selection.losses, environment.train_examples())
    if not run_file.rollout.engine_kind.samples:
        _check_scores(run_file, environment)
        for example in environment.train_examples():
            reference_texts(example, run_file.rollout.rollouts_per_example)
    _check_teachers_read_turns(environment)
    of_sets = _environments_of_sets(selection)
    held_out_of(run_file, environment, of_sets)
    texts = trial_texts(run_file, environment, of_sets)
    preflight(selection, environment, run_file.rollout.rollouts_per_example, run_file.preflight_timeout_s, texts)
    for name, bound in of_sets.items():
        examples, num = examples_of_set(name, bound), run_file.evaluation.rollouts_per_example
        with of_set(name):
            try_environment(bound, examples, num, run_file.preflight_timeout_s, texts)
    # After the pre-flight, which sees what each metric reads.
    chosen_metrics(selection, run_file)
    return selection, environment, of_sets


def _check_scores(run_file: RunFile, environment: BoundEnvironment) -> None:
    if not environment.scores:
        raise RunFileError(
            f'rollout.engine = "{run_file.rollout.engine}" replays completions, and {environment.component} only plays: '
            f"what it would reply to them is not known. Give it a method score(rollouts) for them, or set rollout.engine = "
            f"{engines_where(lambda kind: kind.samples)}."
        )


def _check_teachers_read_turns(environment: BoundEnvironment) -> None:
    if environment.plays and any(has_teacher_prompt(example) for example in environment.train_examples()):
        raise DataError(
            f"examples of {environment.component} have the column '{TEACHER_PROMPT}', and it plays: each row of a play "
            "has a prompt of its own, so that no single one can take its place. Leave the column out, or score completions "
            "in place of playing."
        )


def _environments_of_sets(selection: Selection) -> dict[str, BoundEnvironment]:
    found = {}
    for name, component in selection.of_sets.items():
        with of_set(name):
            found[name] = BoundEnvironment.create(component)
    return found
