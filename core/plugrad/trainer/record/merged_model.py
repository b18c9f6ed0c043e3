"""Write whole weights with the adapter of a run in them."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from plugrad.config.reading import read_tables
from plugrad.config.tables.lora_table import LoraTable
from plugrad.errors import ModelError, RunFileError
from plugrad.policy.adapter_layers import base_tensors, merged_weights
from plugrad.policy.described_model import Source
from plugrad.policy.loading import pretrained, quiet_transformers, read_tokenizer
from plugrad.policy.lora import add_adapter
from plugrad.policy.lora_config import CONFIG
from plugrad.policy.model_folder import TOKENIZER_FILES, read_json, reading
from plugrad.policy.vocabulary import num_rows
from plugrad.shown import printable, shown
from plugrad.trainer.record.replaced_run import remove
from plugrad.trainer.record.run_folder import MERGED, MODEL, RUN_FILE


def export_merged(run: Path, to: Path | None, *, asked: bool) -> Path:
    """Merge the adapter of a run into its base, and write that; return where.

    Args:
        run: a run's folder, or an adapter's.
        to: where to; by default `merged` in the run's folder.
        asked: whether the user asks for merged weights, of which there is no other form yet.

    Raises:
        ModelError: there is no adapter, its base is gone, or the folder exists.
    """
    adapter = run / MODEL if (run / MODEL).is_dir() else run
    if not (adapter / CONFIG).is_file():
        whole = " It holds a whole model, which needs no export." if (adapter / "config.json").is_file() else ""
        raise ModelError(f"{printable(adapter)} holds no adapter (no {CONFIG}).{whole} Give a run with [model.lora].")
    if not asked:
        raise ModelError("say what to write: --merged, for whole weights. The adapter itself is in the folder `model`.")
    folder = to or (run.parent if adapter == run and run.name == MODEL else run) / MERGED
    if folder.exists():
        raise ModelError(f"{printable(folder)} exists, and is not replaced. Remove it, or give another folder with --to.")
    quiet_transformers()
    base = _base_of(adapter)
    model = pretrained(base)
    add_adapter(model, LoraTable(adapter=str(adapter)), base.name)
    has_own = any((adapter / file).is_file() for file in TOKENIZER_FILES)
    tokenizer = read_tokenizer(replace(base, name=str(adapter)) if has_own else base)
    if len(tokenizer) > num_rows(model):
        raise ModelError(
            f"the tokenizer in {printable(adapter)} has {len(tokenizer)} tokens, and the base {shown(base.name)} has "
            f"{num_rows(model)} rows. It is another model than the adapter was trained beside."
        )
    unfinished = folder.with_name(f"{folder.name}.unfinished")
    with reading(f"the folder {printable(folder)}", "Give another one with --to.", "model"):
        remove(unfinished)
        once = {id(weight): name for name, weight in reversed(list(base_tensors(model)))}
        weights = {name: weight for name, weight in merged_weights(model) if name in once.values()}
        model.save_pretrained(unfinished, state_dict=weights)
        tokenizer.save_pretrained(unfinished)
        unfinished.rename(folder)
    return folder


def _base_of(adapter: Path) -> Source:
    """Return where the base lies, and how the run read it."""
    name = read_json(adapter / CONFIG, str(adapter)).get("base_model_name_or_path")
    beside = adapter / "base"
    # The folder may have been moved since.
    found = str(beside) if (beside / "config.json").is_file() else name
    if not isinstance(found, str):
        raise ModelError(
            f"{printable(adapter / CONFIG)} does not say where the base is (base_model_name_or_path). Write it there."
        )
    table = {}
    # No run has saved an adapter that has none.
    with suppress(RunFileError):
        table = read_tables(adapter / RUN_FILE).get("model", {})
    return Source(
        found,
        str(table.get("dtype", "auto")),
        table.get("attn_implementation"),
        bool(table.get("trust_remote_code", False)),
        "base_model_name_or_path",
    )
