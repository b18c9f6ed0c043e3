"""Pre-flight: try fresh instances of every selected component on a tiny batch before a model loads.

A wrong return shape or a typo then costs a second, not a rollout.
"""

from __future__ import annotations

import logging
from collections.abc import Collection
from contextlib import nullcontext
from dataclasses import dataclass, replace

import torch

from plugrad.contracts.advantage import AdvantageInputs
from plugrad.contracts.loss import BatchLossInputs, LossOutputs
from plugrad.contracts.measures import Measures
from plugrad.contracts.metric import MetricInputs
from plugrad.contracts.model_sizes import ModelSizes
from plugrad.contracts.rollout import Rollout
from plugrad.errors import ContractError, PlugradError
from plugrad.host.advantage import compute_advantages, with_prepared_rewards
from plugrad.host.calling import blaming, no_gradient
from plugrad.host.environment import BoundEnvironment
from plugrad.host.hooks import Hooks, Host
from plugrad.host.loss import BoundLoss, compute_loss, keep_rows, sum_rows
from plugrad.host.made_up import HIDDEN, with_made_up_outputs
from plugrad.host.metric import BoundMetric, compute_metric
from plugrad.host.own_parameters import check_graph_ends_at_inputs
from plugrad.host.provided import check_returns_given
from plugrad.host.reported import add_metrics, warn_of_nan
from plugrad.host.select import Selection
from plugrad.host.state_trial import trying_state
from plugrad.host.synthetic import in_dtype, loss_inputs, metric_inputs, scores_of
from plugrad.host.trained_module import check_parameters_are_used, trial_parameters
from plugrad.host.trial import on_trial, random_state_of
from plugrad.host.trial_rollouts import LIMIT_S, LOWEST, scored_on_trial
from plugrad.host.trial_texts import MADE_UP_TEXTS, TrialTexts, saying_it_is_a_trial
from plugrad.host.watched_inputs import Watch
from plugrad.registry.bind import Component
from plugrad.registry.left_threads import leaving_no_thread

logger = logging.getLogger("plugrad")

SHARED = (
    "advantages",
    "loss_mask",
    "trainer_logprobs",
    "inference_logprobs",
    "entropy",
    "old_logprobs",
    "ref_logprobs",
    "old_values",
    "returns",
)
"""The fields that loss inputs and metric inputs share."""
MOST_LOGITS = 2**24
"""The trial makes up no more logits than this: vocabularies may be large."""


@dataclass(frozen=True)
class _TinyBatch:
    """The inputs of the trial."""

    groups: list[list[Rollout]]
    advantage: AdvantageInputs
    loss: BatchLossInputs
    metric: MetricInputs
    vocabulary: int


def preflight(
    selection: Selection,
    environment: BoundEnvironment,
    rollouts_per_example: int,
    limit_s: float = LIMIT_S,
    texts: TrialTexts = MADE_UP_TEXTS,
) -> None:
    """Try every component on two examples, each for at most `limit_s` seconds. The random state is restored afterwards.

    Raises:
        PlugradError: a component raised, hung, changed its inputs, or returned something that its contract forbids.
    """
    with random_state_of(0), saying_it_is_a_trial(texts):
        groups = scored_on_trial(environment, environment.train_examples(), rollouts_per_example, limit_s, texts)
        batch = _tiny_batch(groups, selection.advantage.needs, texts.vocabulary)
        advantage = selection.advantage.fresh()
        with on_trial(str(advantage.component), batch.advantage, limit_s), trying_state(advantage.component, advantage.call):
            outputs = compute_advantages(advantage, batch.advantage)
        check_returns_given(selection, outputs)
        for loss in selection.losses:
            _try_loss(loss, batch, limit_s)
        for metric in selection.metrics:
            _try_metric(metric, batch.metric, limit_s)
        for component in selection.extensions:
            _try_extension(component, selection, batch, limit_s)


