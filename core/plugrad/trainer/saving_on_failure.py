"""A run that fails saves the model as it was after the last step."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from plugrad.errors import TrainingError
from plugrad.trainer.lack_of_memory import free_what_failed, lacks_memory
from plugrad.trainer.loop import Training
from plugrad.trainer.record.save import SavedElsewhereError, save_model

logger = logging.getLogger("plugrad")


@contextmanager
def saving_on_failure(training: Training) -> Iterator[None]:
    """Save the model as it is when the run fails, then let the failure through."""
    try:
        yield
    except KeyboardInterrupt:
        raise
    # SystemExit too: only code of a plugin's raises it here.
    except BaseException as error:
        if lacks_memory(error):
            free_what_failed(error)
        learner = training.learner
        # The other ranks may be gone: only a model that is whole on the main rank can be saved.
        if training.records.num_steps and learner.ranks.is_main and not learner.is_sharded:
            _raise_limits()
            try:
                model = save_model(training.run.folder, learner.save)
                logger.warning("The model as it was after the last step is saved in %s.", model)
            except SavedElsewhereError as saved:
                logger.warning("%s", saved)
            except TrainingError as lost:
                logger.error("The model as it was after the last step is lost: %s", lost)
        raise


@contextmanager
def telling_where_it_is(model: Path) -> Iterator[None]:
    """Say where the model is if the body fails, which is only called once it is saved."""
    try:
        yield
    except KeyboardInterrupt:
        raise
    except BaseException:
        logger.warning("The model is saved in %s.", model)
        raise


def _raise_limits() -> None:
    """Allow this process as many files as it may have: a run that fails for lack of them could not save its model."""
    # There is no such module on Windows.
    with suppress(ImportError, OSError, ValueError):
        import resource

        _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
