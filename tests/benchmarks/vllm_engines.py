"""Tokens/s of each rollout engine, its start, and its weight updates: `nox -s bench_vllm -- engines`.

All engines are open at once and take turns. On the quickstart's model, and on one of 6 layers and 512 hidden features.
"""

import argparse
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from pathlib import Path
from statistics import median
from string import printable
from tempfile import TemporaryDirectory
from time import perf_counter

import torch
from measuring import console, in_turn, middle_half, new_table, seconds_of, show
from torch import Tensor

from plugrad import RunFile
from plugrad.policy.loading import LoadedModel, load_model
from plugrad.rollout.engine import Completion, Prompt, RolloutEngine, Sampling
from plugrad.rollout.prompts import tokenize_prompts
from plugrad.trainer.engines import open_engine
from plugrad.trainer.ranks.ranks import Ranks

MODELS = {
    "the quickstart's (0.5 million parameters)": {},
    "6 layers of 512 (19 million)": {
        "hidden_size": 512,
        "intermediate_size": 1536,
        "num_hidden_layers": 6,
        "num_attention_heads": 8,
        "num_key_value_heads": 8,
        "head_dim": 64,
    },
}
ENGINES = ("transformers", "vllm", "vllm-server")
GROUP = 8
MAX_NEW_TOKENS = 32


def run_file(engine: str, fields: Mapping[str, object], folder: Path, *, most: int) -> RunFile:
    """Return a run file for the engine and a model built from scratch."""
    return RunFile(
        output_dir=str(folder / engine),
        tokens_per_micro_batch=256,
        model={"from_scratch": {"model_type": "qwen3", **fields}},
        environment={"name": "arithmetic"},
        rollout={"engine": engine, "generation_batch_size": most, "max_new_tokens": MAX_NEW_TOKENS},
    )


@contextmanager
def opened(
    fields: Mapping[str, object], loaded: LoadedModel, most: int
) -> Iterator[tuple[dict[str, RolloutEngine], dict[str, float]]]:
    """Open every engine, with the model's weights; yield them, and the seconds that each took to start."""
    engines: dict[str, RolloutEngine] = {}
    seconds: dict[str, float] = {}
    with TemporaryDirectory() as name, ExitStack() as stack:
        for engine in ENGINES:
            started = perf_counter()
            engines[engine] = open_engine(run_file(engine, fields, Path(name), most=most), loaded, Ranks(), nullcontext)
            stack.callback(engines[engine].close)
            engines[engine].update_weights(weights_of(loaded), 0)
            seconds[engine] = perf_counter() - started
        yield engines, seconds


def weights_of(loaded: LoadedModel) -> list[tuple[str, Tensor]]:
    """Return the weights as a run hands them over."""
    return [(name, weight.detach()) for name, weight in loaded.model.state_dict(keep_vars=True).items()]


class Work:
    """Completes as many rollouts as are asked for at once, and counts their tokens."""

    def __init__(self, engine: RolloutEngine, prompts: Sequence[Prompt]) -> None:
        self._engine = engine
        self._prompts = prompts
        self.tokens: list[int] = []

    def __call__(self) -> None:
        """Complete them once."""
        sampling = Sampling(GROUP, MAX_NEW_TOKENS, temperature=1.0, seed=len(self.tokens))
        groups: list[list[Completion]] = self._engine.generate(self._prompts, sampling)
        self.tokens.append(sum(len(completion.ids) for group in groups for completion in group))


def tokens_per_s(work: Mapping[str, Work], rounds: int) -> dict[str, list[float]]:
    """Return the tokens/s of each engine, round by round."""
    seconds = in_turn(work, rounds=rounds, warm_up=0)
    return {
        name: [tokens / taken for tokens, taken in zip(work[name].tokens[-rounds:], own, strict=True)]
        for name, own in seconds.items()
    }


def measure(title: str, fields: Mapping[str, object], arguments: argparse.Namespace) -> None:
    """Show the tables of one model."""
    table_file = run_file("transformers", fields, Path(), most=1)
    loaded = load_model(table_file.model, [printable])
    with opened(fields, loaded, max(arguments.rollouts)) as (engines, started):
        first = {name: seconds_of(Work(engine, prompts_of(loaded, 1))) for name, engine in engines.items()}
        speeds = new_table("ENGINE", *(f"{count:,} ROLLOUTS" for count in arguments.rollouts))
        rows: dict[str, list[str]] = {name: [] for name in engines}
        for count in arguments.rollouts:
            work = {name: Work(engine, prompts_of(loaded, count // GROUP)) for name, engine in engines.items()}
            for name, own in tokens_per_s(work, arguments.rounds).items():
                rows[name].append(f"{median(own):,.0f} ({min(own):,.0f} to {max(own):,.0f})")
        for name, row in rows.items():
            speeds.add_row(name, *row)
        show(f"{title}: tokens/s, groups of {GROUP}, at most {MAX_NEW_TOKENS} new tokens", speeds)
        updates = in_turn(
            {name: lambda engine=engine: engine.update_weights(weights_of(loaded), 1) for name, engine in engines.items()},
            rounds=2 * arguments.rounds,
        )
        times = new_table("ENGINE", "START, S", "FIRST ROLLOUTS, S", "WEIGHT UPDATE, S", "MIDDLE HALF")
        for name, own in updates.items():
            cells = (f"{started[name]:.1f}", f"{first[name]:.2f}", f"{median(own):.3f}", middle_half(own, ".3f"))
            times.add_row(name, *cells)
        show(f"{title}: start and updates (vllm in memory, vllm-server through a folder)", times)


def prompts_of(loaded: LoadedModel, count: int) -> list[Prompt]:
    """Return different short prompts."""
    examples = [{"example_id": i, "prompt": f"{i:04d}+{i * 7 % 10_000:04d}="} for i in range(count)]
    return tokenize_prompts(examples, loaded.tokenizer, room=None)


def main() -> None:
    """Show the tables of both models."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rollouts", type=int, nargs="+", default=[64, 256, 1024], help="at once; multiples of 8")
    parser.add_argument("--models", type=int, nargs="+", default=[0, 1], help="0: the quickstart's, 1: the larger one")
    parser.add_argument("--rounds", type=int, default=3, help="of each engine")
    arguments = parser.parse_args()
    # A server of the run's own leaves half of the cores to the others: with two of them, one.
    torch.set_num_threads(1)
    for model in arguments.models:
        measure(list(MODELS)[model], list(MODELS.values())[model], arguments)
    console.print("one vLLM server; one core for each engine, which take turns")


if __name__ == "__main__":
    main()
