"""Write the results of a comparison beside its runs: all numbers as JSON, and the table as Markdown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from plugrad import __version__
from plugrad.compare.arms import Arm
from plugrad.compare.comparison_folder import COMPARISON
from plugrad.compare.planned_run import PlannedRun
from plugrad.compare.quantities import QUANTITIES, Statistic
from plugrad.compare.results_table import as_markdown
from plugrad.compare.summary import ArmSummary, Summary, summarize
from plugrad.json_text import json_of
from plugrad.paths import write_text

TABLE, PICTURE = "table.md", "curves.svg"


@dataclass(frozen=True)
class Report:
    """What is compared, and the folder for the results."""

    folder: Path
    run_file: Path
    arms: Sequence[Arm]
    runs: Sequence[PlannedRun]
    baseline: str
    kept: Mapping[str, str]
    """Arms of an earlier comparison that are not named now, with their folders."""

    @property
    def title(self) -> str:
        """What is compared, in one line."""
        seeds = len({run.seed for run in self.runs})
        return f"{len(self.arms)} arm{'s' * (len(self.arms) > 1)} of {self.run_file.name}, {seeds} seed{'s' * (seeds > 1)}"

    def write(self) -> Summary:
        """Write the results so far, and return them."""
        summary = summarize(self.runs, self.baseline)
        _write_whole(self.folder / COMPARISON, json_of(self._as_json(summary)))
        _write_whole(self.folder / TABLE, as_markdown(summary, self.title))
        return summary

    def _as_json(self, summary: Summary) -> dict[str, Any]:
        arms = {arm.name: self._arm(arm, found) for arm, found in zip(self.arms, summary.arms, strict=True)}
        return {
            "plugrad": __version__,
            "run_file": str(self.run_file.resolve()),
            "baseline": self.baseline,
            "token_budget": summary.token_budget,
            "meanings": {quantity.name: quantity.meaning for quantity in QUANTITIES},
            "arms": arms | {name: {"folder": folder} for name, folder in self.kept.items()},
        }

    def _arm(self, arm: Arm, found: ArmSummary) -> dict[str, Any]:
        return {
            "folder": arm.folder,
            "overrides": [override.text for override in arm.overrides],
            "over_seeds": {name: _plain(statistic) for name, statistic in found.over_seeds.items()},
            "less_the_baseline": {name: _plain(statistic) for name, statistic in found.differences.items()},
            "runs": {str(run.seed): self._run(run, found) for run in self.runs if run.arm == arm.name},
        }

    def _run(self, run: PlannedRun, found: ArmSummary) -> dict[str, Any]:
        outcome = run.outcome
        return {
            "folder": str(run.folder.relative_to(self.folder)),
            "outcome": asdict(outcome) if outcome else None,
            "numbers": found.numbers.get(run.seed),
        }


def _plain(statistic: Statistic | None) -> dict[str, Any] | None:
    return asdict(statistic) if statistic else None


def _write_whole(path: Path, text: str) -> None:
    """Write a file in one piece: no reader sees half of it."""
    unfinished = path.with_name(f"{path.name}.unfinished")
    write_text(unfinished, text)
    unfinished.replace(path)
