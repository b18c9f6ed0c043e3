"""The captures of a run: of the steps that were asked for, and of an update that fails. None of them costs the run."""

from __future__ import annotations

import importlib.metadata
import logging
import shlex
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from plugrad import __version__
from plugrad.config.reading import as_tables
from plugrad.errors import PlugradError, RankError, TrainingError
from plugrad.run import Run
from plugrad.shown import printable
from plugrad.trainer.batch.background_thread import Worker
from plugrad.trainer.capture.capture_files import Capture, CapturedUpdate, write_capture
from plugrad.trainer.capture.later_captures import CAPTURES, FAILED
from plugrad.trainer.capture.taken import described, joined_updates, rollouts_of, taken, taken_update, tokens_in
from plugrad.trainer.capture.watch import Watch, states_of
from plugrad.trainer.lack_of_memory import lacks_memory
from plugrad.trainer.record.plugins_file import read_plugins
from plugrad.trainer.update.learner import Learner

logger = logging.getLogger("plugrad")


@dataclass
class Captures:
    """Takes the captures of a run. Every rank calls the methods."""

    run: Run
    learner: Learner
    _writer: Worker | None = None
    _written: list[Future[None]] = field(default_factory=list)

    def watch(self, step: int) -> Watch:
        """Return what watches the losses of a step, counted from 1."""
        return Watch(keeps_all=self.run.run_file.capture.is_due(step))

    def after_updates(self, step: int, watch: Watch) -> None:
        """Keep the batch of a step if that is due: gather it here, and write it in the background."""
        if watch.keeps_all:
            try:
                share: Any = (taken(watch), rollouts_of(watch))
            # Whatever it is: the run goes on, and the other ranks wait for what follows.
            except Exception as error:
                share = error
            shares = self.learner.ranks.gather(share if not isinstance(share, Exception) else printable(share))
            if self.learner.ranks.is_main:
                self._write_later(step, shares)
        watch.clear()

    @contextmanager
    def of_failures(self, step: int, watch: Watch) -> Iterator[None]:
        """Keep what the advantage or the losses saw if one fails inside, note on the error where, and let it through."""
        try:
            yield
        except Exception as error:
            if self.run.run_file.capture.on_failure and _is_of_a_plugin(error, self.learner.ranks.count):
                self._note_failure(step, watch, error)
            raise

    def close(self) -> None:
        """Wait for what is being written."""
        for written in self._written:
            # It has been reported.
            with suppress(Exception):
                written.result()
        if self._writer:
            self._writer.close()

    def _write_later(self, step: int, shares: Sequence[Any]) -> None:
        folder = self.run.folder / CAPTURES / f"step_{step:06d}"
        missing = next((share for share in shares if isinstance(share, str)), None)
        if missing is not None:
            _say_it_is_not_captured(step, missing)
            return
        of_ranks = [updates for updates, _ in shares]
        rollouts = [rollout for _, own in shares for rollout in own]
        joined = [joined_updates(updates) for updates in zip(*of_ranks, strict=True)]
        try:
            capture = self._capture(step, [update for update in joined if update.pieces], rollouts)
        except Exception as error:
            _say_it_is_not_captured(step, error)
            return
        self._writer = self._writer or Worker("plugrad-captures", lambda: None)
        self._written.append(self._writer.do(lambda: _write(folder, capture)))

    def _note_failure(self, step: int, watch: Watch, error: Exception) -> None:
        rank = self.run.rank
        folder = self.run.folder / CAPTURES / f"{FAILED}{step:06d}{f'_rank_{rank}' if rank else ''}"
        try:
            update = self._failed(watch)
            # All ranks give the advantage the same.
            given = watch.given if self.run.is_main else None
            if update is None and given is None:
                return
            failed = {"error": f"{type(error).__name__}: {error}", "loss": watch.calling, "rank": rank}
            capture = self._capture(step, [] if update is None else [update], rollouts_of(watch), failed)
            write_capture(folder, replace(capture, given=given))
        except Exception as lost:
            logger.warning("What was seen when the run failed is not captured: %s.", printable(lost))
            return
        for line in _how_to_see(folder, watch, error):
            error.add_note(line)

    def _failed(self, watch: Watch) -> CapturedUpdate | None:
        """Return what the losses of the update that failed saw: the rows in hand, or all if none were."""
        if not watch.updates:
            return None
        last = watch.updates[-1]
        seen = watch.seen_last()
        states = last.states or states_of(watch.losses)
        return taken_update(replace(last, seen=seen, states=states)) if seen else None

    def _capture(
        self,
        step: int,
        updates: Sequence[CapturedUpdate],
        rollouts: Sequence[Mapping[str, Any]],
        failed: Mapping[str, Any] | None = None,
    ) -> Capture:
        decode = self.learner.tokenizer.decode
        return Capture(
            {
                "plugrad": __version__,
                "torch": importlib.metadata.version("torch"),
                "step": step,
                "failed": failed,
                "num_ranks": self.run.num_ranks,
                "run_file": as_tables(self.run.run_file),
                "plugins": read_plugins(self.run.folder / "plugins.json"),
                "losses": [described(loss) for loss in self.learner.losses],
                "rollouts": rollouts,
                "tokens": {str(token): str(decode([token])) for token in sorted(tokens_in(updates))},
            },
            updates,
        )


def _write(folder: Path, capture: Capture) -> None:
    try:
        write_capture(folder, capture)
    # Safetensors raises an exception of its own where the disk is full.
    except Exception as error:
        _say_it_is_not_captured(capture.facts["step"], error)


def _say_it_is_not_captured(step: int, why: object) -> None:
    logger.warning("The batch of step %d is not captured: %s.", step, printable(why))


def _how_to_see(folder: Path, watch: Watch, error: Exception) -> Iterator[str]:
    """Yield what to say of the capture of a failure. Only the advantage and the losses are called again by a replay."""
    shown = folder.relative_to(Path.cwd()) if folder.is_relative_to(Path.cwd()) else folder
    whose = "What the losses saw" if watch.given is None else "What the advantage was given"
    fails_again = watch.given or watch.in_hand or watch.calling or isinstance(error, TrainingError)
    yield f"{whose} is in {shown}. To {'see the failure again' if fails_again else 'look at it'}, without model or GPU:"
    only = f" --loss {shlex.quote(watch.calling)}" if watch.calling else ""
    yield f"    plugrad replay {shlex.quote(str(shown))}{only}"


def _is_of_a_plugin(error: Exception, num_ranks: int) -> bool:
    """Whether an error came up here, in losses and what they return: not on another rank, and not for lack of memory."""
    if isinstance(error, RankError) or lacks_memory(error):
        return False
    # Where there are several, any other exception may be that of an exchange with one that is gone.
    return num_ranks == 1 or isinstance(error, PlugradError)
