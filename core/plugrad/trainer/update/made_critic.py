"""Make the critic of a run, and write it beside the policy."""

from __future__ import annotations

import logging
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from plugrad.config.run_file import RunFile
from plugrad.errors import ModelError
from plugrad.policy.critic import Critic, ValueHead
from plugrad.policy.hidden_size import hidden_size_of
from plugrad.policy.lm_head import find_head
from plugrad.policy.loading import LoadedModel
from plugrad.policy.loading_beside import load_critic
from plugrad.policy.neighbours import keeps_rows_apart
from plugrad.trainer.update.made_parameters import shapes_of

logger = logging.getLogger("plugrad")

FOLDER = "critic"
"""In the policy's folder."""
HEAD = "value_head.safetensors"


def make_critic(run_file: RunFile, loaded: LoadedModel) -> Critic | None:
    """Return the critic of `[critic]`, or None without such a table.

    Its head starts at 0, or as the folder has it where a run has saved one there.

    Raises:
        ModelError: its model cannot be loaded, or is one that a critic cannot be made of.
    """
    table = run_file.critic
    if table is None:
        return None
    own = None if table.name is None else load_critic(table, run_file.model, loaded.tokenizer, run_file.folders)
    if own is not None:
        _check_usable(own)
    read = loaded.model if own is None else own
    head = ValueHead(hidden_size_of(read), read.dtype, read.device)
    of_policy = run_file.model.saved_by_run
    saved = Path(table.name) / HEAD if table.name else Path(of_policy) / FOLDER / HEAD if of_policy else None
    if saved is not None and saved.is_file():
        _take_over(head, saved)
    return Critic(head, own)


def save_critic(
    critic: Critic, folder: Path, tokenizer: PreTrainedTokenizerBase, whole: dict[str, Tensor] | None = None
) -> None:
    """Write the critic into a folder. Pass its `whole` state where this rank holds only a part of it."""
    state = critic.state_dict() if whole is None else whole
    folder.mkdir(parents=True, exist_ok=True)
    if isinstance(critic.model, PreTrainedModel):
        of_model = {name.removeprefix("model."): value for name, value in state.items() if name.startswith("model.")}
        critic.model.save_pretrained(folder, state_dict=of_model)
        tokenizer.save_pretrained(folder)
    of_head = {name.removeprefix("head."): value for name, value in state.items() if name.startswith("head.")}
    save_file({name: value.detach().cpu().contiguous() for name, value in of_head.items()}, folder / HEAD)


def _check_usable(model: PreTrainedModel) -> None:
    if find_head(model) is None or not keeps_rows_apart(model):
        raise ModelError(
            f"{type(model).__name__} cannot be the model of [critic]: its last hidden states are not known, or those of a "
            "row depend on other rows. Leave `name` out, or choose another model."
        )


def _take_over(head: ValueHead, path: Path) -> None:
    try:
        state = load_file(path)
        head.load_state_dict(state)
    except (SafetensorError, OSError, RuntimeError) as error:
        told = f"it holds {shapes_of(state)}" if isinstance(error, RuntimeError) else str(error)
        raise ModelError(
            f"{path} is not the value head of a model whose hidden states have {head.linear.in_features} numbers: {told}. "
            "Delete it to start at 0."
        ) from error
    if not all(bool(torch.isfinite(value).all()) for value in state.values()):
        raise ModelError(f"{path} has numbers that are not finite. Delete it to start at 0.")
    logger.info("The critic goes on from %s.", path)
