"""plugrad beside TRL's GRPOTrainer, step by step in turn: `python -m nox -s bench_trl`.

Three comparisons, each with the same model folder, completions (or prompts and sampling), rewards, optimizer and dtype:
the whole step with in-process generation, the step on recorded completions, and the peak memory of the latter with a
large vocabulary. Loss and gradient norm of the first step on recorded completions must agree: it is the same work.

With `--before CHECKOUT`, the plugrad in that checkout takes its turns, too: has anything since then slowed a step?
"""

import argparse
from functools import partial
from importlib.metadata import version
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import turns
from experiment import Experiment, recorded, sampled
from measuring import against_goal, console, middle_half, new_table, show
from plugrad_work import plugrad_work
from trl_work import trl_work

WARM_UP = 2
GOALS = {"sampled": 0.8, "recorded": 0.5, "memory": 0.4}
"""plugrad's seconds or bytes as a share of TRL's."""
BEFORE = "before"
NO_SLOWER = 1.02
"""plugrad's processor time or bytes as a share of those of the plugrad before."""
AGREEMENT = 1e-5
Steps = dict[str, list[turns.Figures]]


def steps_of(experiment: Experiment, rounds: int, before: Path | None) -> Steps:
    """Return the steps of the trainers, each in its own process."""
    workers = {"plugrad": partial(plugrad_work, experiment), "TRL": partial(trl_work, experiment)}
    imports = {}
    if before:
        workers[BEFORE] = partial(plugrad_work, experiment, run=BEFORE)
        imports[BEFORE] = before / "core"
    return turns.in_turn(workers, rounds=rounds, warm_up=experiment.num_steps - rounds, imports=imports)


def main() -> None:
    """Show one table a comparison."""
    arguments = _arguments()
    packages = ("plugrad", "trl", "transformers", "accelerate", "torch")
    console.print("  ".join(f"{name} {version(name)}" for name in packages))
    with TemporaryDirectory() as name:
        for comparison in arguments.comparisons:
            folder = Path(name) / comparison
            folder.mkdir()
            COMPARISONS[comparison](folder, arguments)


def compare_sampled(folder: Path, arguments: argparse.Namespace) -> None:
    """Compare whole steps, generation included."""
    experiment = sampled(folder, arguments.rounds * 5 + WARM_UP)
    steps = steps_of(experiment, arguments.rounds * 5, arguments.before)
    _show("Whole step, sampling included", experiment, steps, "seconds", GOALS["sampled"])


def compare_recorded(folder: Path, arguments: argparse.Namespace) -> None:
    """Compare steps on recorded completions, and what they computed."""
    experiment = recorded(folder, arguments.rounds + WARM_UP, vocabulary=32_000, num_prompts=arguments.prompts)
    steps = steps_of(experiment, arguments.rounds, arguments.before)
    _show("Step on recorded completions, vocabulary 32,000", experiment, steps, "seconds", GOALS["recorded"])
    _show_agreement(steps)


def compare_memory(folder: Path, arguments: argparse.Namespace) -> None:
    """Compare the memory that a step needs beside weights and optimizer state."""
    experiment = recorded(folder, 1 + 2, vocabulary=151_936, num_prompts=1)
    steps = steps_of(experiment, 2, arguments.before)
    _show("Memory of a step on recorded completions, vocabulary 151,936", experiment, steps, "peak_mib", GOALS["memory"])
    _show_agreement(steps)


COMPARISONS = {"sampled": compare_sampled, "recorded": compare_recorded, "memory": compare_memory}


def _show(title: str, experiment: Experiment, steps: Steps, figure: str, goal: float) -> None:
    form, unit = {"seconds": (".3f", "s"), "peak_mib": (",.0f", "MiB")}[figure]
    table = new_table("TRAINER", f"MEDIAN, {unit.upper()}", "MIDDLE HALF", "MEAN LENGTH", "OF TRL'S, STEP BY STEP", "GOAL")
    for name, own in steps.items():
        values = [step[figure] for step in own]
        shares = [mine / theirs[figure] for mine, theirs in zip(values, steps["TRL"], strict=True)]
        length = sum(step["length"] for step in own) / len(own)
        share = f"{median(shares):.2f}" if name != "TRL" else ""
        reached = against_goal(shares, goal if name == "plugrad" else None, ".1f", "of TRL's")
        table.add_row(name, f"{median(values):{form}}", middle_half(values, form), f"{length:.1f}", share, reached)
    show(f"{title}: {_sizes(experiment)}, {len(steps['TRL'])} steps each", table)
    if BEFORE in steps:
        _show_before(steps, {"seconds": "cpu_seconds"}.get(figure, figure))


def _show_before(steps: Steps, figure: str) -> None:
    """Show what a step takes of what it took before: of the processor's time, which other work changes least."""
    now, then = ([step[figure] for step in steps[name]] for name in ("plugrad", BEFORE))
    shares = [one / other for one, other in zip(now, then, strict=True)]
    console.print(
        f"{figure} as a share of those before: {median(shares):.3f}, middle half {middle_half(shares, '.3f')}; "
        f"of the least of each {min(now) / min(then):.3f}; {against_goal(shares, NO_SLOWER, '.2f', 'of it')}",
        soft_wrap=True,
    )


def _sizes(experiment: Experiment) -> str:
    return (
        f"{experiment.num_completions} completions of up to {experiment.max_new_tokens} tokens, "
        f"{experiment.rows_per_micro_batch} rows or {experiment.token_budget:,} tokens a micro-batch"
    )


def _show_agreement(steps: Steps) -> None:
    for figure in ("loss", "grad_norm"):
        ours, theirs = (steps[name][0][figure] for name in ("plugrad", "TRL"))
        difference = abs(ours - theirs) / abs(theirs)
        said = "the same work" if difference <= AGREEMENT else "[red]not the same work[/red]"
        console.print(f"{figure}: {ours:.8g} and {theirs:.8g}, {difference:.1e} apart: {said}")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("comparisons", nargs="*", default=list(COMPARISONS), help=f"some of {', '.join(COMPARISONS)}")
    parser.add_argument("--rounds", type=int, default=7, help="steps of each trainer; five times as many where it samples")
    parser.add_argument("--before", type=Path, help="a checkout of plugrad, whose steps are shown beside the others'")
    parser.add_argument("--prompts", type=int, default=4, help="with 8 recorded completions each")
    arguments = parser.parse_args()
    if arguments.before and not (arguments.before / "core/plugrad/__init__.py").is_file():
        parser.error(f"--before {arguments.before} is no checkout of plugrad: it has no core/plugrad/__init__.py")
    return arguments


if __name__ == "__main__":
    main()
