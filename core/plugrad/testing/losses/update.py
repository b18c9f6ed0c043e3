"""One update of a small model with a loss: by the trainer on any number of ranks, and by the formula alone."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from plugrad.config.run_file import RunFile
from plugrad.contracts.loss import OF_SEQUENCES, BatchLossInputs
from plugrad.contracts.needs import OF_CRITIC
from plugrad.contracts.rollout import Rollout
from plugrad.hookspecs import hookimpl
from plugrad.host.loss import BoundLoss, compute_loss, sum_rows
from plugrad.host.synthetic import make_rollout, map_tensors
from plugrad.host.trial import random_state_of
from plugrad.policy.critic import Critic, ValueHead
from plugrad.policy.divergences import compared_scores_from_logits
from plugrad.policy.more_passes import MorePasses
from plugrad.policy.policy import Policy
from plugrad.policy.reductions import Counts, count_rows, row_weights
from plugrad.policy.scored import Scored, Wanted, at_counted
from plugrad.policy.shifts import width_of
from plugrad.testing.hosting import hooks_around
from plugrad.testing.losses.loss_trial import LossTrial
from plugrad.testing.losses.rank_task import Update
from plugrad.testing.models import tiny_model, tiny_tokenizer
from plugrad.testing.trial_examples import trial_example
from plugrad.trainer.update.made_parameters import make_parameters
from plugrad.trainer.update.slopes import seed_of_mixing

NUM_GROUPS, GROUP_SIZE, LONGEST = 3, 2, 8
SEEDS = {"policy": 0, "reference": 1, "teacher": 2}
RUN = RunFile.model_validate(
    {
        "max_steps": 1,
        "model": {"from_scratch": {"model_type": "qwen3"}},
        "environment": {"name": "arithmetic"},
        # No clipping: the whole gradient is compared.
        "optimizer": {"max_grad_norm": 1e12},
        "critic": {},
    }
)


def recorded_groups() -> list[list[Rollout]]:
    """Return groups of rollouts of unequal length, the same in every process."""
    draw = random.Random(0)
    return [[_rollout(draw, group) for _ in range(GROUP_SIZE)] for group in range(NUM_GROUPS)]


def update_by_hand(loss: LossTrial) -> Update:
    """Compute sum_s w_s loss_s and its gradient, without micro-batches or ranks: one sequence at a time, or all at once."""
    groups = recorded_groups()
    rollouts = [(group, member, rollout) for group, members in enumerate(groups) for member, rollout in enumerate(members)]
    lengths = [len(rollout["completion_ids"]) for *_, rollout in rollouts]
    rows = count_rows(lengths, [(group, member) for group, member, _ in rollouts])
    weights = row_weights(loss.facts.reduction, rows, Counts(sum(lengths), len(rollouts), NUM_GROUPS, LONGEST))
    bound = loss.fresh()
    models = {name: _policy(seed) for name, seed in SEEDS.items()}
    if bound.needs & set(OF_CRITIC):
        models["policy"] = _policy(SEEDS["policy"], with_critic=True)
    own = make_parameters([bound], RUN, models["policy"].model)  # type: ignore[arg-type]
    of_loss = {name: parameter for part in own for name, parameter in part.own.named_parameters()} or None
    sequences = [replace(bound.view(_inputs(models, *rollout, bound)), parameters=of_loss) for rollout in rollouts]
    # As the trainer seeds it in the first update of a run whose seed is 0.
    with random_state_of(seed_of_mixing(0, 0, bound.label)):
        parts = [_together(sequences)] if loss.facts.whole_batch else sequences
        sums = torch.cat([sum_rows(compute_loss(bound, part), part.loss_mask) for part in parts])
    total = (weights * sums).sum()
    parameters = [*models["policy"].parameters(), *(p for part in own for p in part.parameters() if p.requires_grad)]
    found = torch.autograd.grad(total, parameters, allow_unused=True)
    gradient = [g if g is not None else torch.zeros_like(p) for g, p in zip(found, parameters, strict=True)]
    return Update(total.item(), torch.cat([part.flatten() for part in gradient]))


def update_by_trainer(loss: BoundLoss, edges: Sequence[int]) -> Update:
    """Run the trainer's update on this rank's groups, those between two of the `edges`; every rank calls it."""
    # Only here: these import Accelerate, and a process has one Accelerator.
    from plugrad.policy.loading import LoadedModel
    from plugrad.policy.micro_batches import Layout
    from plugrad.trainer.batch.cut import Cutting
    from plugrad.trainer.batch.sampler import RolloutBatch
    from plugrad.trainer.ranks.accelerate_config import make_accelerator
    from plugrad.trainer.ranks.ranks import Ranks
    from plugrad.trainer.update.learner import make_learner
    from plugrad.trainer.update.run_progress import Progress
    from plugrad.trainer.update.run_updates import run_updates
    from plugrad.trainer.update.teaching import Teachers

    accelerator = make_accelerator()
    ranks = Ranks.of(accelerator)
    loaded = LoadedModel(tiny_model(SEEDS["policy"], dtype="float64"), tiny_tokenizer())
    frozen = {"ref_logprobs": _policy(SEEDS["reference"])}
    teachers = Teachers({"teacher": _policy(SEEDS["teacher"])})
    needs = loss.needs | {"entropy"}
    scores: dict[str, list[list[list[float]]]] = {}
    with_critic = bool(loss.needs & set(OF_CRITIC))
    run = RUN if with_critic else RUN.model_copy(update={"critic": None})
    learner = make_learner(run, loaded, frozen, [loss], teachers=teachers, needs=needs, accelerator=accelerator, ranks=ranks)
    share = slice(edges[ranks.index], edges[ranks.index + 1])
    groups = recorded_groups()[share]
    advantages = [[_advantages(rollout) for rollout in group] for group in groups]
    rewards = [[rollout["reward"] for rollout in group] for group in groups]
    if with_critic:
        scores["values"] = [[[0.0] * (len(_advantages(rollout)) + 1) for rollout in group] for group in groups]
    batch = RolloutBatch(
        groups,
        rewards=rewards,
        advantages=advantages,
        first_group=edges[ranks.index],
        scores=scores,
        returns=[[_returns(rollout) for rollout in group] for group in groups] if with_critic else None,
    )
    cutting = Cutting(RUN.updates_per_batch, LONGEST, Layout(4 * LONGEST, 0, torch.double))
    watch = _Watch(learner.own)
    with random_state_of(0):
        [outcome] = run_updates(learner, batch, cutting, hooks_around(watch), Progress(0, RUN.max_steps))
    return Update(outcome.measures["loss"].value(), watch.gradient)


class _Watch:
    """An extension that keeps the gradient of an update."""

    def __init__(self, model: nn.Module) -> None:
        self._model = model
        self.gradient = torch.empty(0)

    @hookimpl
    def before_update(self) -> None:
        parameters = [parameter for parameter in self._model.parameters() if parameter.requires_grad]
        self.gradient = torch.cat([p.grad.flatten() if p.grad is not None else p.new_zeros(p.numel()) for p in parameters])


def _together(sequences: Sequence[BatchLossInputs]) -> BatchLossInputs:
    """Return sequences below one another, padded to the longest."""
    width = max(inputs.loss_mask.shape[1] for inputs in sequences)

    def joined(name: str, _: Tensor) -> Tensor:
        parts = [getattr(inputs, name) for inputs in sequences]
        if name not in OF_SEQUENCES:
            parts = [pad(part, (0, 0) * (part.ndim - 2) + (0, width - part.shape[1])) for part in parts]
        return torch.cat(parts)

    metadata = [example for inputs in sequences for example in inputs.metadata or []]
    return replace(map_tensors(sequences[0], joined), metadata=metadata)


def _policy(seed: int, *, with_critic: bool = False) -> Policy:
    model = tiny_model(seed, dtype="float64")
    critic = Critic(ValueHead(model.config.hidden_size, torch.double)) if with_critic else None
    return Policy(model, temperature=1.0, critic=critic)


def _rollout(draw: random.Random, group: int) -> Rollout:
    return make_rollout(
        draw,
        length=draw.randint(1, LONGEST),
        prompt_length=2 + group,
        logprobs=(-5, -4),
        reward=draw.uniform(-1, 1),
        example=trial_example(example_id=group),
    )


def _advantages(rollout: Rollout) -> list[float]:
    return [rollout["reward"]] * len(rollout["completion_ids"])


def _returns(rollout: Rollout) -> list[float]:
    return [rollout["reward"] + 0.1 * place for place in range(len(rollout["completion_ids"]))]


def _passes(policy: Policy, ids: Tensor, mask: Tensor, num: int) -> MorePasses:
    further = Wanted(entropy="gradient", further=True)
    width = width_of(policy.model)
    return MorePasses(policy, ids, torch.ones_like(mask), mask, further, num=num, width=width, dtype=torch.double)


def _inputs(models: dict[str, Policy], group: int, member: int, rollout: Rollout, loss: BoundLoss) -> BatchLossInputs:
    """Return one sequence as a micro-batch, as in the trainer's first update."""
    prompt, completion = rollout["prompt_ids"], rollout["completion_ids"]
    assert rollout["inference_logprobs"] is not None
    ids = torch.tensor([[*prompt, *completion]])
    mask = torch.tensor([[False] * len(prompt) + [True] * len(completion)])
    of_policy = ("logits", "hidden_states", "embedding", "values")
    given: dict[str, Any] = {need: True for need in of_policy if need in loss.needs}
    given["logits"] = given.get("logits", False) or loss.divergence is not None
    passes = _passes(models["policy"], ids, mask, loss.passes)
    scored: Scored = passes.first(Wanted(entropy="gradient", **given))
    with torch.no_grad():
        frozen: dict[str, Any] = {
            f"{short}_logprobs": models[name](ids, torch.ones_like(mask), mask).logprobs
            for name, short in (("reference", "ref"), ("teacher", "teacher"))
        }
        theirs = models["teacher"](ids, torch.ones_like(mask), mask, Wanted(logits=True)).logits
    if loss.divergence is not None:
        # From whole logits, which the trainer never makes.
        assert scored.logits is not None
        assert theirs is not None
        compared = compared_scores_from_logits(
            scored.logits[mask], ids[mask], theirs[mask], [loss.divergence], temperature=1.0, entropy="none"
        )
        frozen["teacher_divergence"] = at_counted(compared.divergences[0], mask)
    zeros = [0.0] * len(prompt)
    return BatchLossInputs(
        trainer_logprobs=scored.logprobs,
        inference_logprobs=torch.tensor([zeros + rollout["inference_logprobs"]], dtype=torch.double),
        advantages=torch.tensor([zeros + _advantages(rollout)], dtype=torch.double),
        loss_mask=mask,
        old_logprobs=scored.logprobs.detach(),
        entropy=scored.entropy,
        logits=scored.logits,
        hidden_states=scored.hidden_states,
        embedding=scored.embedding,
        values=scored.values,
        old_values=None if scored.values is None else scored.values.detach(),
        returns=torch.tensor([zeros + _returns(rollout)], dtype=torch.double),
        teacher_logits=theirs,
        input_ids=ids,
        reward=torch.tensor([rollout["reward"]], dtype=torch.double),
        group_ids=torch.tensor([group]),
        member=torch.tensor([member]),
        metadata=[rollout["example"]],
        again=passes.again if passes.num > 1 else None,
        sensitivity=passes.sensitivity if passes.num > 1 else None,
        **frozen,
    )
