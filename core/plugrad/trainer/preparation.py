"""Everything that a run is made of, from a checked selection: models, engines, hooks and the order of examples."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from accelerate import Accelerator
from accelerate.utils import DistributedType, set_seed

from plugrad.config.run_file import RunFile
from plugrad.contracts.environment import Example
from plugrad.errors import DataError, RunFileError
from plugrad.host.environment import BoundEnvironment
from plugrad.host.hooks import Hooks, Host
from plugrad.host.select import Selection
from plugrad.policy.loading import LoadedModel, context_length, load_model
from plugrad.rollout.dataset import DatasetEngine
from plugrad.rollout.engine import RolloutEngine
from plugrad.rollout.transformers import TransformersEngine
from plugrad.trainer.collect import Sampler
from plugrad.trainer.display import Display
from plugrad.trainer.evaluation import Evaluation
from plugrad.trainer.examples import batches_of
from plugrad.trainer.fitting import check_examples_fit
from plugrad.trainer.folder import MetricsFile, Records
from plugrad.trainer.interrupts import StopRequest
from plugrad.trainer.learner import make_learner
from plugrad.trainer.loop import Training
from plugrad.trainer.ranks import Ranks
from plugrad.trainer.run import Run


def prepare(
    run_file: RunFile,
    selection: Selection,
    environment: BoundEnvironment,
    accelerator: Accelerator,
    ranks: Ranks,
    display: Display,
    stop: StopRequest,
) -> Training:
    """Load the models and put the run together. Nothing is written.

    Raises:
        ModelError: a model cannot be loaded.
        DataError: an example cannot be used with it.
    """
    train_examples, eval_examples = environment.train_examples(), environment.eval_examples()
    if run_file.evaluation.every_steps and not eval_examples:
        raise DataError(
            f"{environment.component} has no held-out examples: set evaluation.every_steps = 0, or give it some."
        )
    compares_with_greedy = "greedy_rewards" in selection.advantage.needs
    _refuse_sampling_when_sharded(run_file, accelerator, compares_with_greedy)
    folder = Path(run_file.output_dir)
    set_seed(run_file.seed)
    loaded = load_model(run_file.model, _texts([*train_examples, *eval_examples]))
    room = context_length(loaded.model)
    room = None if room is None else room - run_file.rollout.max_new_tokens
    check_examples_fit(train_examples, eval_examples, loaded.tokenizer, run_file, room)
    learner = make_learner(run_file, loaded, selection.needs, accelerator, ranks)
    extensions = [(component, component.create()) for component in selection.extensions]
    sampling_engine = TransformersEngine(loaded.model, loaded.tokenizer, run_file.rollout.generation_batch_size)
    sampling = Sampler(sampling_engine, environment, loaded.tokenizer, room)
    return Training(
        run=Run(run_file, folder, ranks.count),
        learner=learner,
        losses=selection.losses,
        hooks=Hooks(Host(selection.advantage, selection.metrics), extensions),
        batches=batches_of(train_examples, run_file.rollout.prompts_per_step, run_file.seed),
        sampler=Sampler(_engine(run_file, loaded, sampling_engine), environment, loaded.tokenizer, room),
        # Beside an engine that replays, these still sample.
        greedy=sampling if compares_with_greedy else None,
        evaluation=_evaluation(run_file, sampling, eval_examples, ranks),
        records=MetricsFile(folder) if ranks.is_main else Records(),
        display=display,
        stop=stop,
    )


def _refuse_sampling_when_sharded(run_file: RunFile, accelerator: Accelerator, compares_with_greedy: bool) -> None:
    if accelerator.distributed_type != DistributedType.FSDP:
        return
    for key, samples in {
        "rollout.engine": run_file.rollout.engine == "transformers",
        "evaluation.every_steps": run_file.evaluation.every_steps > 0,
        "the advantage": compares_with_greedy,
    }.items():
        if samples:
            raise RunFileError(
                f"{key} asks Transformers to generate with the policy itself, which FSDP2 has cut into shards. Train "
                'without sharding (distributed_type: MULTI_GPU), or replay completions (rollout.engine = "dataset", '
                "evaluation.every_steps = 0)."
            )


def _engine(run_file: RunFile, loaded: LoadedModel, sampling_engine: RolloutEngine) -> RolloutEngine:
    return DatasetEngine(loaded.tokenizer) if run_file.rollout.engine == "dataset" else sampling_engine


def _evaluation(run_file: RunFile, sampler: Sampler, examples: Sequence[Example], ranks: Ranks) -> Evaluation:
    table = run_file.evaluation
    return Evaluation(
        sampler,
        examples[: table.num_examples],
        run_file.rollout.max_new_tokens,
        table.every_steps,
        table.stop_at_reward,
        ranks,
    )


def _texts(examples: Iterable[Example]) -> Iterator[str]:
    for example in examples:
        for column in ("prompt", "reference"):
            if isinstance(example.get(column), str):
                yield example[column]
