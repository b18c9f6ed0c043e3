"""The models that stay fixed while the policy trains: the reference and the teachers."""

from __future__ import annotations

import copy

import torch
from torch import nn

from plugrad.config.run_file import RunFile
from plugrad.contracts.needs import OF_TEACHER
from plugrad.policy.loading import LoadedModel
from plugrad.policy.loading_beside import frozen, load_frozen
from plugrad.policy.lora import keep_as_it_began
from plugrad.policy.policy import Policy
from plugrad.trainer.update.learner import AS_IT_BEGAN
from plugrad.trainer.update.teaching import ITSELF, Teachers


def load_frozen_models(
    run_file: RunFile, loaded: LoadedModel, needs: frozenset[str], device: torch.device
) -> dict[str, Policy | None]:
    """Return the frozen models of a run, by the field of the losses' inputs that each fills.

    Without `[model.reference]`, the reference is the policy before the first update: a copy, or `AS_IT_BEGAN` where only
    an adapter is trained. Where that did not begin at the base, the model gets a frozen copy of the adapter.

    Raises:
        ModelError: a frozen model cannot be loaded, or its vocabulary is not the policy's.
    """
    models: dict[str, nn.Module] = {}
    tables = run_file.model
    if "ref_logprobs" in needs and tables.reference is not None:
        models["ref_logprobs"] = load_frozen(tables.reference, tables, loaded.tokenizer, "reference", run_file.folders)
    elif "ref_logprobs" in needs and loaded.adapter is not None:
        if not loaded.adapter.starts_at_base:
            keep_as_it_began(loaded.model)
        return {"ref_logprobs": AS_IT_BEGAN}
    elif "ref_logprobs" in needs:
        models["ref_logprobs"] = frozen(copy.deepcopy(loaded.model))
    if run_file.memory.offload_reference:
        # It moves to the device when it scores.
        device = torch.device("cpu")
    return {field: Policy(model.to(device), run_file.rollout.temperature) for field, model in models.items()}


def load_teachers(run_file: RunFile, loaded: LoadedModel, needs: frozenset[str], device: torch.device) -> Teachers | None:
    """Return the teachers of a run, or None if nothing needs them.

    Raises:
        ModelError: a teacher cannot be loaded, or its vocabulary is not the policy's.
    """
    tables = run_file.model
    if not tables.all_teachers or not needs & set(OF_TEACHER):
        return None
    models: dict[str, Policy | None] = {}
    for name, table in tables.all_teachers.items():
        key = "teacher" if tables.teacher else f"teachers.{name}"
        frozen_table = table.frozen
        if frozen_table is None:
            models[name] = ITSELF
            continue
        model: nn.Module = load_frozen(frozen_table, tables, loaded.tokenizer, key, run_file.folders)
        models[name] = Policy(model.to(device), run_file.rollout.temperature)
    return Teachers(models, None if tables.teacher else tables.teacher_column)
