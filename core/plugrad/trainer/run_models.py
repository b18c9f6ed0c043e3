"""What models a run will load, from their configurations alone, for the estimate of its memory."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from transformers import PreTrainedModel

from plugrad.config.run_file import RunFile
from plugrad.config.tables.model_table import FrozenModelTable, ModelTable
from plugrad.contracts.needs import OF_TEACHER
from plugrad.host.select import Selection
from plugrad.policy.character_tokenizer import character_tokenizer
from plugrad.policy.described_model import Described, Source, described, source_of, without_dropout, without_storage
from plugrad.policy.from_scratch import configured
from plugrad.trainer.memory_estimate import REFERENCE, RunModels

Texts = Callable[[], Iterable[str]]


def described_policy(table: ModelTable, texts: Texts, folders: Sequence[Path]) -> Described:
    """Return what the policy's configuration describes.

    Args:
        table: the run file's.
        texts: gives what the tokenizer of a model from scratch must cover.
        folders: where a relative name was looked up, for messages.

    Raises:
        ModelError: the configuration cannot be used.
    """
    if table.from_scratch is None:
        return described(source_of(table, folders))
    config = configured(table.from_scratch, character_tokenizer(texts()))
    without_dropout(config)
    return Described(config, {}, without_storage(config))


def run_models(
    run_file: RunFile, selection: Selection, policy: PreTrainedModel | None, num_shards: int = 1
) -> RunModels | None:
    """Return the models that a run will load; None if one of them cannot be described without loading it.

    Raises:
        ModelError: a configuration cannot be used.
    """
    needs, table = selection.needs | selection.scores_first, run_file.model
    tables: dict[str, FrozenModelTable] = {}
    if "ref_logprobs" in needs and table.reference is not None:
        tables[REFERENCE] = table.reference
    if needs & set(OF_TEACHER):
        tables |= {name: teacher.frozen for name, teacher in table.all_teachers.items() if teacher.frozen is not None}
    frozen = {name: _described(run_file, its.name, trusts_code=its.trust_remote_code) for name, its in tables.items()}
    critic = run_file.critic
    own = None
    if critic is not None and critic.name is not None:
        own = _described(run_file, critic.name, trusts_code=critic.trust_remote_code)
        frozen["the critic"] = own
    if policy is None or None in frozen.values():
        return None
    dtypes = {name: its.dtype or table.dtype for name, its in tables.items()}
    return RunModels(
        policy,
        selection.optimizer,
        has_reference="ref_logprobs" in needs,
        frozen={name: (model, dtypes[name]) for name, model in frozen.items() if model is not None and name in dtypes},
        critic=own,
        num_shards=num_shards,
    )


def _described(run_file: RunFile, name: str, *, trusts_code: bool) -> PreTrainedModel | None:
    source = Source(name, "auto", run_file.model.attn_implementation, trusts_code, folders=run_file.folders)
    return described(source).model
