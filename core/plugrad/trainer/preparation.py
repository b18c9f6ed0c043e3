"""Everything that a run is made of, from a checked selection: models, engines, hooks and the order of examples."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from accelerate import Accelerator
from accelerate.utils import DistributedType, set_seed

from plugrad.config.run_file import RunFile
from plugrad.contracts.environment import Example
from plugrad.errors import DataError
from plugrad.host.environment import BoundEnvironment
from plugrad.host.hooks import Hooks, Host
from plugrad.host.select import Selection
from plugrad.policy.loading import context_length, load_model
from plugrad.trainer.batch.data_order import batches_of
from plugrad.trainer.batch.prefetch import Ahead, Drawing, Rollouts, WhenNeeded, sampling_of
from plugrad.trainer.batch.sampler import Sampler
from plugrad.trainer.batch.sequence_limits import check_examples_fit
from plugrad.trainer.engine_parity import (
    MAX_NEW_TOKENS,
    NUM_PROMPTS,
    NothingToCompare,
    Parity,
    SampleAndScore,
    default_bound,
)
from plugrad.trainer.engines import check_sampling_when_sharded, open_engine, open_sampling_engine
from plugrad.trainer.evaluation import Evaluation
from plugrad.trainer.loop import Training
from plugrad.trainer.ranks.interrupts import StopRequest
from plugrad.trainer.ranks.ranks import Ranks
from plugrad.trainer.record.display import Display
from plugrad.trainer.record.run_folder import MetricsFile, Records
from plugrad.trainer.run import Run
from plugrad.trainer.update.learner import Learner, make_learner


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
    if accelerator.distributed_type == DistributedType.FSDP:
        check_sampling_when_sharded(run_file, samples_greedily=compares_with_greedy)
    folder = Path(run_file.output_dir)
    set_seed(run_file.seed)
    loaded = load_model(run_file.model, _texts([*train_examples, *eval_examples]))
    room = context_length(loaded.model)
    room = None if room is None else room - run_file.rollout.max_new_tokens
    check_examples_fit(train_examples, eval_examples, loaded.tokenizer, run_file, room)
    learner = make_learner(run_file, loaded, selection.needs, accelerator, ranks)
    extensions = [(component, component.create()) for component in selection.extensions]
    # Last: what a failure above leaves behind needs no closing.
    engine = open_engine(run_file, loaded, ranks)
    sampler = Sampler(engine, environment, loaded.tokenizer, room)
    samples = replace(sampler, engine=open_sampling_engine(engine, run_file, loaded, ranks))
    batches = batches_of(train_examples, run_file.rollout.prompts_per_step, run_file.seed)
    drawing = Drawing(
        (ranks.share_of(batch) for batch in batches),
        sampler,
        sampling_of(run_file, ranks.index),
        samples if compares_with_greedy else None,
    )
    return Training(
        run=Run(run_file, folder, ranks.count),
        learner=learner,
        losses=selection.losses,
        hooks=Hooks(Host(selection.advantage, selection.metrics), extensions),
        environment=environment,
        engine=engine,
        rollouts=_rollouts(run_file, drawing),
        parity=_parity(run_file, sampler, learner, train_examples),
        evaluation=_evaluation(run_file, samples, eval_examples, ranks),
        records=MetricsFile(folder) if ranks.is_main else Records(),
        display=display,
        stop=stop,
    )


def _rollouts(run_file: RunFile, drawing: Drawing) -> Rollouts:
    staleness = run_file.rollout.max_staleness
    return Ahead(drawing, staleness, run_file.max_steps) if staleness else WhenNeeded(drawing)


def _parity(run_file: RunFile, sampler: Sampler, learner: Learner, examples: Sequence[Example]) -> Parity:
    table = run_file.rollout
    if not table.engine_kind.samples:
        return NothingToCompare()
    sampling = sampling_of(run_file, learner.ranks.index)(-1)
    return SampleAndScore(
        sampler.engine,
        learner,
        sampler.prompts(examples[:NUM_PROMPTS]),
        replace(sampling, num_completions=1, max_new_tokens=min(table.max_new_tokens, MAX_NEW_TOKENS)),
        table.parity_every_steps,
        table.parity_bound or default_bound(next(learner.policy.parameters()).dtype),
    )


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
