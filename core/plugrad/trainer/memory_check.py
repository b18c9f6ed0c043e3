"""Refuse, before a model loads, what `[memory]` and quantisation cannot do here, with the reason."""

from __future__ import annotations

import logging

import torch
from accelerate import Accelerator
from accelerate.utils import DistributedType

from plugrad.config.run_file import RunFile
from plugrad.errors import RunFileError
from plugrad.host.optimizer_class import of_torch_alone
from plugrad.host.select import Selection
from plugrad.policy.loading import described
from plugrad.trainer.memory_estimate import tell

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


def tell_memory(run_file: RunFile, selection: Selection, accelerator: Accelerator) -> None:
    """Log, before the model loads, what training will take of a GPU's memory, and how it would fit if it does not."""
    if accelerator.device.type != "cuda" or not accelerator.is_main_process:
        return
    model = described(run_file.model, run_file.folders)
    if model is None:
        return
    _, size = torch.cuda.mem_get_info(accelerator.device)
    is_sharded = accelerator.distributed_type == DistributedType.FSDP
    facts = {
        "has_reference": "ref_logprobs" in selection.needs | selection.scores_first,
        "num_shards": accelerator.num_processes if is_sharded else 1,
    }
    logger.info("%s", tell(run_file, model, size, **facts))
