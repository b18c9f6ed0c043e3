"""The learner: the policy, the frozen models beside it, and the optimizer that updates it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from accelerate import Accelerator
from accelerate.utils import DistributedDataParallelKwargs, DistributedType
from torch import Tensor, nn
from torch.distributed.tensor import DTensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from plugrad.config.run_file import RunFile
from plugrad.errors import ModelError
from plugrad.host.loss import BoundLoss, num_passes
from plugrad.host.provided import TRAINED
from plugrad.policy.loading import LoadedModel
from plugrad.policy.neighbours import without_gradient
from plugrad.policy.policy import Policy
from plugrad.policy.routers import busiest_expert, ignored_router_loss
from plugrad.policy.scored import Wanted
from plugrad.policy.shifts import check_shifts
from plugrad.trainer.ranks.ranks import Ranks
from plugrad.trainer.update.lr_schedule import make_lr_schedule
from plugrad.trainer.update.made_critic import FOLDER, make_critic, save_critic
from plugrad.trainer.update.made_parameters import FOLDER as OF_LOSSES
from plugrad.trainer.update.made_parameters import make_parameters, save_parameters, whole_parameters
from plugrad.trainer.update.optimizer import make_optimizer
from plugrad.trainer.update.teaching import Teachers
from plugrad.trainer.update.whole_weights import WholeWeights, whole_state

logger = logging.getLogger("plugrad")


@dataclass(frozen=True)
class PolicyWeights:
    """A policy's weights by their Transformers names, tied ones included; iterate as often as you like."""

    model: PreTrainedModel

    def __iter__(self) -> Iterator[tuple[str, Tensor]]:
        """Gather each weight when its turn comes: the whole model never exists twice."""
        for name, weight in self.model.state_dict(keep_vars=True).items():
            whole = weight.full_tensor() if isinstance(weight, DTensor) else weight
            yield name, whole.detach()


@dataclass(frozen=True)
class Learner:
    """Everything that a step reads or changes."""

    accelerator: Accelerator
    ranks: Ranks
    policy: Policy
    """Wrapped by Accelerate where there are several ranks. Call it; for its own attributes, use `model`."""
    model: PreTrainedModel
    """The policy's Transformers model."""
    tokenizer: PreTrainedTokenizerBase
    losses: Sequence[BoundLoss]
    optimizer: Optimizer
    scheduler: LRScheduler
    max_grad_norm: float
    frozen: Mapping[str, Policy]
    """The models that stay fixed, but for teachers, by the field of the losses' inputs that each fills."""
    teachers: Teachers | None
    scores_first: frozenset[str]
    """What is computed of all rollouts before their advantages, by field of `AdvantageInputs`."""
    keeps_old: bool
    """Whether a separate forward pass computes the policy's log-probs before the first of several updates."""
    keeps_teacher: bool
    """Whether a forward pass computes the teacher's log-probs of the sampled tokens."""
    seed: int
    """Of the run."""
    wanted: Wanted
    """What each forward pass of the policy with gradient gives."""

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of log-probs and advantages: the model's, and at least float32."""
        return torch.promote_types(next(self.policy.parameters()).dtype, torch.float32)

    @property
    def computes_in(self) -> torch.dtype:
        """The dtype of the policy's matrix products: the model's, or autocast's."""
        return torch.bfloat16 if self.accelerator.mixed_precision == "bf16" else next(self.policy.parameters()).dtype

    @property
    def packs(self) -> bool:
        """Whether every model that scores a micro-batch skips its padding."""
        taught = self.teachers is None or self.teachers.packs
        return taught and all(policy.packs for policy in (self.own, *self.frozen.values()))

    @property
    def own(self) -> Policy:
        """The policy without what wraps it: for its attributes, not to be called."""
        own: Policy = self.accelerator.unwrap_model(self.policy)
        return own

    @property
    def lr(self) -> float:
        """The learning rate of the next update."""
        return float(self.scheduler.get_last_lr()[0])

    @property
    def weights(self) -> PolicyWeights:
        """The policy's weights, for an engine."""
        return PolicyWeights(self.model)

    @property
    def is_sharded(self) -> bool:
        """Whether each rank holds only a part of every weight."""
        return any(isinstance(parameter, DTensor) for parameter in self.policy.parameters())

    def router_balance(self) -> dict[str, float]:
        """Return the busiest expert's load in the passes since the last call, over all ranks; nothing without routers.

        Every rank calls it.
        """
        own = self.own
        counts, own.expert_counts = own.expert_counts, None
        if not own.counts_experts:
            return {}
        shares = self.ranks.gather(None if counts is None else counts.tolist())
        summed = sum(torch.tensor(share) for share in shares if share is not None)
        return {"router/busiest_expert": busiest_expert(summed)} if isinstance(summed, torch.Tensor) else {}

    def whole_weights(self) -> WholeWeights:
        """Return the weights of a sharded policy on the main rank's CPU, nothing on the others; every rank calls it."""
        own = self.own
        critic = None if own.critic is None else whole_state(own.critic)
        return WholeWeights(whole_state(self.model), critic, whole_parameters(own.trained))

    def save(self, path: Path, whole: WholeWeights | None = None) -> None:
        """Write a Transformers folder. Pass `whole` where this rank's models hold only a part of the weights."""
        self.model.save_pretrained(path, state_dict=whole and whole.model)
        self.tokenizer.save_pretrained(path)
        own = self.own
        if own.critic is not None:
            save_critic(own.critic, path / FOLDER, self.tokenizer, whole and whole.critic)
        save_parameters(own.trained, path / OF_LOSSES, whole and whole.trained)


