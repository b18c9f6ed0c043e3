"""How long an author waits for `plugrad check`: `python -m nox -s bench -- check`."""

import os
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median

from measuring import against_goal, in_turn, new_table, show

ROUNDS = 3
GOAL_S = 10.0
"""On an idle machine with two cores."""
WITH_STATE = f"{Path(__file__).parent / 'loss_with_state.py'}:LossWithState"
COMPONENTS = {
    WITH_STATE: "loss",
    "plugrad/ppo_clip": "loss",
    "plugrad-policy/gspo": "loss",
    "plugrad/group_normalized": "advantage",
    "plugrad/reward": "metric",
    "plugrad/arithmetic": "environment",
    "plugrad/nan_guard": "extension",
}


def check(reference: str, kind: str) -> Callable[[], object]:
    """Return a call that checks one component, in a process of its own."""
    command = [sys.executable, "-m", "plugrad", "check", reference, "--kind", kind]
    return partial(subprocess.run, command, check=True, stdout=subprocess.DEVNULL, env=dict(os.environ))


def main() -> None:
    """Show the median of each kind."""
    seconds = in_turn({name: check(name, kind) for name, kind in COMPONENTS.items()}, rounds=ROUNDS)
    table = new_table("COMPONENT", "KIND", "MEDIAN, S", "GREATEST, S", "GOAL")
    for name, values in seconds.items():
        goal = against_goal(values, GOAL_S, ".0f", "s")
        table.add_row(
            name.rpartition(os.sep)[2] if name == WITH_STATE else name,
            COMPONENTS[name],
            f"{median(values):.1f}",
            f"{max(values):.1f}",
            goal,
        )
    show(f"plugrad check, imports and processes included; {ROUNDS} rounds", table)


if __name__ == "__main__":
    main()
