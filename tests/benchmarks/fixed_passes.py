"""What the passes before the updates cost: the log-probs of the old policy and of the reference, with an adapter.

Shares of the processor time of the updates of one run that replays completions: what one joined pass could share at most
(all but layers and head), and what the old policy's log-probs of the first update cost, which that update computes itself.

    python tests/benchmarks/fixed_passes.py
"""

import json
import tempfile
import time
from argparse import ArgumentParser
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

from measuring import new_table, show
from torch import Tensor
from transformers.models.qwen3.modeling_qwen3 import Qwen3DecoderLayer

from plugrad import RunFile, train
from plugrad.policy.micro_batches import MicroBatch
from plugrad.policy.outputs import Outputs
from plugrad.trainer import loop
from plugrad.trainer.record.display import Silent
from plugrad.trainer.update import fixed_scores
from plugrad.trainer.update.learner import Learner

LENGTHS = (20, 60, 120, 200)
"""Characters of the completions."""


class Clock:
    """Seconds of processor time by name, of calls that are replaced by ones that are timed."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self.inside: str | None = None
        """What layers and head are part of; None outside of the passes before the updates."""

    def timed(self, owner: Any, name: str, label: Callable[..., str | None]) -> None:
        """Let `owner.name` add its seconds to what `label` calls it; to nothing where it returns None."""
        real = getattr(owner, name)

        def call(*args: Any, **kwargs: Any) -> Any:
            started = time.process_time()
            try:
                return real(*args, **kwargs)
            finally:
                if (found := label(*args, **kwargs)) is not None:
                    self.seconds[found] += time.process_time() - started

        setattr(owner, name, call)


def run_file(folder: Path, updates: int, steps: int, hidden: int) -> RunFile:
    """Return a run of replayed completions with an adapter and a reference."""
    lines = [{"prompt": "repeat: ", "reference": "abcdefgh" * (n // 8)} for n in LENGTHS for _ in range(8)]
    (folder / "texts.jsonl").write_text("\n".join(map(json.dumps, lines)) + "\n", encoding="utf-8")
    sizes = {"hidden_size": hidden, "intermediate_size": 3 * hidden, "num_hidden_layers": 6, "vocab_size": 8192}
    return RunFile(
        output_dir=str(folder / "run"),
        search_paths=[str(folder)],
        max_steps=steps,
        updates_per_batch=updates,
        metrics=["reward"],
        model={"from_scratch": {"model_type": "qwen3", **sizes}, "lora": {}},
        environment={"name": "jsonl", "kwargs": {"path": "texts.jsonl"}},
        rollout={"engine": "dataset", "prompts_per_step": 16, "rollouts_per_example": 1},
        loss=[{"name": "ppo_clip"}, {"name": "kl_to_reference", "weight": 0.1}],
        advantage={"name": "constant"},
        capture={"on_failure": False},
    )


def main() -> None:
    """Train, and print the table."""
    parser = ArgumentParser()
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--hidden", type=int, default=384)
    parser.add_argument("--updates", type=int, default=2)
    given = parser.parse_args()
    clock = Clock()
    clock.timed(loop, "run_updates", lambda *args, **kwargs: "updates")
    real = fixed_scores.fixed_logprobs

    def noted(learner: Learner, on_device: MicroBatch, field: str) -> Tensor:
        clock.inside = "layers and head"
        try:
            return real(learner, on_device, field)
        finally:
            clock.inside = None

    fixed_scores.fixed_logprobs = noted
    clock.timed(fixed_scores, "fixed_logprobs", lambda learner, batch, field: field)
    clock.timed(Qwen3DecoderLayer, "forward", lambda *args, **kwargs: clock.inside)
    clock.timed(Outputs, "scores", lambda *args, **kwargs: clock.inside)
    with tempfile.TemporaryDirectory() as folder:
        train(run_file(Path(folder), given.updates, given.steps, given.hidden), display=Silent())
    seconds = clock.seconds
    whole, old = seconds["updates"], seconds["old_logprobs"]
    rest = old + seconds["ref_logprobs"] - seconds["layers and head"]
    # Those of the first update are not computed: they would cost what each of the others costs.
    saved = old / (given.updates - 1)
    table = new_table(f"{given.steps} steps of {given.updates} updates, an adapter", "seconds", "share")
    for name, found in (
        ("updates, with the passes before them", whole),
        ("log-probs of the old policy, but for the first update", old),
        ("log-probs of the reference", seconds["ref_logprobs"]),
        ("all of both but layers and head: what one joined pass could share at most", rest),
        ("what the first update saves, as a share of what it would be", saved),
    ):
        table.add_row(name, f"{found:.2f}", f"{found / (whole + saved * (found is saved)):.1%}")
    show("Passes before the updates, processor time", table)


if __name__ == "__main__":
    main()