Wrap = Callable[[Policy, Optimizer], tuple[Policy, Optimizer]]


def make_learner(
    run_file: RunFile,
    loaded: LoadedModel,
    frozen: Mapping[str, Policy],
    losses: Sequence[BoundLoss],
    *,
    teachers: Teachers | None = None,
    needs: frozenset[str],
    scores_first: frozenset[str] = frozenset(),
    accelerator: Accelerator,
    ranks: Ranks,
    wrap: Wrap | None = None,
) -> Learner:
    """Prepare the policy and its optimizer for the ranks, and fix what is constant over the run.

    Args:
        run_file: its `[optimizer]`, temperature and number of updates.
        loaded: the policy.
        frozen: from `load_frozen_models`.
        losses: in the order of the run file.
        teachers: from `load_teachers`.
        needs: the optional fields that any loss or metric reads.
        scores_first: what is computed of all rollouts before their advantages, by field of `AdvantageInputs`.
        accelerator: of this process.
        ranks: of the run.
        wrap: distributes policy and optimizer over the ranks; `accelerator.prepare` unless given.
    """
    policy = _make_policy(run_file, loaded, losses)
    wanted = wanted_by(losses, needs)
    _check_trains_here(policy, wanted, num_passes(losses), accelerator)
    policy, optimizer, scheduler = _prepared(policy, losses, run_file, wrap or accelerator.prepare)
    keeps_old = "old_logprobs" in needs and run_file.updates_per_batch > 1
    return Learner(
        accelerator=accelerator,
        ranks=ranks,
        policy=policy.train(),
        model=loaded.model,
        tokenizer=loaded.tokenizer,
        losses=losses,
        optimizer=optimizer,
        scheduler=scheduler,
        max_grad_norm=run_file.optimizer.max_grad_norm,
        frozen=frozen,
        teachers=teachers,
        scores_first=scores_first | {"old_logprobs"} if keeps_old and "values" in scores_first else scores_first,
        keeps_old=keeps_old,
        keeps_teacher="teacher_logprobs" in needs,
        seed=run_file.seed,
        wanted=wanted,
    )


def _make_policy(run_file: RunFile, loaded: LoadedModel, losses: Sequence[BoundLoss]) -> Policy:
    of_losses, critic = make_parameters(losses, run_file, loaded.model), make_critic(run_file, loaded)
    if critic is not None and not any(loss.needs & TRAINED for loss in losses):
        # No backward pass would reach it, and what wraps the policy waits for every gradient.
        critic.requires_grad_(False)
    return Policy(loaded.model, run_file.rollout.temperature, critic=critic, trained=of_losses)


