"""The plugins of a run, selected and tried: what `train` and `compare` both check first."""

from __future__ import annotations

from collections.abc import Callable

from plugrad.config.run_file import RunFile
from plugrad.host.environment import BoundEnvironment
from plugrad.host.optimizer_trial import try_optimizer
from plugrad.host.preflight import preflight
from plugrad.host.read_examples import check_read_examples
from plugrad.host.select import Selection, select
from plugrad.registry.bind import Component
from plugrad.rollout.prompts import reference_texts
from plugrad.trainer.batch.amounts import check_amounts
from plugrad.trainer.chosen_examples import check_chosen_examples
from plugrad.trainer.taught_examples import check_taught_examples
from plugrad.trainer.texts_for_trial import trial_texts
from plugrad.trainer.update.lr_schedule import check_lr_schedule


def check_plugins(
    run_file: RunFile, environment_of: Callable[[Component], BoundEnvironment] = BoundEnvironment.create
) -> tuple[Selection, BoundEnvironment]:
    """Select every component of a run, read the examples, and try them all on a tiny batch.

    Args:
        run_file: the run.
        environment_of: gives the environment; several runs with the same one can read its examples once.

    Raises:
        PlugradError: a plugin, an option, the optimizer or an example cannot be used, a reference is missing, or a step is
            larger than the examples allow.
    """
    selection = select(run_file)
    try_optimizer(selection.optimizer, run_file.preflight_timeout_s)
    check_lr_schedule(run_file.optimizer, run_file.max_steps * run_file.updates_per_batch)
    environment = environment_of(selection.environment)
    check_amounts(run_file, environment)
    check_chosen_examples(selection.losses, environment)
    check_taught_examples(selection, run_file.model, environment)
    check_read_examples(selection.losses, environment.train_examples())
    if not run_file.rollout.engine_kind.samples:
        for example in environment.train_examples():
            reference_texts(example, run_file.rollout.rollouts_per_example)
    texts = trial_texts(run_file, environment)
    preflight(selection, environment, run_file.rollout.rollouts_per_example, run_file.preflight_timeout_s, texts)
    return selection, environment
