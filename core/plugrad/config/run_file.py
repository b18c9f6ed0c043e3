"""The run file's tables. Every key is here, with its type, default and meaning."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    PositiveFloat,
    PositiveInt,
    ValidationError,
    model_validator,
)

from plugrad.config.prime_rl import from_prime_rl
from plugrad.config.server_table import ServerTable
from plugrad.config.table import Table
from plugrad.config.validation_errors import unusable
from plugrad.config.vllm_table import VllmTable
from plugrad.contracts.markers import Reduction

Options = dict[str, Any]
Probability = Annotated[float, Field(ge=0, lt=1)]


class FrozenModelTable(Table):
    """`[model.reference]` and `[model.teacher]`: a frozen model that scores the sampled tokens."""

    name: str = Field(description="A hub id or a local folder.")
    dtype: Literal["auto", "float32", "bfloat16", "float16", "float64"] | None = Field(
        default=None, description="Default: the policy's."
    )


class ModelTable(Table):
    """`[model]`: the policy. Give `name` or `[model.from_scratch]`."""

    name: str | None = Field(default=None, description="Any causal LM that Transformers loads: a hub id or a local folder.")
    from_scratch: Options | None = Field(
        default=None,
        description="Build a new model: `model_type`, and that Transformers configuration's own field names. "
        "A character tokenizer is made from the environment's texts.",
    )
    dtype: Literal["auto", "float32", "bfloat16", "float16", "float64"] = Field(
        default="float32", description="Of the weights. Small updates of 16-bit weights round to nothing."
    )
    attn_implementation: str | None = Field(default=None, description="Passed to Transformers; default: its own choice.")
    gradient_checkpointing: bool = Field(
        default=False, description="Recompute activations in the backward pass to save memory."
    )
    reference: FrozenModelTable | None = Field(
        default=None, description="For losses that need `ref_logprobs`; default: the model as it was at the start."
    )
    teacher: FrozenModelTable | None = Field(default=None, description="For losses that use `teacher_logprobs`.")

    @model_validator(mode="after")
    def _one_model(self) -> ModelTable:
        if (self.name is None) == (self.from_scratch is None):
            raise ValueError("give either `name` (a hub id or folder) or a table [model.from_scratch], and not both")
        return self


class ComponentTable(Table):
    """A component and its options."""

    name: str = Field(description="`name`, `package/name`, `module:function` or `file.py:function`.")
    kwargs: Options = Field(default={}, description="Its options, checked against its signature.")


class EnvironmentTable(ComponentTable):
    """`[environment]`: where examples and rewards come from."""


class ExtensionTable(ComponentTable):
    """`[[extension]]`: wraps hooks; the first one changes the inputs first."""


class MetricTable(ComponentTable):
    """`[[metric]]`: a metric with options."""


class AdvantageTable(ComponentTable):
    """`[advantage]`: turns rewards into advantages."""


class LossTable(ComponentTable):
    """`[loss]`, or several `[[loss]]`: the objective is their weighted sum."""

    name: str = Field(
        default="importance_sampling", description="`name`, `package/name`, `module:function` or `file.py:function`."
    )
    weight: float = Field(default=1.0, description="Its factor in the objective.")
    reduction: Reduction | None = Field(default=None, description="Default: what the loss declares.")


class RolloutTable(Table):
    """`[rollout]`: how completions are sampled. Counts are over all ranks."""

    engine: Literal["transformers", "vllm", "vllm-server", "dataset"] = Field(
        default="transformers",
        description="`transformers` and `vllm` sample in the training process, `vllm-server` asks vLLM servers over HTTP, "
        "`dataset` replays each `reference`.",
    )
    prompts_per_step: PositiveInt = Field(default=32, description="Examples in a batch of rollouts.")
    rollouts_per_example: PositiveInt = Field(default=8, description="Completions of each prompt: the size of a group.")
    max_new_tokens: PositiveInt = Field(default=64, description="In tokens, the end-of-sequence token included.")
    temperature: PositiveFloat = Field(default=1.0, description="Samples come from softmax(logits / temperature).")
    generation_batch_size: PositiveInt = Field(default=512, description="Sequences that are generated at once.")
    max_staleness: Annotated[int, Field(ge=0)] = Field(
        default=0,
        description="Steps that the policy may be ahead of the one that sampled a batch: 0 samples each batch when it is "
        "needed, 1 samples the next one while this one is trained on.",
    )
    parity_every_steps: PositiveInt = Field(
        default=20,
        description="How often the trainer scores a few of the engine's completions, besides before the first step and "
        "after the first update.",
    )
    parity_bound: PositiveFloat | None = Field(
        default=None,
        description="The mean difference of their log-probs, in nats, that ends the run; default: 0.001, and 0.1 where the "
        "weights have 16 bits.",
    )
    vllm: VllmTable = VllmTable()
    server: ServerTable = ServerTable()

    @property
    def samples(self) -> bool:
        """Whether the engine samples from the policy: the others replay."""
        return self.engine != "dataset"

    @model_validator(mode="after")
    def _samples_ahead_only_with_its_own_weights(self) -> RolloutTable:
        if self.max_staleness and self.engine in ("transformers", "dataset"):
            raise ValueError(
                f'max_staleness = {self.max_staleness} samples while the policy trains, and "{self.engine}" has no '
                'weights of its own: set engine = "vllm" or "vllm-server", or max_staleness = 0'
            )
        if self.max_staleness and self.engine == "vllm" and self.vllm.tensor_parallel_size > 1:
            raise ValueError(
                "max_staleness and vllm.tensor_parallel_size > 1 do not go together: ranks that share an engine must ask it "
                'for the same at the same time. Set engine = "vllm-server", or one of the two back'
            )
        return self


class OptimizerTable(Table):
    """`[optimizer]`: AdamW, its schedule and clipping."""

    lr: PositiveFloat = Field(default=1e-5, description="The peak learning rate.")
    betas: list[Probability] = Field(default=[0.9, 0.999], min_length=2, max_length=2, description="AdamW's two.")
    eps: PositiveFloat = Field(default=1e-8, description="AdamW's.")
    weight_decay: Annotated[float, Field(ge=0)] = Field(default=0.0, description="AdamW's.")
    schedule: Literal["constant", "linear", "cosine"] = Field(
        default="constant", description="Of the learning rate, after the warm-up: Transformers' own."
    )
    warmup_updates: Annotated[int, Field(ge=0)] = Field(default=0, description="Updates over which lr rises from 0.")
    max_grad_norm: PositiveFloat = Field(default=1.0, description="Gradients are clipped to this norm.")


class EvaluationTable(Table):
    """`[evaluation]`: greedy completions of held-out examples."""

    every_steps: Annotated[int, Field(ge=0)] = Field(
        default=0, description="Evaluate every so many steps, and before the first and after the last; 0: never."
    )
    num_examples: PositiveInt = Field(default=256, description="At most so many held-out examples, always the same.")
    stop_at_reward: float | None = Field(
        default=None, description="End the run once the mean held-out reward is this or more."
    )

    @model_validator(mode="after")
    def _stops_only_if_it_looks(self) -> EvaluationTable:
        if self.stop_at_reward is not None and not self.every_steps:
            raise ValueError("stop_at_reward needs every_steps: set how often to evaluate")
        return self


def _is_plugin(value: str) -> str:
    if not all(value.split("/")) or value.count("/") > 2 or value != value.strip() or ":" in value:
        raise ValueError('write a package, as "plugrad-broken", or a kind and a name, as "metric/slow"')
    return value


class PluginsTable(Table):
    """`[plugins]`: what is installed and is not to be used."""

    disable: list[Annotated[str, AfterValidator(_is_plugin)]] = Field(
        default=[],
        description='Never imported: packages, and components as `kind/name` or `kind/package/name`, such as "metric/slow".',
    )


def _as_list(value: Any) -> Any:
    return [value] if isinstance(value, dict) else value


def _all_or_list(value: Any) -> Any:
    if value != "all" and not isinstance(value, list):
        raise ValueError('write "all", or a list such as ["reward", "entropy"]')
    return value


class RunFile(Table):
    """A whole run. `plugrad.RunFile.load(path)` reads one; `plugrad.train(run_file)` runs it.

    References and paths are looked up in `search_paths`, in order.

    Raises:
        RunFileError: naming every key that is wrong, with a suggestion.
    """

    output_dir: str = Field(
        default="runs/run",
        min_length=1,
        description="The run folder, relative to the working directory; default: `runs/` and the run file's name.",
    )
    max_steps: PositiveInt = Field(default=100, description="Batches of rollouts.")
    seed: int = Field(default=0, description="Of everything random.")
    updates_per_batch: PositiveInt = Field(
        default=1, description="Optimizer updates per batch of rollouts; divides the prompts per step."
    )
    tokens_per_micro_batch: PositiveInt = Field(
        default=16384, description="The most tokens, padding included, in one forward pass with gradient."
    )
    preflight_timeout_s: PositiveFloat = Field(
        default=60.0, description="Seconds that one component may take when it is tried before the model loads."
    )
    metrics: Annotated[Literal["all"] | list[str], BeforeValidator(_all_or_list)] = Field(
        default="all", description="Which metrics run: all that are installed, or a list."
    )
    search_paths: list[str] = Field(
        default=[],
        description="Folders where files and modules are looked up; default: the run file's, then the working directory.",
    )
    model: ModelTable
    environment: EnvironmentTable
    rollout: RolloutTable = RolloutTable()
    loss: Annotated[list[LossTable], BeforeValidator(_as_list), Field(min_length=1)] = Field(
        default=[LossTable()], description="One table, or several."
    )
    advantage: AdvantageTable | None = Field(
        default=None, description="Default: `group_mean`, or `constant` where the engine is `dataset`."
    )
    metric: Annotated[list[MetricTable], BeforeValidator(_as_list)] = Field(default=[], description="Metrics with options.")
    extension: Annotated[list[ExtensionTable], BeforeValidator(_as_list)] = Field(default=[], description="In their order.")
    plugins: PluginsTable = PluginsTable()
    optimizer: OptimizerTable = OptimizerTable()
    evaluation: EvaluationTable = EvaluationTable()

    def __init__(self, **tables: Any) -> None:
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
                f"{self.rollout.prompts_per_step}: a group goes whole into one update"
            )
        return self

    @classmethod
    def load(cls, path: str | Path, overrides: Sequence[str] = ()) -> RunFile:
        """Read a run file; `overrides` are `table.key=value`, as after `--set`.

        Raises:
            RunFileError: it is not there, not TOML, or says what cannot be.
        """
        from plugrad.config.reading import read_run_file

        return read_run_file(Path(path), overrides)

    @property
    def folders(self) -> list[Path]:
        """`search_paths`, or the working directory where there are none."""
        return [Path(folder) for folder in self.search_paths] or [Path.cwd()]

    @property
    def selected_advantage(self) -> AdvantageTable:
        """The advantage that runs."""
        replays = self.rollout.engine == "dataset"
        return self.advantage or AdvantageTable(name="constant" if replays else "group_mean")
