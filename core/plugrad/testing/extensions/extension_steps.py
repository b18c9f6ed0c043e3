"""The promise about an extension's state: steps before a checkpoint and after it, with every hook of a step."""

from __future__ import annotations

import math
from contextlib import suppress

from plugrad.errors import PlugradError
from plugrad.host.trial import random_state_of
from plugrad.testing.advantages.trial_groups import draw_groups
from plugrad.testing.checks import Promise
from plugrad.testing.extensions.extension_trial import ExtensionTrial, Hosted
from plugrad.testing.extensions.runs import silence_logging
from plugrad.testing.metrics.trial_shares import draw_batch
from plugrad.testing.numbers import Numbers
from plugrad.testing.state import check_resumes, resumes_promise

UPDATES_SEEN = ((1.0, 0.5), (math.nan, math.nan), (math.nan, math.nan), (1.0, 0.5))
"""Gradient norm and loss of each step. The checkpoint is between two that are not finite."""
MEASURED = "the metric "


def _check_resumes(extension: ExtensionTrial) -> str:
    return check_resumes(
        extension.component,
        extension.fresh,
        lambda hosted: hosted.instance,
        lambda hosted, step: _step(extension, hosted, step),
        # It may measure times.
        may_vary=lambda name: name.startswith(MEASURED),
    )


def _step(extension: ExtensionTrial, hosted: Hosted, step: int) -> Numbers:
    """Call the hooks of a step in their order, and return the numbers that they change."""
    rewards = extension.rewards(draw_groups(seed=step), hosted, seed=step)
    tokens = extension.batch(step, hosted, seed=step)
    with random_state_of(step), silence_logging():
        decision = _decide(hosted, step)
        measures = hosted.hooks.compute_metrics(draw_batch(seed=step)).values_by_name()
        if "on_run_start" not in extension.implemented():
            # It may look for a measure that only a run has.
            with suppress(PlugradError):
                hosted.hooks.on_step_end(step + 1, {**measures, "loss": UPDATES_SEEN[step][1]})
    measured = {f"{MEASURED}{name!r}": value for name, value in measures.items()}
    return {**rewards, **tokens, "whether the update happens": decision, **measured}


def _decide(hosted: Hosted, step: int) -> float:
    """Return 1 for an update, 0 for a veto, and NaN where the run stops."""
    grad_norm, loss = UPDATES_SEEN[step]
    try:
        return float(hosted.hooks.before_update(grad_norm, loss))
    except PlugradError:
        return math.nan


RESUMES: Promise[ExtensionTrial] = resumes_promise(_check_resumes)
