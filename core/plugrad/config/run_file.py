"""The run file: its top-level keys and its tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, ValidationError, model_validator

from plugrad.config.override import Override
from plugrad.config.prime_rl import from_prime_rl
from plugrad.config.reading import check_depth, read_tables
from plugrad.config.tables.capture_table import CaptureTable
from plugrad.config.tables.checkpoint_table import CheckpointTable
from plugrad.config.tables.component_tables import AdvantageTable, EnvironmentTable, ExtensionTable, LossTable, MetricTable
from plugrad.config.tables.critic_table import CriticTable
from plugrad.config.tables.evaluation_table import PREFIX, EvaluationTable
from plugrad.config.tables.memory_table import MemoryTable
from plugrad.config.tables.model_table import ModelTable
from plugrad.config.tables.number_types import Count, Seconds, Seed
from plugrad.config.tables.optimizer_table import OptimizerTable
from plugrad.config.tables.plugins_table import PluginsTable
from plugrad.config.tables.profile_table import ProfileTable
from plugrad.config.tables.rollout_table import RolloutTable
from plugrad.config.tables.samples_table import SamplesTable
from plugrad.config.tables.table import Table
from plugrad.config.tables.tracking_table import TrackingTable
from plugrad.config.validation_errors import unusable
from plugrad.errors import RunFileError, did_you_mean
from plugrad.paths import absolute, working_directory
from plugrad.shown import shown


def _as_list(value: Any) -> Any:
    return [value] if isinstance(value, dict) else value


def _all_or_list(value: Any) -> Any:
    if value != "all" and not isinstance(value, list):
        raise ValueError('write "all" or a list such as ["reward", "entropy"]')
    return value


class RunFile(Table):
    """A whole run. `plugrad.RunFile.load(path)` reads one; `plugrad.train(run_file)` runs it.

    References and paths are looked up in `search_paths`, in order.

    Raises:
        RunFileError: names every wrong key, with suggestions.
    """

    output_dir: str = Field(
        default="runs/run",
        min_length=1,
        description="The run folder, relative to the working directory. Default: `runs/` and the run file's name.",
    )
    max_steps: Count = Field(
        default=100, description="Number of steps. Each one samples a batch of rollouts and trains on it."
    )
    seed: Seed = Field(default=0, description="Seed for data order, sampling and initialisation.")
    updates_per_batch: Count = Field(
        default=1, description="Optimizer updates per batch of rollouts. Must divide `prompts_per_step`."
    )
    tokens_per_micro_batch: Count = Field(
        default=16384,
        description="Maximum number of tokens in one training forward pass, including padding. Losses that run the policy "
        "again share it among their passes.",
    )
    preflight_timeout_s: Seconds = Field(
        default=60.0, description="Time limit in seconds for each component in the pre-flight check, before the model loads."
    )
    metrics: Annotated[Literal["all"] | list[str], BeforeValidator(_all_or_list)] = Field(
        default="all", description="Metrics to run: `all` that are installed, or a list of names."
    )
    search_paths: list[str] = Field(
        default=[],
        description="Folders to search for files and modules. Default: the run file's folder, then the working directory.",
    )
    model: ModelTable
    environment: EnvironmentTable
    rollout: RolloutTable = RolloutTable()
    loss: Annotated[list[LossTable], BeforeValidator(_as_list), Field(min_length=1)] = Field(
        default=[LossTable()], description="One loss, or several whose weighted sum is minimised."
    )
    advantage: AdvantageTable | None = Field(
        default=None, description="Default: `group_mean`, or `constant` with the engine `dataset`."
    )
    critic: CriticTable | None = Field(
        default=None, description="The values of states, for advantages and losses that need them. Default: none."
    )
    metric: Annotated[list[MetricTable], BeforeValidator(_as_list)] = Field(default=[], description="Metrics with options.")
    extension: Annotated[list[ExtensionTable], BeforeValidator(_as_list)] = Field(
        default=[], description="Extensions, applied in this order."
    )
    plugins: PluginsTable = PluginsTable()
    optimizer: OptimizerTable = OptimizerTable()
    memory: MemoryTable = MemoryTable()
    evaluation: EvaluationTable = EvaluationTable()
    checkpoint: CheckpointTable = CheckpointTable()
    profile: ProfileTable = ProfileTable()
    capture: CaptureTable = CaptureTable()
    samples: SamplesTable = SamplesTable()
    tracking: TrackingTable = TrackingTable()

    def __init__(self, /, **tables: Any) -> None:
        check_depth(tables)
        try:
            super().__init__(**tables)
        except ValidationError as error:
            raise unusable(type(self), error, tables, "the run file") from error

    @model_validator(mode="before")
    @classmethod
    def _accept_prime_rl(cls, tables: Any) -> Any:
        return from_prime_rl(tables) if isinstance(tables, dict) else tables

    @model_validator(mode="after")
    def _updates_divide_the_prompts(self) -> RunFile:
        if self.rollout.prompts_per_step % self.updates_per_batch:
            raise ValueError(
                f"updates_per_batch = {self.updates_per_batch} does not divide rollout.prompts_per_step = "
                f"{self.rollout.prompts_per_step}: a group is never split between updates"
            )
        return self

    @model_validator(mode="after")
    def _best_is_reported(self) -> RunFile:
        best, names = self.checkpoint.keep_best, self.evaluation.number_names
        if best is not None and best.startswith(f"{PREFIX}/") and not self.evaluation.may_report(best):
            found = f"reports {', '.join(names)}" if names else "is turned off: set evaluation.every_steps"
            raise ValueError(f"checkpoint.keep_best = {shown(best)}, and [evaluation] {found}{did_you_mean(best, names)}")
        return self

    @model_validator(mode="after")
    def _master_weights_differ(self) -> RunFile:
        if self.optimizer.master_weights and self.model.dtype in ("float32", "float64"):
            raise ValueError(
                f'optimizer.master_weights = true with model.dtype = "{self.model.dtype}" would change nothing: these '
                'weights take every update. Leave it out, or set model.dtype = "bfloat16"'
            )
        return self

    @classmethod
    def load(cls, path: str | Path, overrides: Sequence[str] = ()) -> RunFile:
        """Read a run file. `overrides` are `table.key=value`, as after `--set`.

        `search_paths` defaults to the run file's folder, then the working directory. `output_dir` defaults to `runs/` and
        the run file's name.

        Raises:
            RunFileError: the file is missing, is not TOML, or has a wrong key or value.
        """
        tables = read_tables(Path(path))
        for override in overrides:
            Override(override).apply(tables)
        return as_run_file(tables, Path(path))

    def with_absolute_paths(self, folders: Sequence[Path] | None = None) -> RunFile:
        """Return the run file with absolute paths, so it means the same from any working directory.

        Args:
            folders: where to look for files. Default: `search_paths`.
        """
        folders = [absolute(folder) for folder in folders or self.folders]
        return self.model_copy(
            update={
                "search_paths": list(dict.fromkeys(map(str, folders))),
                "output_dir": str(absolute(self.output_dir)),
                "model": self.model.with_absolute_paths(folders),
                "critic": self.critic and self.critic.with_absolute_paths(folders),
                "rollout": self.rollout.with_absolute_paths(folders),
            }
        )

    @property
    def folders(self) -> list[Path]:
        """`search_paths`, or the working directory if it is empty."""
        return [Path(folder) for folder in self.search_paths] or [working_directory()]

    @property
    def selected_advantage(self) -> AdvantageTable:
        """The advantage that runs: the one given, or the default for the engine."""
        return self.advantage or AdvantageTable(name="group_mean" if self.rollout.engine_kind.samples else "constant")


def as_run_file(tables: Mapping[str, Any], path: Path) -> RunFile:
    """Check the tables of the run file at `path`. Its location sets the default `search_paths` and `output_dir`.

    Raises:
        RunFileError: names every wrong key, with suggestions.
    """
    defaults = {"search_paths": [str(absolute(path).parent), str(working_directory())], "output_dir": f"runs/{path.stem}"}
    tables = {**defaults, **tables}
    try:
        return RunFile(**tables).with_absolute_paths()
    except RunFileError as error:
        if isinstance(error.__cause__, ValidationError):
            raise unusable(RunFile, error.__cause__, tables, str(path)) from error.__cause__
        raise
