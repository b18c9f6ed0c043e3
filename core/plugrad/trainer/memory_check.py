"""Say, before a model loads, what `[memory]` and quantisation cannot do here, and what training will take."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import torch
from accelerate import Accelerator
from accelerate.utils import DistributedType

from plugrad.config.run_file import RunFile
from plugrad.errors import ModelError, RunFileError
from plugrad.host.environment import BoundEnvironment
from plugrad.host.optimizer_class import of_torch_alone
from plugrad.host.select import Selection, select
from plugrad.policy.described_model import Described
from plugrad.policy.loading import quiet_transformers
from plugrad.rollout.prompts import strings_of
from plugrad.trainer.memory_estimate import GIB, estimate, tell
from plugrad.trainer.run_models import Texts, described_policy, run_models

logger = logging.getLogger("plugrad")


def check_memory(run_file: RunFile, selection: Selection, accelerator: Accelerator) -> None:
    """Check that every key of `[memory]` does something here, and changes nothing.

    Raises:
        RunFileError: one does not.
    """
    if run_file.model.quantization is not None and accelerator.distributed_type == DistributedType.FSDP:
        raise RunFileError(
            "model.quantization is set, and FSDP2 shards this run: packed weights of 4 bits are not cut along their rows. "
            "Train without sharding (distributed_type: MULTI_GPU), or leave it out."
        )
    asked = run_file.memory.asked_for
    if not asked:
        return
    if accelerator.device.type == "cpu":
        raise RunFileError(
            f"memory.{asked[0]} is true, and this run trains on a CPU, whose memory is the machine's: there is nothing to "
            "move. Leave it out."
        )
    reason = next((why for key in asked if (why := _why_not(key, run_file, selection, accelerator))), "")
    if reason:
        raise RunFileError(reason)


def _why_not(key: str, run_file: RunFile, selection: Selection, accelerator: Accelerator) -> str:
    is_sharded = accelerator.distributed_type == DistributedType.FSDP
    if key == "offload_optimizer" and is_sharded:
        return (
            "memory.offload_optimizer is true, and FSDP2 shards this run: PyTorch keeps a shard's state on the device of "
            "the shard. Leave it out: more ranks leave less of it to each."
        )
    if key == "offload_activations" and is_sharded:
        return (
            "memory.offload_activations is true, and FSDP2 shards this run: it gathers weights into memory that it uses "
            "again, where they cannot be told from activations. Use model.gradient_checkpointing instead."
        )
    if key == "offload_optimizer" and not of_torch_alone(selection.optimizer.cls):
        return (
            f"memory.offload_optimizer is true, and {selection.optimizer.component} is not known to update each weight by "
            "itself, as PyTorch's optimizers do: one after the other, it might make other updates. Choose one of "
            "torch.optim, or leave it out."
        )
    if key == "offload_reference":
        return _why_no_reference(run_file, selection)
    return ""


def _why_no_reference(run_file: RunFile, selection: Selection) -> str:
    if "ref_logprobs" not in selection.needs | selection.scores_first:
        return "memory.offload_reference is true, and no component of this run needs a reference. Leave it out."
    if run_file.model.lora is not None and run_file.model.reference is None:
        return (
            "memory.offload_reference is true, and the reference is the policy with its adapter off: there is no second "
            "model to move. Leave it out."
        )
    return ""


def tell_memory(
    run_file: RunFile, selection: Selection, accelerator: Accelerator, known: Described | None, texts: Texts
) -> None:
    """Log, before the model loads, what training will take of a GPU's memory, and how it would fit if it does not.

    Args:
        run_file, selection, accelerator: the run's.
        known: what the policy's configuration describes, unless it is built from scratch.
        texts: gives what the tokenizer of a model from scratch covers.
    """
    if accelerator.device.type != "cuda" or not accelerator.is_main_process:
        return
    is_sharded = accelerator.distributed_type == DistributedType.FSDP
    policy = (known or described_policy(run_file.model, texts, run_file.folders)).model
    models = run_models(run_file, selection, policy, accelerator.num_processes if is_sharded else 1)
    if models is not None:
        _, size = torch.cuda.mem_get_info(accelerator.device)
        logger.info("%s", tell(run_file, models, size)[0])


def would_fit(run_file: RunFile, gib: float | None, *, num_shards: int = 1) -> tuple[str, bool]:
    """Return a line that says what a run takes of a GPU with so many GiB, and how it would fit; and whether it fits.

    Raises:
        PlugradError: a plugin, an option or a configuration cannot be used, or a model is not known before it is loaded.
    """
    quiet_transformers()
    selection = select(run_file)
    policy = described_policy(run_file.model, lambda: _texts(selection), run_file.folders).model
    models = run_models(run_file, selection, policy, num_shards)
    if models is None:
        raise ModelError(
            "what this run takes cannot be estimated: one of its models computes while it is built, so it is not known "
            "before it is loaded. Start the run, and look at memory_gib in metrics.jsonl."
        )
    if gib is None:
        return f"Memory, estimated: {estimate(run_file, models)}.", True
    return tell(run_file, models, gib * GIB)


def _texts(selection: Selection) -> Iterator[str]:
    environment = BoundEnvironment.create(selection.environment)
    return strings_of([*environment.train_examples(), *environment.eval_examples()])
