"""Pre-flight: call fresh instances of every selected component on a tiny batch, before a model is loaded.

A wrong return shape or a typo then costs a second and not a rollout.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace

import torch

from plugrad.contracts.advantage import AdvantageInputs, AdvantageOutputs
from plugrad.contracts.environment import Example
from plugrad.contracts.loss import BatchLossInputs, LossOutputs
from plugrad.contracts.measures import as_measure
from plugrad.contracts.metric import MetricInputs
from plugrad.contracts.rollout import Rollout
from plugrad.errors import ContractError, PlugradError
from plugrad.host.advantage import compute_advantages
from plugrad.host.calling import call_plugin
from plugrad.host.environment import BoundEnvironment
from plugrad.host.hooks import Host
from plugrad.host.loss import BoundLoss, compute_loss, sum_rows
from plugrad.host.metric import BoundMetric, compute_metric
from plugrad.host.select import Selection
from plugrad.registry.bind import Component
from plugrad.registry.manager import build_manager

logger = logging.getLogger("plugrad")

NUM_EXAMPLES = 2
PROMPT_LENGTH = 2


def preflight(selection: Selection, environment: BoundEnvironment, rollouts_per_example: int) -> None:
    """Try every component on two examples, and put the random state back.

    Raises:
        PlugradError: a component raised or returned what its contract forbids.
    """
    with _random_state_put_back():
        examples = environment.train_examples()
        groups = [
            [_rollout(examples[i % len(examples)], i, j) for j in range(rollouts_per_example)] for i in range(NUM_EXAMPLES)
        ]
        environment.score([rollout for group in groups for rollout in group])
        inputs = AdvantageInputs(rollouts=groups)
        compute_advantages(selection.advantage.fresh(), inputs)
        batch = _loss_inputs(groups)
        for loss in selection.losses:
            _try_loss(loss.fresh(), batch)
        metric_inputs = _metric_inputs(groups, batch)
        for metric in selection.metrics:
            _try_metric(metric, metric_inputs)
        for component in selection.extensions:
            _try_extension(component, selection, inputs, batch, metric_inputs)


def _try_metric(metric: BoundMetric, inputs: MetricInputs) -> None:
    try:
        compute_metric(metric.fresh(), inputs)
    except PlugradError as error:
        if metric.is_listed:
            raise
        logger.warning("%s; it is switched off", error)
        metric.switch_off()


def _try_extension(
    component: Component,
    selection: Selection,
    advantage_inputs: AdvantageInputs,
    batch: BatchLossInputs,
    metric_inputs: MetricInputs,
) -> None:
    """Call every hook that an update calls, with this extension alone around core: what fails is then its own."""
    host = Host(selection.advantage.fresh(), [])
    hook = build_manager(host, [(component, component.create())]).hook

    def call_hooks() -> None:
        prepared = hook.prepare_advantages(inputs=advantage_inputs)
        _check_returned(component, "prepare_advantages", prepared, AdvantageInputs)
        _check_returned(component, "compute_advantages", hook.compute_advantages(inputs=prepared), AdvantageOutputs)
        for loss in (loss.fresh() for loss in selection.losses):
            inputs = hook.prepare_loss(component=loss, inputs=loss.view(batch))
            _check_returned(component, "prepare_loss", inputs, BatchLossInputs)
            _check_returned(component, "compute_loss", hook.compute_loss(component=loss, inputs=inputs), LossOutputs)
        _check_returned(component, "compute_metrics", hook.compute_metrics(inputs=metric_inputs), Mapping)
        hook.before_update(grad_norm=1.0, loss=1.0)

    call_plugin(str(component), call_hooks)


def _check_returned(component: Component, hook: str, returned: object, wanted: type) -> None:
    if not isinstance(returned, wanted):
        raise ContractError(
            f"{component}: its {hook} returned {type(returned).__name__}, which must be {wanted.__name__}. A wrapper "
            "returns what it was given by `yield`, changed or not."
        )


def _try_loss(loss: BoundLoss, batch: BatchLossInputs) -> None:
    leaf = batch.trainer_logprobs.detach().requires_grad_()
    entropy = batch.entropy.detach().requires_grad_() if batch.entropy is not None else None
    inputs = loss.view(replace(batch, trainer_logprobs=leaf, entropy=entropy))
    outputs = compute_loss(loss, inputs)
    total = sum_rows(outputs, batch.loss_mask).sum()
    if not total.requires_grad:
        raise ContractError(
            f"{loss.component} returned a loss without gradient. Compute it from inputs.trainer_logprobs (or "
            "inputs.entropy) without detach() and outside torch.no_grad()."
        )
    if not bool(torch.isfinite(total)):
        raise ContractError(f"{loss.component} returned {total.item()} for ordinary log-probs between -2 and 0.")
    total.backward()
    gradients = [wanted.grad for wanted in (leaf, entropy) if wanted is not None and wanted.grad is not None]
    if not all(bool(torch.isfinite(gradient).all()) for gradient in gradients):
        raise ContractError(
            f"{loss.component} has a gradient that is not finite for ordinary log-probs between -2 and 0. Look for a "
            "division by zero or torch.where over a branch that is not finite, also where the ratio is exactly 1."
        )
    for name, value in outputs.metrics.items():
        try:
            as_measure(value, num_sequences=1)
        except TypeError as error:
            raise ContractError(f"{loss.component} returned the metric {name!r}: {error}.") from error


def _rollout(example: Example, i: int, j: int) -> Rollout:
    length = 1 + (i + 2 * j) % 5
    return Rollout(
        prompt=str(example["prompt"]),
        completion=str(example.get("reference", "")),
        prompt_ids=[0] * PROMPT_LENGTH,
        completion_ids=[0] * length,
        inference_logprobs=(-2 * torch.rand(length)).tolist(),
        reward=float("nan"),
        reward_components={},
        truncated=False,
        example=example,
        metrics={},
        policy_versions=[0] * length,
    )


def _loss_inputs(groups: list[list[Rollout]]) -> BatchLossInputs:
    rollouts = [rollout for group in groups for rollout in group]
    lengths = torch.tensor([PROMPT_LENGTH + len(rollout["completion_ids"]) for rollout in rollouts])
    positions = torch.arange(int(lengths.max()))
    mask = (positions >= PROMPT_LENGTH) & (positions < lengths.unsqueeze(1))

    def logprobs() -> torch.Tensor:
        return torch.where(mask, -2 * torch.rand(mask.shape), 0.0)

    trainer_logprobs = logprobs()
    # The first row is on-policy, as every row is in a run's first update.
    old_logprobs, inference_logprobs = logprobs(), logprobs()
    old_logprobs[0] = inference_logprobs[0] = trainer_logprobs[0]
    return BatchLossInputs(
        trainer_logprobs=trainer_logprobs,
        inference_logprobs=inference_logprobs,
        teacher_logprobs=logprobs(),
        advantages=torch.where(mask, torch.randn(len(rollouts), 1), 0.0),
        loss_mask=mask,
        old_logprobs=old_logprobs,
        ref_logprobs=logprobs(),
        entropy=torch.where(mask, 2 * torch.rand(mask.shape), 0.0),
        input_ids=torch.zeros(mask.shape, dtype=torch.long),
        reward=torch.tensor([rollout["reward"] for rollout in rollouts]),
        group_ids=torch.tensor([i for i, group in enumerate(groups) for _ in group]),
        metadata=[rollout["example"] for rollout in rollouts],
    )


def _metric_inputs(groups: list[list[Rollout]], batch: BatchLossInputs) -> MetricInputs:
    assert batch.reward is not None
    assert batch.group_ids is not None
    return MetricInputs(
        rollouts=groups,
        rewards=batch.reward,
        advantages=batch.advantages,
        loss_mask=batch.loss_mask,
        trainer_logprobs=batch.trainer_logprobs,
        inference_logprobs=batch.inference_logprobs,
        group_ids=batch.group_ids,
        entropy=batch.entropy,
        old_logprobs=batch.old_logprobs,
        ref_logprobs=batch.ref_logprobs,
    )


@contextmanager
def _random_state_put_back() -> Iterator[None]:
    state = random.getstate()
    try:
        with torch.random.fork_rng():
            torch.manual_seed(0)
            yield
    finally:
        random.setstate(state)
