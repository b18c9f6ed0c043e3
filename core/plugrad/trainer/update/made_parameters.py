"""Make the parameters that losses of a run own, and write them beside the policy."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import cast
from zlib import crc32

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import PreTrainedModel

from plugrad.config.run_file import RunFile
from plugrad.contracts.model_sizes import ModelSizes
from plugrad.errors import ModelError
from plugrad.host.loss import BoundLoss
from plugrad.host.trained_module import file_name
from plugrad.policy.handed_out import HandedOut
from plugrad.policy.hidden_size import hidden_size_of
from plugrad.trainer.update.whole_weights import whole_state

logger = logging.getLogger("plugrad")

FOLDER = "trained"
"""In the policy's folder."""


def make_parameters(losses: Sequence[BoundLoss], run_file: RunFile, model: PreTrainedModel) -> list[HandedOut]:
    """Return the parameters of every loss that has its own, as its `trained` makes them or the policy's folder has them.

    Raises:
        ContractError: a loss made something that cannot be trained.
        ModelError: the folder has others.
    """
    sizes, made = sizes_of(model), []
    for loss in losses:
        if loss.trains:
            # A label of its own, so that another loss in the run file changes nothing.
            seed = (run_file.seed * 1_000_003 + crc32(loss.label.encode())) % 2**32
            made.append(HandedOut(loss.label, loss.trained(sizes, seed), sizes.dtype))
            _take_over(made[-1], run_file.model.saved_by_run)
    return made


def shapes_of(parameters: Mapping[str, Tensor]) -> str:
    """Return the names and shapes of parameters, for messages."""
    return ", ".join(f"{name} {list(value.shape)}" for name, value in parameters.items()) or "nothing"


def sizes_of(model: PreTrainedModel) -> ModelSizes:
    """Return what a loss is told of a policy."""
    head = model.get_output_embeddings()
    vocabulary = head.weight.shape[0] if head is not None else model.config.get_text_config().vocab_size
    return ModelSizes(hidden_size_of(model), int(vocabulary), torch.promote_types(model.dtype, torch.float32))


def whole_parameters(trained: nn.ModuleDict) -> dict[str, dict[str, Tensor]]:
    """Return sharded parameters on the main rank's CPU, by the label of their loss; every rank calls it."""
    return {part.label: whole_state(part.own) for part in _parts(trained)}


def save_parameters(trained: nn.ModuleDict, folder: Path, whole: Mapping[str, Mapping[str, Tensor]] | None = None) -> None:
    """Write each loss's parameters into a folder. Pass all of them `whole` where this rank holds only a part."""
    for part in _parts(trained):
        folder.mkdir(parents=True, exist_ok=True)
        state = part.own.state_dict() if whole is None else whole[part.label]
        tensors = {name: value.detach().cpu().contiguous() for name, value in state.items()}
        save_file(tensors, folder / f"{file_name(part.label)}.safetensors")


def _parts(trained: nn.ModuleDict) -> list[HandedOut]:
    return [cast(HandedOut, part) for part in trained.values()]


def _take_over(part: HandedOut, model: str | None) -> None:
    path = model and Path(model) / FOLDER / f"{file_name(part.label)}.safetensors"
    if not path or not path.is_file():
        return
    remedy = "Delete it to start anew."
    try:
        state = load_file(path)
        part.own.load_state_dict(state)
    except (SafetensorError, OSError, RuntimeError) as error:
        # PyTorch's own text is as long as there are parameters.
        told = f"it holds {shapes_of(state)}" if isinstance(error, RuntimeError) else str(error)
        raise ModelError(
            f"{path} has not the parameters of the loss {part.label!r}, which are "
            f"{shapes_of(dict(part.own.named_parameters()))}: {told}. {remedy}"
        ) from error
    if not all(bool(torch.isfinite(value).all()) for value in state.values()):
        raise ModelError(f"{path} has numbers that are not finite. {remedy}")
    logger.info("The parameters of the loss %r go on from %s.", part.label, path)
