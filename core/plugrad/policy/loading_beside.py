"""Load the models beside the policy: the reference, the teacher, and a critic of its own."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import cast

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from plugrad.config.tables.critic_table import CriticTable
from plugrad.config.tables.model_table import FrozenModelTable, ModelTable
from plugrad.errors import ModelError
from plugrad.policy.described_model import Source
from plugrad.policy.loading import checkpoint_activations, pretrained, read_tokenizer
from plugrad.policy.vocabulary import fit_embeddings


def load_frozen(
    table: FrozenModelTable,
    policy: ModelTable,
    tokenizer: PreTrainedTokenizerBase,
    key: str = "reference",
    folders: Sequence[Path] = (),
) -> PreTrainedModel:
    """Load a frozen reference or teacher model.

    Args:
        table: the run file's.
        policy: the policy's table, for what `table` does not give.
        tokenizer: the policy's.
        key: the table's key in `[model]`.
        folders: where a relative name was looked up, for messages.

    Raises:
        ModelError: the model cannot be used, or its vocabulary is not the policy's.
    """
    dtype = table.dtype or policy.dtype
    source = Source(table.name, dtype, policy.attn_implementation, table.trust_remote_code, f"model.{key}", folders)
    return frozen(_beside_the_policy(source, policy, tokenizer))


def load_critic(
    table: CriticTable, policy: ModelTable, tokenizer: PreTrainedTokenizerBase, folders: Sequence[Path] = ()
) -> PreTrainedModel:
    """Load the critic's own model. Its output layer is not trained: nothing reads it.

    Raises:
        ModelError: the model cannot be used, or its vocabulary is not the policy's.
    """
    assert table.name is not None
    dtype = table.dtype or policy.dtype
    source = Source(table.name, dtype, policy.attn_implementation, table.trust_remote_code, "critic", folders)
    model = _beside_the_policy(source, policy, tokenizer)
    head, embeddings = model.get_output_embeddings(), model.get_input_embeddings()
    if head is not None and head.weight is not embeddings.weight:
        head.requires_grad_(False)
    if policy.gradient_checkpointing:
        checkpoint_activations(model)
    return model


def _beside_the_policy(source: Source, policy: ModelTable, tokenizer: PreTrainedTokenizerBase) -> PreTrainedModel:
    with _naming(source):
        model, theirs = pretrained(source), read_tokenizer(source)
        if theirs.get_vocab() != tokenizer.get_vocab():
            raise ModelError(
                f"the tokenizer of {source.name!r} ({len(theirs)} tokens) is not the policy's ({len(tokenizer)} tokens), so "
                "it would read other tokens than the policy writes. Choose a model of the same family."
            )
        fit_embeddings(source.name, model, theirs, texts=(), resize=policy.resize_embeddings)
    return model


@contextmanager
def _naming(source: Source) -> Iterator[None]:
    """Add to the error of a model whose it is: a run may load several."""
    table = f"[{source.table}]"
    try:
        yield
    except ModelError as error:
        if table in str(error) or f"{source.table}." in str(error):
            raise
        raise ModelError(f"{table}: {error}") from error


def frozen(model: PreTrainedModel) -> PreTrainedModel:
    """Set evaluation mode, turn off gradients and return the model."""
    return cast(PreTrainedModel, model.requires_grad_(False).eval())
