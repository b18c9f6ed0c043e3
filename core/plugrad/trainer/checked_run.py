"""Everything that is checked before a model is loaded, and what the checks resolve."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from plugrad.config.rank_shares import check_shares
from plugrad.config.run_file import RunFile
from plugrad.errors import RunFileError
from plugrad.host.environment import BoundEnvironment
from plugrad.host.select import Selection, resolved
from plugrad.policy.from_scratch import with_small_defaults
from plugrad.policy.loading import quiet_transformers
from plugrad.policy.lora_config import check_lora
from plugrad.policy.quantised import check_quantised
from plugrad.registry.copied_process import tell_again
from plugrad.registry.provenance import record
from plugrad.trainer.checked_plugins import check_plugins
from plugrad.trainer.engines import check_engine, check_plays, engine_record
from plugrad.trainer.held_out_sets import examples_of_set
from plugrad.trainer.ranks.agreement import check_same_everywhere
from plugrad.trainer.ranks.ranks import Ranks
from plugrad.trainer.record.run_folder import check_run_folder
from plugrad.trainer.tracking.check_tracking import check_tracking


@dataclass(frozen=True)
class CheckedRun:
    """A run whose plugins, options, examples and folder have passed every check that needs no model."""

    run_file: RunFile
    """Resolved: every default written, every path absolute."""
    selection: Selection
    environment: BoundEnvironment
    of_sets: Mapping[str, BoundEnvironment]
    """Of held-out sets that have one of their own, by the name of the set."""
    plugins: Mapping[str, Any]
    """What `plugins.json` records, as far as it is known before the engine is open."""


def check_run(
    run_file: RunFile, ranks: Ranks, *, overwrite: bool, resume: bool = False, num_processes: int | None
) -> CheckedRun:
    """Check a run on every rank; if one refuses it, all raise.

    Raises:
        PlugradError: a plugin, an option, an example, the engine or the run folder cannot be used.
    """
    tell_again()
    ranks.together(lambda: _check_processes(run_file, num_processes, ranks))
    ranks.on_main(lambda: check_run_folder(Path(run_file.output_dir), overwrite=overwrite, resume=resume))
    ranks.together(lambda: check_engine(run_file, ranks))
    ranks.on_main(lambda: check_tracking(run_file.tracking))
    quiet_transformers()
    selection, environment, of_sets = ranks.together(lambda: check_plugins(run_file))
    ranks.together(lambda: check_plays(run_file, environment, of_sets))
    ranks.together(lambda: check_quantised(run_file))
    ranks.together(lambda: _check_lora(run_file, selection))
    components = record(selection.components(), selection.of_sets)
    plugins = {
        "num_processes": ranks.count,
        "learns_from_rewards": selection.learns_from_rewards,
        "engine": engine_record(run_file),
        **components,
    }
    examples = {name: examples_of_set(name, bound) for name, bound in of_sets.items()}
    check_same_everywhere(ranks, plugins, environment, examples)
    return CheckedRun(_with_model_defaults(resolved(run_file, selection)), selection, environment, of_sets, plugins)


def _check_processes(run_file: RunFile, num_processes: int | None, ranks: Ranks) -> None:
    if num_processes not in (None, ranks.count):
        raise RunFileError(
            f"--num-processes is {num_processes}, but {ranks.count} were started. Leave it out if you use a launcher of "
            "your own; otherwise start plugrad without one."
        )
    check_shares(run_file, ranks.count)


def _check_lora(run_file: RunFile, selection: Selection) -> None:
    config = check_lora(run_file.model.lora)
    mixing = [loss.label for loss in selection.losses if loss.facts.whole_batch]
    if mixing and config is not None and config.lora_dropout:
        raise RunFileError(
            f"[model.lora] has a dropout of {config.lora_dropout}, and the loss {mixing[0]!r} takes the whole batch at once."
            " Such a loss is computed before the passes with gradient, without dropout, so its gradient would be that of "
            "another policy. Set dropout = 0."
        )


def _with_model_defaults(run_file: RunFile) -> RunFile:
    fields = run_file.model.from_scratch
    if fields is None:
        return run_file
    model = run_file.model.model_copy(update={"from_scratch": with_small_defaults(fields)})
    return run_file.model_copy(update={"model": model})
