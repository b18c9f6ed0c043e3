"""The learner: the policy, the frozen models beside it, and the optimizer that updates it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import DistributedType
from torch.distributed.tensor import DTensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from plugrad.config.run_file import RunFile
from plugrad.config.tables.memory_table import MemoryTable
from plugrad.host.loss import BoundLoss, num_passes
from plugrad.host.provided import TRAINED
from plugrad.policy.adapter_layers import as_it_began
from plugrad.policy.loading import LoadedModel
from plugrad.policy.lora import Adapter
from plugrad.policy.offloading import offloaded_activations
from plugrad.policy.policy import Policy
from plugrad.policy.rounded_weights import round_weights
from plugrad.policy.routers import busiest_expert
from plugrad.policy.scored import Scored, Wanted
from plugrad.trainer.ranks.ranks import Ranks
from plugrad.trainer.update.lr_schedule import make_lr_schedule
from plugrad.trainer.update.made_critic import FOLDER, make_critic, save_critic
from plugrad.trainer.update.made_parameters import FOLDER as OF_LOSSES
from plugrad.trainer.update.made_parameters import make_parameters, save_parameters, whole_parameters
from plugrad.trainer.update.optimizer import make_optimizer
from plugrad.trainer.update.policy_weights import PolicyWeights, save_adapted, whole_adapted
from plugrad.trainer.update.teaching import Teachers
from plugrad.trainer.update.trainable_here import check_trains_here
from plugrad.trainer.update.whole_weights import WholeWeights, whole_state

logger = logging.getLogger("plugrad")


AS_IT_BEGAN = None
"""In place of a frozen model: the policy itself, without what the run has trained of its adapter."""


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
    frozen: Mapping[str, Policy | None]
    """The models that stay fixed, but for teachers, by the field of the losses' inputs that each fills. `AS_IT_BEGAN` stands
    for the policy."""
    teachers: Teachers | None
    scores_first: frozenset[str]
    """What is computed of all rollouts before their advantages, by field of `AdvantageInputs`."""
    keeps_old: bool
    """Whether a separate forward pass computes the policy's log-probs before the first update, for those after it."""
    keeps_teacher: bool
    """Whether a forward pass computes the teacher's log-probs of the sampled tokens."""
    seed: int
    """Of the run."""
    wanted: Wanted
    """What each forward pass of the policy with gradient gives."""
    adapter: Adapter | None = None
    """What is trained of the model, if not all."""
    memory: MemoryTable = field(default_factory=MemoryTable)
    """What waits in the machine's memory."""

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
        return taught and all(policy.packs for policy in self.policies)

    @property
    def policies(self) -> list[Policy]:
        """The policy without what wraps it, and the frozen models beside it that are no teachers."""
        return [self.own, *(policy for policy in self.frozen.values() if policy is not AS_IT_BEGAN)]

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

    def autocast(self) -> AbstractContextManager[None]:
        """Return a context in which frozen models compute as the policy does: otherwise a copy of it would differ."""
        # FSDP2 rounds the weights of a sharded policy instead, and those of frozen models are rounded.
        return nullcontext() if self.is_sharded else self.accelerator.autocast()

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
        model = whole_state(self.model) if self.adapter is None else whole_adapted(self.model, self.adapter)
        return WholeWeights(model, critic, whole_parameters(own.trained))

    @contextmanager
    def fixed(self, name: str) -> Iterator[Callable[..., Scored]]:
        """While the body runs, give what fills a field of the losses' inputs: the policy, or a frozen model."""
        frozen = self.policy if name == "old_logprobs" else self.frozen[name]
        if frozen is not None and self._waits(name):
            frozen.to(self.accelerator.device)
        with as_it_began(self.model) if frozen is AS_IT_BEGAN else nullcontext():
            yield frozen or self.policy

    def put_away(self) -> None:
        """Move frozen models that wait in the machine's memory there, once a batch is scored."""
        for name, frozen in self.frozen.items():
            if frozen is not None and self._waits(name):
                frozen.to("cpu")

    def _waits(self, name: str) -> bool:
        return name == "ref_logprobs" and self.memory.offload_reference

    def keeping_activations(self) -> AbstractContextManager[Any]:
        """Return a context for passes with gradient, in which activations are kept where `[memory]` says."""
        return offloaded_activations(self.policy) if self.memory.offload_activations else nullcontext()

    def save(self, path: Path, whole: WholeWeights | None = None) -> None:
        """Write a Transformers or PEFT folder. Pass `whole` where this rank's models hold only a part of the weights."""
        if self.adapter is None:
            self.model.save_pretrained(path, state_dict=whole and whole.model)
        else:
            save_adapted(self.model, self.adapter, self.tokenizer, path, whole and whole.model)
        self.tokenizer.save_pretrained(path)
        own = self.own
        if own.critic is not None:
            save_critic(own.critic, path / FOLDER, self.tokenizer, whole and whole.critic)
        save_parameters(own.trained, path / OF_LOSSES, whole and whole.trained)


