"""Two ranks with one thread each beside one rank with one thread: `python tests/benchmarks/ranks.py`.

Tokens/s of whole steps on recorded completions of log-normal length, as `plugrad train` writes them into `metrics.jsonl`.
The runs are taken in turn, several times.
"""

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import tomli_w
from experiment import Experiment, recorded
from measuring import console, middle_half, new_table, show
from plugrad_work import run_file

WARM_UP = 1
GOAL = 1.7
"""Times the tokens/s of one rank."""


def tokens_per_s(experiment: Experiment, num_processes: int) -> float:
    """Train in processes of their own, and return the median over the steps that count."""
    path = experiment.folder / "run.toml"
    path.write_text(tomli_w.dumps(run_file(experiment).model_dump(exclude_none=True)))
    ranks = [] if num_processes == 1 else ["--num-processes", str(num_processes)]
    command = [sys.executable, "-m", "plugrad", "train", str(path), "--overwrite", *ranks]
    done = subprocess.run(command, env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{' '.join(command)} failed:\n{done.stdout}{done.stderr}")
    lines = (experiment.folder / "run" / "metrics.jsonl").read_text().splitlines()
    return float(median(json.loads(line)["tokens_per_s"] for line in lines[WARM_UP:]))


def main() -> None:
    """Show one row a number of ranks."""
    arguments = _arguments()
    speeds: dict[int, list[float]] = {number: [] for number in arguments.ranks}
    with TemporaryDirectory() as name:
        experiment = recorded(Path(name), WARM_UP + arguments.steps, vocabulary=32_000, num_prompts=arguments.prompts)
        for _ in range(arguments.rounds):
            for number, own in speeds.items():
                own.append(tokens_per_s(experiment, number))
    table = new_table("RANKS", "TOKENS/S", "MIDDLE HALF", "OF ONE RANK'S")
    for number, own in speeds.items():
        ratios = [speed / one for speed, one in zip(own, speeds[arguments.ranks[0]], strict=True)]
        table.add_row(str(number), f"{median(own):,.0f}", middle_half(own, ",.0f"), f"{median(ratios):.2f}")
    show(f"{experiment.num_completions} recorded completions, one thread a rank, {arguments.rounds} runs each", table)
    console.print(f"goal for two ranks: at least {GOAL} of one rank's")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--ranks", type=int, nargs="+", default=[1, 2], help="how many; the first is what is compared with")
    parser.add_argument("--rounds", type=int, default=3, help="runs of each")
    parser.add_argument("--steps", type=int, default=3, help="of a run, after one to warm up")
    parser.add_argument("--prompts", type=int, default=4, help="with 8 recorded completions each; a multiple of the ranks")
    return parser.parse_args()


if __name__ == "__main__":
    main()
