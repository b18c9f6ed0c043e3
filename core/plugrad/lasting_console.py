"""A console that goes silent once nothing can be written: what shows a run must not end it."""

from __future__ import annotations

import logging

from rich.console import Console

logger = logging.getLogger("plugrad")


class LastingConsole(Console):
    """A console that keeps what it could not write to itself, and why."""

    failure: OSError | None = None
    """Why the output is lost. None also if its reader has gone, as with `| head`."""

    def on_broken_pipe(self) -> None:
        """Write nothing more."""
        self.quiet = True

    def _check_buffer(self) -> None:
        try:
            super()._check_buffer()
        except OSError as error:
            self._fail(error)
        except ValueError as error:
            if not self.file.closed:
                raise
            self._fail(OSError(str(error)))

    def _fail(self, failure: OSError) -> None:
        self.failure = failure
        self.on_broken_pipe()
        self.tell(failure)

    def tell(self, failure: OSError) -> None:
        """Say that the output is lost, once."""
        logger.warning("Standard output cannot be written: %s. The run goes on, and what it prints is lost.", failure)