def _prepared(
    policy: Policy, losses: Sequence[BoundLoss], run_file: RunFile, wrap: Wrap
) -> tuple[Policy, Optimizer, LRScheduler]:
    optimizer = make_optimizer(policy, run_file, losses)
    # The trainer steps the schedule once an update. One that Accelerate prepares would step once per process.
    scheduler = make_lr_schedule(optimizer, run_file.optimizer, run_file.max_steps * run_file.updates_per_batch)
    # Together: sharding replaces the model's parameters, and Accelerate passes the new ones to the optimizer.
    policy, optimizer = wrap(policy, optimizer)
    return policy, optimizer, scheduler


def _check_trains_here(policy: Policy, wanted: Wanted, passes: int, accelerator: Accelerator) -> None:
    """Refuse what these ranks cannot train, allow what they can, and say what will not be as the user may expect."""
    policy.check_gives(wanted)
    if passes > 1:
        check_shifts(policy.model)
    _warn_of_small_updates(policy.model.dtype, accelerator)  # type: ignore[arg-type]
    _check_rows_alone(policy, accelerator)
    _warn_of_router_loss(policy)
    if accelerator.num_processes > 1:
        of_critic = [] if policy.critic is None or policy.critic.model is None else [policy.critic.model]
        _allow_unused_parameters([policy.model, *of_critic], accelerator)


def _warn_of_router_loss(policy: Policy) -> None:
    ignored = ignored_router_loss(policy.model)
    if ignored:
        logger.warning(
            "The model's configuration asks for an auxiliary loss of its routers (output_router_logits = true, %s). It is "
            "not added to the objective: only the losses of the run file are. The metric router/busiest_expert shows "
            "whether the load stays even.",
            ignored,
        )


def _check_rows_alone(policy: Policy, accelerator: Accelerator) -> None:
    if policy.rows_alone and accelerator.distributed_type == DistributedType.FSDP:
        raise ModelError(
            f"{type(policy.model).__name__} needs a forward pass for every sequence, because its results depend on the rows "
            "of a batch, and FSDP needs the same number of passes on every rank. Train without sharding (distributed_type: "
            "MULTI_GPU)."
        )


def _allow_unused_parameters(models: Sequence[nn.Module], accelerator: Accelerator) -> None:
    """Let parameters without a gradient keep their values on several ranks too, as they do on one."""
    unused = [name for model in models for name in without_gradient(model)]
    if not unused:
        return
    logger.info(
        "%d parameters get no gradient from a few tokens of text, the first of them %s: they only change where a batch uses "
        "them.",
        len(unused),
        unused[0],
    )
    handler = accelerator.ddp_handler or DistributedDataParallelKwargs()
    accelerator.ddp_handler = replace(handler, find_unused_parameters=True)


def wanted_by(losses: Sequence[BoundLoss], needs: frozenset[str] = frozenset()) -> Wanted:
    """Return what a forward pass must give for these losses, and for metrics with these needs."""
    of_losses = frozenset[str]().union(*(loss.needs for loss in losses))
    return Wanted(
        # Metrics read its value alone.
        entropy="gradient" if "entropy" in of_losses else "value" if "entropy" in needs else "none",
        logits="logits" in of_losses,
        hidden_states="hidden_states" in of_losses,
        embedding="embedding" in of_losses,
        values="values" in of_losses or "values" in needs,
        parameters=any(loss.trains for loss in losses),
        divergences=tuple(dict.fromkeys(loss.divergence for loss in losses if loss.divergence)),
        teacher_logits="teacher_logits" in of_losses,
    )


def _warn_of_small_updates(dtype: torch.dtype, accelerator: Accelerator) -> None:
    # Accelerate keeps sharded weights in float32 where it computes in bfloat16.
    keeps_float32 = accelerator.distributed_type == DistributedType.FSDP and accelerator.mixed_precision != "no"
    if torch.finfo(dtype).bits <= 16 and not keeps_float32:
        logger.warning(
            "The weights are %s: an update smaller than %.1e of a weight is rounded away. With a small learning rate the "
            'policy may not learn; model.dtype = "float32" keeps every update.',
            str(dtype).removeprefix("torch."),
            torch.finfo(dtype).eps / 2,
        )
