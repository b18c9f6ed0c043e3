"""The share of a training step that goes into checking plugins' calls: `python -m nox -s bench -- call_checks`.

Steps run under Python's profiler, which adds to every Python call and therefore makes the share larger than it is.
"""

from cProfile import Profile
from pathlib import Path
from pstats import Stats
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import sequence_adapter_in_training
import torch
from experiment import recorded
from measuring import new_table, show
from plugrad_work import run_file

from plugrad import RunFile, train
from plugrad.trainer.record.display import Silent

STEPS = 8
VOCABULARY, NUM_PROMPTS = 16_384, 8
CHECKS = {
    "received.py": ("of", "changed"),
    "no_backward.py": ("__enter__", "__exit__"),
    "process_state.py": ("__enter__", "__exit__"),
    "calls_in_progress.py": ("__enter__", "__exit__"),
    "loss.py": ("check_batch_outputs",),
    "advantage.py": ("check_advantages",),
    "environment_scores.py": ("list_of_scores", "write_score", "take_over"),
    "reported.py": ("add_reported",),
    "prepared.py": ("check_prepared",),
}
"""Functions of `plugrad.host` and `plugrad.registry` whose time counts as checking; none calls another one of them."""


def runs(folder: Path) -> dict[str, RunFile]:
    """Return the quickstart's second stage, whose steps are the shortest, and a step with completions of some length."""
    quickstart = sequence_adapter_in_training.run_file("in_batch_form", folder / "quickstart")
    experiment = recorded(folder, STEPS, vocabulary=VOCABULARY, num_prompts=NUM_PROMPTS)
    return {"quickstart": quickstart.model_copy(update={"max_steps": STEPS}), "recorded": run_file(experiment)}


def profiled(run: RunFile) -> tuple[list[dict[str, Any]], Stats]:
    """Train under the profiler."""
    profile = Profile()
    records = profile.runcall(train, run, display=Silent()).records
    return records, Stats(profile)


def seconds_by_check(stats: Stats) -> dict[str, float]:
    """Return the seconds, with all that it calls, of each check."""
    found = dict.fromkeys(CHECKS, 0.0)
    for (path, _, function), (_, _, _, cumulative, _) in stats.stats.items():  # type: ignore[attr-defined]
        file = Path(path)
        if file.parent.name in ("host", "registry") and function in CHECKS.get(file.name, ()):
            found[file.name] += cumulative
    return found


def main() -> None:
    """Show one table a run."""
    torch.set_num_threads(1)
    with TemporaryDirectory() as folder:
        for label, run in runs(Path(folder)).items():
            records, stats = profiled(run)
            all_s = sum(record["seconds"] for record in records)
            table = new_table("CHECKS IN", "MS A STEP", "SHARE OF THE STEPS, %")
            seconds = seconds_by_check(stats)
            for name, taken in [*seconds.items(), ("all", sum(seconds.values()))]:
                table.add_row(name, f"{1000 * taken / len(records):.2f}", f"{100 * taken / all_s:.2f}")
            show(f"{label}: a step takes {median(record['seconds'] for record in records):.3f} s", table)


if __name__ == "__main__":
    main()
