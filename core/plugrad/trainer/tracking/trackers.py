"""The trackers of a run: a thread of their own calls them, and one that fails is dropped."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import TimeoutError as TooLate
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

from accelerate.tracking import LOGGER_TYPE_TO_CLASS

from plugrad.config.run_file import RunFile
from plugrad.diagnosis.record_reading import read_records
from plugrad.errors import RunFileError
from plugrad.shown import printable
from plugrad.trainer.batch.background_thread import Worker
from plugrad.trainer.checkpoints.random_states import random_states, set_random_states
from plugrad.trainer.record.run_folder import TRACKING, cannot_be_written
from plugrad.trainer.tracking.opening import Opening
from plugrad.trainer.tracking.run_picture import TITLE, drawn
from plugrad.trainer.tracking.sample_tables import Rows, tables_of
from plugrad.trainer.tracking.tracked_config import config_of, flattened
from plugrad.trainer.tracking.tracker_ids import read_ids, write_ids
from plugrad.trainer.tracking.tracker_kinds import KINDS

logger = logging.getLogger("plugrad")

PATIENCE_S = 600.0
"""How long the end of a run waits for what the trackers still have to send."""


class Trackers:
    """Gives what a run records to its trackers, on the main rank. Without trackers, nothing happens."""

    def __init__(self) -> None:
        self._open: dict[str, Any] = {}
        """Accelerate's trackers. Only the thread uses them: MLflow's runs are those of a thread."""
        self._worker: Worker | None = None
        self._folder = Path()
        self._last_step = 0

    def begin(self, run_file: RunFile, plugins: Mapping[str, Any], *, first_step: int) -> None:
        """Open each tracker, or go on with what it has of this run.

        Raises:
            RunFileError: a tracker cannot be opened. Where the run goes on after some steps, it is dropped instead.
        """
        if not run_file.tracking.trackers:
            return
        folder = Path(run_file.output_dir) / TRACKING
        try:
            folder.mkdir(exist_ok=True)
        except OSError as error:
            raise cannot_be_written(folder, error) from error
        self._folder, self._last_step = folder.parent, first_step
        self._worker = Worker("plugrad-trackers", lambda: None)
        before = random_states()
        try:
            self._worker.do(lambda: self._open_all(run_file, plugins, folder, first_step)).result()
        finally:
            # Trackers draw names and delays from the generators of the process.
            set_random_states(before)

    def record(self, record: Mapping[str, float | int]) -> None:
        """Log every number of a step, later."""
        self._last_step = step = int(record["step"])
        values = {name: value for name, value in record.items() if name != "step"}
        self._later(lambda name, tracker: tracker.log(values, step=step))

    def samples(self, samples: Sequence[Mapping[str, Any]]) -> None:
        """Log samples, later."""
        for title, rows in tables_of(samples).items():
            self._later(partial(_log_samples, title=title, rows=rows, step=samples[0]["step"]))

    def close(self, *, waits: bool = True) -> None:
        """Send the picture of the run, wait for what is still to be sent, and end the trackers' runs.

        A second call does nothing.
        """
        if self._worker is None:
            return
        worker, self._worker = self._worker, None
        if waits:
            worker.do(self._show_picture)
            try:
                worker.do(self._finish).result(PATIENCE_S)
            except TooLate:
                logger.warning("The trackers have not ended after %.0f s: what they still had to send is lost.", PATIENCE_S)
                waits = False
        worker.close(waits=waits)

    def _open_all(self, run_file: RunFile, plugins: Mapping[str, Any], folder: Path, first_step: int) -> None:
        table, ids = run_file.tracking, read_ids(folder)
        config = config_of(run_file, plugins)
        for name in table.trackers:
            kind, goes_on = KINDS[name], ids.get(name) if first_step else None
            opening = Opening(
                folder=folder,
                project=table.project,
                name=table.name or Path(run_file.output_dir).name,
                tags=table.tags,
                kwargs=table.kwargs.get(name, {}),
                goes_on=goes_on,
                first_step=first_step,
            )
            try:
                tracker = LOGGER_TYPE_TO_CLASS[name](**kind.arguments(opening))
                tracker.start()
                if goes_on is None or kind.configures_again:
                    tracker.store_init_configuration(flattened(config) if kind.is_flat else config)
                ids[name] = kind.id_of(tracker)
            # A package may end the process that cannot log in.
            except (Exception, SystemExit) as error:
                self._not_opened(name, error, is_refused=not first_step)
            else:
                self._open[name] = tracker
        # Without them, a run that goes on begins others.
        with suppress(OSError):
            write_ids(folder, ids)

    def _not_opened(self, name: str, error: BaseException, *, is_refused: bool) -> None:
        why = _what(error)
        if not is_refused:
            logger.warning("The tracker %s cannot be opened: %s. The run goes on without it.", name, why)
            return
        self._finish()
        raise RunFileError(
            f"[tracking] {name}: it cannot be opened: {why}. Repair it, or leave it out of tracking.with."
        ) from error

    def _later(self, call: Callable[[str, Any], object]) -> None:
        if self._worker is not None:
            self._worker.do(lambda: self._each(call))

    def _each(self, call: Callable[[str, Any], object]) -> None:
        for name, tracker in list(self._open.items()):
            try:
                call(name, tracker)
            except (Exception, SystemExit) as error:
                del self._open[name]
                logger.warning("The tracker %s has failed: %s. The run goes on without it.", name, _what(error))

    def _show_picture(self) -> None:
        """Log the picture of the run. What fails is said, and costs nothing else."""
        if not self._open or not self._last_step:
            return
        try:
            image = drawn(read_records(self._folder))
        except Exception as error:
            logger.warning("The picture of the run cannot be drawn: %s.", _what(error))
            return
        if image is None:
            return
        for name, tracker in self._open.items():
            try:
                KINDS[name].logs_image(tracker, TITLE, image, self._last_step)
            except (Exception, SystemExit) as error:
                logger.warning("The tracker %s does not take the picture of the run: %s.", name, _what(error))

    def _finish(self) -> None:
        self._each(lambda name, tracker: tracker.finish())
        self._open.clear()


def _log_samples(name: str, tracker: Any, *, title: str, rows: Rows, step: int) -> None:
    KINDS[name].logs_samples(tracker, title, rows, step)


def _what(error: BaseException) -> str:
    return f"{type(error).__name__}: {printable(error)}"
