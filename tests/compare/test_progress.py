"""How far a comparison is, and what one sees of it."""

import json
from io import StringIO

import pytest
from rich.console import Console

from plugrad.compare.planned_run import Outcome, PlannedRun
from plugrad.compare.progress import Progress, last_record
from plugrad.compare.progress_display import Lines, grid, summary_line
from plugrad.compare.run_process import failure_reason


@pytest.fixture
def progress(finished, tmp_path):
    """Three arms at two seeds: one run done, one failed, one half done, and the rest waiting."""
    done, failed, half, waiting = (
        [PlannedRun(arm, seed, tmp_path / arm / f"seed-{seed}", tmp_path / "run.toml", 4) for seed in (0, 1)]
        for arm in ("done", "failed", "half", "waiting")
    )
    for run in (failed[0], half[0]):
        run.folder.mkdir(parents=True)
        (run.folder / "metrics.jsonl").write_text('{"step": 1, "reward": 0.25, "num_tokens": 10}\n{"step": 2, "rew')
    finished("done", 0, [0.5, 0.75, 1.0, 0.5])
    found = Progress([*done, *failed, *half, *waiting])
    failed[0].write(Outcome(1, 1, 1.0, "ContractError: no"))
    found.note_start(failed[0])
    found.note_end(failed[0])
    found.note_start(half[0])
    found.note_step(half[0])
    return found


def lines_of(renderable, width):
    console = Console(width=width, record=True, file=StringIO())
    console.print(renderable)
    return [line.rstrip() for line in console.export_text().splitlines()]


def test_what_is_finished_is_known_from_its_folder(progress):
    assert [progress.number(status) for status in ("done", "failed", "running", "waiting")] == [1, 1, 1, 5]
    assert progress.current.arm == "half"


def test_the_last_whole_line_is_read_while_the_next_is_written(progress):
    assert progress.states[progress.current].step == 1
    assert progress.states[progress.current].reward == 0.25
    assert last_record(progress.runs[-1].folder) is None


def test_of_a_long_record_the_end_is_read(tmp_path):
    lines = [json.dumps({"step": step, "num_tokens": 10, "metric/" + "x" * 1000: 1.0}) for step in range(1, 201)]
    (tmp_path / "metrics.jsonl").write_text("\n".join(lines) + "\n")
    assert last_record(tmp_path)["step"] == 200


def test_the_grid_has_a_row_an_arm_and_a_column_a_seed(progress):
    header, *rows = lines_of(grid(progress, 100), 100)
    assert header.split() == ["ARM", "SEED", "0", "SEED", "1"]
    assert [row.split()[:2] for row in rows if row] == [
        ["done", "0.500"],
        ["failed", "failed,"],
        ["half", "━━━━━━━━"],
        ["waiting", "·"],
    ]
    assert "1/4  0.250" in rows[2]


def test_in_forty_columns_no_line_is_longer(progress):
    lines = lines_of(grid(progress, 40), 40) + lines_of(summary_line(progress), 40)
    assert max(map(len, lines)) <= 40
    assert any(line.split() == ["half", "25%", "·"] for line in lines)


def test_the_time_left_is_that_of_the_runs_that_were(progress):
    # One run took two seconds: the one that goes on may take as long, and five are waiting.
    assert progress.seconds_left == pytest.approx(12.0, abs=0.5)


def test_in_a_pipe_a_line_says_how_a_run_ended(progress):
    console = Console(width=200, record=True, file=StringIO())
    display = Lines(console, progress)
    for run in (progress.runs[0], progress.runs[2]):
        display.start(run)
        display.end(run)
    done, failed = console.export_text().splitlines()
    assert done.startswith("[1/8] done, seed 0: done, 4 steps, reward 0.500, about 12.")
    assert failed == "[3/8] failed, seed 0: failed after step 1: ContractError: no"


def test_failures_that_are_alike_are_told_together(progress):
    assert [(key, len(runs)) for key, runs in progress.failures().items()] == [
        (("failed", "failed after step 1: ContractError: no"), 1)
    ]


@pytest.mark.parametrize(
    ("log", "exit_code", "why"),
    [
        ("step 1\nTraceback:\n  line\nValueError: bad\n", 1, "ValueError: bad"),
        ("ContractError: the loss failed\nAll ranks stop.\n", 1, "ContractError: the loss failed"),
        ("torch.OutOfMemoryError: no room\nNote: saved\n", 1, "torch.OutOfMemoryError: no room"),
        ("step 1\nsomething else\nNote: saved\n", 3, "something else"),
        ("", 3, "exit code 3"),
        ("step 1\n", -9, "ended by SIGKILL: most often, the machine is out of memory"),
        ("step 1\n", -11, "ended by SIGSEGV"),
    ],
)
def test_the_line_that_says_why_a_run_failed(tmp_path, log, exit_code, why):
    (tmp_path / "log.txt").write_text(log)
    assert failure_reason(tmp_path / "log.txt", exit_code) == why


def test_the_reason_is_not_looked_for_in_the_output_of_an_earlier_process(tmp_path):
    log = tmp_path / "log.txt"
    log.write_text("ValueError: of the first\n")
    length = log.stat().st_size
    with log.open("a") as file:
        file.write("step 3\n")
    assert failure_reason(log, 1, length) == "step 3"


def test_the_time_left_is_not_counted_from_steps_of_an_earlier_process(progress, monkeypatch):
    now = [0.0]
    monkeypatch.setattr("plugrad.compare.progress.time.monotonic", lambda: now[0])
    run = PlannedRun("half", 0, progress.current.folder, progress.current.run_file, 5)
    (run.folder / "checkpoints" / "step_000002").mkdir(parents=True)

    def write(num_steps, num_tokens):
        lines = [f'{{"step": {step}, "num_tokens": {num_tokens}}}\n' for step in range(1, num_steps + 1)]
        (run.folder / "metrics.jsonl").write_text("".join(lines))

    # It was killed after the third step, and goes on from its checkpoint after the second.
    write(3, num_tokens=10)
    alone = Progress([run])
    alone.note_start(run)
    alone.note_step(run)
    for seconds, num_steps in [(20.0, 2), (22.0, 3)]:
        now[0] = seconds
        write(num_steps, num_tokens=11)
        alone.note_step(run)
    # Two steps are left, of two seconds each.
    assert alone.seconds_left == pytest.approx(4.0)
