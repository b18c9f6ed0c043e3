"""The learner: the policy, the frozen models beside it, and what updates it."""

from __future__ import annotations

import copy
import logging
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

import torch
from accelerate import Accelerator
from accelerate.utils import DistributedType
from torch import Tensor
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict
from torch.distributed.tensor import DTensor
from torch.optim import AdamW, Optimizer
from torch.optim.lr_scheduler import LRScheduler
from transformers import PreTrainedModel, PreTrainedTokenizerBase, get_scheduler

from plugrad.config.run_file import RunFile
from plugrad.config.tables.optimizer_table import OptimizerTable
from plugrad.policy.loading import LoadedModel, frozen, load_frozen
from plugrad.policy.micro_batches import MicroBatch
from plugrad.policy.policy import Policy
from plugrad.trainer.ranks.ranks import Ranks

logger = logging.getLogger("plugrad")

FUSED_DEVICES = ("cpu", "cuda")
"""Where PyTorch has AdamW as one kernel."""


@dataclass(frozen=True)
class PolicyWeights:
    """A policy's weights by their Transformers names, one at a time and tied ones too, as often as one iterates."""

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
    """Wrapped for several ranks where there are several: call it, and see to `model` for its own attributes."""
    model: PreTrainedModel
    """The policy's Transformers model."""
    tokenizer: PreTrainedTokenizerBase
    optimizer: Optimizer
    scheduler: LRScheduler
    max_grad_norm: float
    reference: Policy | None
    teacher: Policy | None
    keeps_old: bool
    """Whether the policy's log-probs from before the first of several updates are computed on their own."""
    wants_entropy: bool

    @property
    def dtype(self) -> torch.dtype:
        """Of log-probs and advantages: the model's, and at least float32."""
        return torch.promote_types(next(self.policy.parameters()).dtype, torch.float32)

    @property
    def packs(self) -> bool:
        """Whether no model that scores a micro-batch sees its padding."""
        policies = (self.accelerator.unwrap_model(self.policy), self.reference, self.teacher)
        return all(policy.packs for policy in policies if policy is not None)

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

    def whole_state_dict(self) -> dict[str, Tensor]:
        """Return the weights of a sharded policy on the CPU of the main rank, nothing on the others; every rank calls it.

        A tied weight comes once, under its first name.
        """
        whole = get_model_state_dict(self.model, options=StateDictOptions(full_state_dict=True, cpu_offload=True))
        names = {id(weight): name for name, weight in reversed(self.model.state_dict(keep_vars=True).items())}
        return {name: weight for name, weight in whole.items() if name in names.values() and isinstance(weight, Tensor)}

    def save(self, path: Path, state_dict: dict[str, Tensor] | None = None) -> None:
        """Write a Transformers folder; `state_dict` holds the weights where this rank's model does not."""
        self.model.save_pretrained(path, state_dict=state_dict)
        self.tokenizer.save_pretrained(path)

    @torch.no_grad()
    def with_fixed_logprobs(self, micro_batch: MicroBatch) -> MicroBatch:
        """Add the log-probs that do not change while the batch is trained on: old, reference and teacher."""
        on_device = micro_batch.to(self.accelerator.device)
        scorers = {
            "old_logprobs": self.policy if self.keeps_old else None,
            "ref_logprobs": self.reference,
            "teacher_logprobs": self.teacher,
        }
        batch = (on_device.input_ids, on_device.attention_mask, on_device.loss_mask)
        logprobs = {name: scorer(*batch)[0].to(self.dtype) for name, scorer in scorers.items() if scorer is not None}
        return replace(on_device, **logprobs)


def make_learner(
    run_file: RunFile, loaded: LoadedModel, needs: frozenset[str], accelerator: Accelerator, ranks: Ranks
) -> Learner:
    """Load the frozen models that `needs` asks for, and prepare the policy and its optimizer.

    Raises:
        ModelError: a frozen model cannot be loaded, or has another vocabulary.
    """
    temperature = run_file.rollout.temperature
    reference = _reference(run_file, loaded, accelerator) if "ref_logprobs" in needs else None
    table = run_file.model.teacher
    teacher = load_frozen(table, run_file.model, loaded.tokenizer).to(accelerator.device) if table else None
    _warn_of_small_updates(loaded.model.dtype, accelerator)
    policy = Policy(loaded.model, temperature)
    optimizer = _adamw(policy, run_file.optimizer)
    num_updates = run_file.max_steps * run_file.updates_per_batch
    # The schedule is ours to step, once an update: one that Accelerate prepares steps once per process.
    scheduler = _schedule(optimizer, run_file.optimizer, num_updates)
    # Together: sharding puts other parameters into the model, and Accelerate those into the optimizer.
    policy, prepared = accelerator.prepare(policy, optimizer)
    return Learner(
        accelerator=accelerator,
        ranks=ranks,
        policy=policy.train(),
        model=loaded.model,
        tokenizer=loaded.tokenizer,
        optimizer=prepared,
        scheduler=scheduler,
        max_grad_norm=run_file.optimizer.max_grad_norm,
        reference=Policy(reference, temperature) if reference else None,
        teacher=Policy(teacher, temperature) if teacher else None,
        keeps_old="old_logprobs" in needs and run_file.updates_per_batch > 1,
        wants_entropy="entropy" in needs,
    )


def _warn_of_small_updates(dtype: torch.dtype, accelerator: Accelerator) -> None:
    # Accelerate keeps the sharded weights in float32 where it computes in bfloat16.
    keeps_float32 = accelerator.distributed_type == DistributedType.FSDP and accelerator.mixed_precision != "no"
    if torch.finfo(dtype).bits <= 16 and not keeps_float32:
        logger.warning(
            "The weights are %s: an update of less than %.1e of a weight rounds to nothing. With a small learning rate the "
            'policy may not learn; model.dtype = "float32" keeps every update.',
            str(dtype).removeprefix("torch."),
            torch.finfo(dtype).eps / 2,
        )


def _reference(run_file: RunFile, loaded: LoadedModel, accelerator: Accelerator) -> PreTrainedModel:
    table = run_file.model.reference
    model = load_frozen(table, run_file.model, loaded.tokenizer) if table else frozen(copy.deepcopy(loaded.model))
    return cast(PreTrainedModel, model.to(accelerator.device))


def _adamw(policy: Policy, table: OptimizerTable) -> Optimizer:
    beta1, beta2 = table.betas
    trained = [parameter for parameter in policy.parameters() if parameter.requires_grad]
    return AdamW(
        trained,
        lr=table.lr,
        betas=(beta1, beta2),
        eps=table.eps,
        weight_decay=table.weight_decay,
        # One kernel instead of a dozen: on a CPU PyTorch takes it only if asked to. Other devices may not have it.
        fused=all(parameter.device.type in FUSED_DEVICES for parameter in trained),
    )


def _schedule(optimizer: Optimizer, table: OptimizerTable, num_updates: int) -> LRScheduler:
    name = "constant_with_warmup" if table.schedule == "constant" else table.schedule
    scheduler: LRScheduler = get_scheduler(
        name, optimizer, num_warmup_steps=table.warmup_updates, num_training_steps=num_updates
    )
    return scheduler