Wrap = Callable[[Policy, Optimizer], tuple[Policy, Optimizer]]


def make_learner(
    run_file: RunFile,
    loaded: LoadedModel,
    frozen: Mapping[str, Policy | None],
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
        frozen, teachers: from `load_frozen_models` and `load_teachers`.
        losses: in the order of the run file.
        needs: the optional fields that any loss or metric reads.
        scores_first: what is computed of all rollouts before their advantages, by field of `AdvantageInputs`.
        accelerator, ranks, wrap: of this process; `wrap` distributes, `accelerator.prepare` unless given.
    """
    policy, wanted = _make_policy(run_file, loaded, losses), wanted_by(losses, needs)
    check_trains_here(policy, wanted, num_passes(losses), accelerator, run_file.optimizer)
    if wrap is not None or accelerator.distributed_type == DistributedType.FSDP:
        _know_before_sharding(loaded, [*frozen.values(), *_models_of(teachers)], accelerator, ranks)
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
        adapter=loaded.adapter,
        memory=run_file.memory,
    )


def _models_of(teachers: Teachers | None) -> list[Policy | None]:
    return [] if teachers is None else list(teachers.models.values())


def _know_before_sharding(
    loaded: LoadedModel, frozen: Sequence[Policy | None], accelerator: Accelerator, ranks: Ranks
) -> None:
    """Know an adapter's base by its sum: no rank has the whole of it later. Let frozen models compute as the policy will."""
    if loaded.adapter is not None and ranks.is_main:
        loaded.adapter.sums()
    if accelerator.mixed_precision == "bf16":
        round_weights([model for model in frozen if model is not None], keeps_sums=ranks.is_main)


def _make_policy(run_file: RunFile, loaded: LoadedModel, losses: Sequence[BoundLoss]) -> Policy:
    of_losses, critic = make_parameters(losses, run_file, loaded.model), make_critic(run_file, loaded)
    if critic is not None and not any(loss.needs & TRAINED for loss in losses):
        # No backward pass would reach it, and what wraps the policy waits for every gradient.
        critic.requires_grad_(False)
    compiled, temperature = run_file.model.compile, run_file.rollout.temperature
    return Policy(loaded.model, temperature, critic=critic, trained=of_losses, compiled=compiled)


def _prepared(
    policy: Policy, losses: Sequence[BoundLoss], run_file: RunFile, wrap: Wrap
) -> tuple[Policy, Optimizer, LRScheduler]:
    optimizer = make_optimizer(policy, run_file, losses)
    # The trainer steps the schedule once an update. One that Accelerate prepares would step once per process.
    scheduler = make_lr_schedule(optimizer, run_file.optimizer, run_file.max_steps * run_file.updates_per_batch)
    # Together: sharding replaces the model's parameters, and Accelerate passes the new ones to the optimizer.
    policy, optimizer = wrap(policy, optimizer)
    return policy, optimizer, scheduler


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
