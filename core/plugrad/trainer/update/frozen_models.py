"""The models that stay fixed while the policy trains: the reference and the teacher."""

from __future__ import annotations

import copy

import torch
from torch import nn

from plugrad.config.run_file import RunFile
from plugrad.policy.loading import LoadedModel
from plugrad.policy.loading_beside import frozen, load_frozen
from plugrad.policy.policy import Policy


def load_frozen_models(
    run_file: RunFile, loaded: LoadedModel, needs: frozenset[str], device: torch.device
) -> dict[str, Policy]:
    """Return the frozen models of a run, by the field of the losses' inputs that each fills.

    Without `[model.reference]`, the reference is a copy of the policy before the first update.

    Raises:
        ModelError: a frozen model cannot be loaded, or its vocabulary is not the policy's.
    """
    models: dict[str, nn.Module] = {}
    tables = run_file.model
    if "ref_logprobs" in needs and tables.reference is not None:
        models["ref_logprobs"] = load_frozen(tables.reference, tables, loaded.tokenizer, "reference", run_file.folders)
    elif "ref_logprobs" in needs:
        models["ref_logprobs"] = frozen(copy.deepcopy(loaded.model))
    if tables.teacher is not None and "teacher_logprobs" in needs:
        models["teacher_logprobs"] = load_frozen(tables.teacher, tables, loaded.tokenizer, "teacher", run_file.folders)
    return {field: Policy(model.to(device), run_file.rollout.temperature) for field, model in models.items()}