def _try_metric(metric: BoundMetric, inputs: MetricInputs, limit_s: float) -> None:
    owner = str(metric.component)
    try:
        with nullcontext() if metric.is_listed else leaving_no_thread(owner), on_trial(owner, inputs, limit_s):
            fresh = metric.relabelled(metric.label, watch := Watch())
            with trying_state(metric.component, fresh.call):
                compute_metric(fresh, inputs)
            metric.reads = frozenset(watch.noted)
    except PlugradError as error:
        if metric.is_listed:
            raise
        logger.warning("%s; it is switched off", error)
        metric.switch_off()


def _try_extension(component: Component, selection: Selection, batch: _TinyBatch, limit_s: float) -> None:
    """Call every hook of an update with this extension alone, so that any failure is its own."""
    owner = str(component)
    with on_trial(owner, [batch.advantage, batch.loss, batch.metric], limit_s):
        extension = component.create()
        hooks = Hooks(Host(selection.advantage.fresh(), []), [(component, extension)])
        with trying_state(component, extension):
            _call_hooks(owner, hooks, selection, batch)


def _call_hooks(owner: str, hooks: Hooks, selection: Selection, batch: _TinyBatch) -> None:
    """Call the hooks of an update, in their order in a step."""
    prepared = with_prepared_rewards(hooks.prepare_advantages(batch.advantage))
    hooks.compute_advantages(prepared)
    for loss in (loss.fresh() for loss in selection.losses):
        inputs = _inputs_of(loss, batch)
        prepared_inputs = hooks.prepare_loss(loss, inputs)
        hooks.check_prepared(prepared_inputs, inputs)
        outputs = hooks.compute_loss(loss, prepared_inputs)
        _check_gradient(owner, prepared_inputs, outputs)
    hooks.before_update(grad_norm=1.0, loss=1.0)
    hooks.compute_metrics(batch.metric)


def _try_loss(loss: BoundLoss, batch: _TinyBatch, limit_s: float) -> None:
    owner = str(loss.component)
    fresh = loss.fresh()
    with on_trial(owner, [], limit_s):
        inputs = _inputs_of(fresh, batch)
    with trying_state(loss.component, fresh.instance):
        _call_loss(owner, fresh, inputs, batch, limit_s)


def _call_loss(owner: str, fresh: BoundLoss, inputs: BatchLossInputs, batch: _TinyBatch, limit_s: float) -> None:
    """Call it twice, and tell it of an update."""
    with on_trial(owner, batch.loss, limit_s):
        with random_state_of(0):
            outputs = compute_loss(fresh, inputs)
        # A sensitivity is a gradient.
        with torch.set_grad_enabled(fresh.passes > 1), random_state_of(0):
            again = compute_loss(fresh, inputs)
    check_graph_ends_at_inputs(owner, fresh.instance, outputs.loss, inputs)
    _check_gradient(owner, inputs, outputs)
    check_parameters_are_used(owner, inputs.parameters)
    if not torch.equal(again.loss, outputs.loss):
        raise ContractError(
            f"{owner} gives other values when it is called again with the same inputs. It is called once per micro-batch on "
            "every rank, so what a call changes would depend on the cut and on the number of ranks. Change state in "
            "after_update(measures) alone: docs/write/loss.md."
        )
    measures = Measures()
    with blaming(owner):
        add_metrics(measures, outputs.metrics, len(inputs.loss_mask), f"{owner} returned", noun="the metric ")
    warn_of_nan(owner, measures)
    with on_trial(owner, [], limit_s):
        fresh.after_update({**measures.values_by_name(), "loss": float(outputs.loss.detach().sum())})


def _inputs_of(loss: BoundLoss, batch: _TinyBatch) -> BatchLossInputs:
    """Return what a loss gets of the tiny batch, with the parameters that it makes now."""
    seen = loss.view(_with_leaves(batch, loss))
    if not loss.trains:
        return seen
    sizes = ModelSizes(HIDDEN, batch.vocabulary, torch.float32)
    return replace(seen, parameters=trial_parameters(loss.component, loss.instance, sizes))


def _with_leaves(tiny: _TinyBatch, loss: BoundLoss) -> BatchLossInputs:
    """Make the policy's outputs leaves, so that the gradients that reach them can be checked."""
    batch = _few_rows(tiny) if "logits" in loss.needs else tiny.loss
    entropy = batch.entropy.detach().requires_grad_() if batch.entropy is not None else None
    leaves = replace(batch, trainer_logprobs=batch.trainer_logprobs.detach().requires_grad_(), entropy=entropy)
    return with_made_up_outputs(leaves, loss.needs, tiny.vocabulary)


def _few_rows(tiny: _TinyBatch) -> BatchLossInputs:
    """Return so many rows that their logits fit `MOST_LOGITS`, two at least."""
    batch, seq = tiny.loss.loss_mask.shape
    return keep_rows(tiny.loss, torch.arange(batch) < max(2, MOST_LOGITS // (seq * tiny.vocabulary)))


def _check_gradient(owner: str, inputs: BatchLossInputs, outputs: LossOutputs) -> None:
    given = [inputs.trainer_logprobs, inputs.entropy, *(inputs.parameters or {}).values()]
    leaves = [leaf for leaf in given if leaf is not None and leaf.is_leaf]
    total = sum_rows(outputs, inputs.loss_mask).sum()
    if not total.requires_grad:
        raise ContractError(
            f"{owner} returned a loss without gradient. Compute it from inputs.trainer_logprobs (or "
            "inputs.entropy) without detach() and outside torch.no_grad()."
        )
    if not bool(torch.isfinite(total)):
        raise ContractError(f"{owner} returned {total.item()} for ordinary log-probs between {LOWEST:g} and 0.")
    try:
        total.backward()
    except RuntimeError as error:
        raise no_gradient(owner, error) from error
    if not all(bool(torch.isfinite(leaf.grad).all()) for leaf in leaves if leaf.grad is not None):
        raise ContractError(
            f"{owner} has a gradient that is not finite for ordinary log-probs between {LOWEST:g} and 0. Look for a "
            "division by zero, also at a ratio of exactly 1, and for torch.where over a branch that is not finite."
        )


def _tiny_batch(groups: list[list[Rollout]], advantage_needs: Collection[str], vocabulary: int) -> _TinyBatch:
    greedy = torch.rand(len(groups), dtype=torch.double) if "greedy_rewards" in advantage_needs else None
    advantage = AdvantageInputs(rollouts=groups, greedy_rewards=greedy, **scores_of(groups, advantage_needs))
    loss = _loss_inputs(groups, vocabulary)
    shared = {name: getattr(loss, name) for name in SHARED}
    metric = in_dtype(metric_inputs(groups, policy_version=0, **shared), torch.float32)
    return _TinyBatch(groups, advantage, loss, metric, vocabulary)


def _loss_inputs(groups: list[list[Rollout]], vocabulary: int) -> BatchLossInputs:
    rollouts = [rollout for group in groups for rollout in group]
    inputs = loss_inputs(
        [len(rollout["completion_ids"]) for rollout in rollouts],
        lowest=LOWEST,
        drift=None,
        vocabulary=vocabulary,
        reward=torch.tensor([rollout["reward"] for rollout in rollouts]),
        group_ids=torch.tensor([i for i, group in enumerate(groups) for _ in group]),
        member=torch.tensor([j for group in groups for j, _ in enumerate(group)]),
        metadata=[rollout["example"] for rollout in rollouts],
    )
    assert inputs.old_logprobs is not None
    # The first row is on-policy, like every row in the first update of a run.
    inputs.old_logprobs[0] = inputs.inference_logprobs[0] = inputs.trainer_logprobs[0]
    # One per rollout, as most advantages are.
    advantages = torch.randn(len(rollouts), 1) * inputs.loss_mask
    return in_dtype(replace(inputs, advantages=advantages), torch.float32)
