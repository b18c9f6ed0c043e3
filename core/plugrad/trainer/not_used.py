"""What a run file and its examples have that the run does not use."""

from __future__ import annotations

import logging

from transformers import PreTrainedTokenizerBase

from plugrad.config.run_file import RunFile
from plugrad.rollout.chat import unread_options
from plugrad.rollout.lacking import lacking
from plugrad.trainer.batch.sequence_limits import FittingExamples

logger = logging.getLogger("plugrad")


def say_what_is_not_used(examples: FittingExamples, run_file: RunFile, tokenizer: PreTrainedTokenizerBase) -> None:
    """Warn of prompts that are left out, steps that never come, letters without a token, and options that are not read."""
    if examples.num_dropped:
        logger.warning(
            f"{examples.num_dropped} prompts are left out, because they are too long (rollout.drop_long_prompts): "
            f"{len(examples.train)} are left to train on, and {len(examples.held_out)} held out."
        )
    for key, steps in (("profile", run_file.profile.steps), ("capture", run_file.capture.steps)):
        if later := [step for step in steps if step > run_file.max_steps]:
            logger.warning(
                "%s.steps has %s, but the run ends after %d.", key, ", ".join(map(str, later)), run_file.max_steps
            )
    if lost := lacking([*examples.train, *examples.held_out], tokenizer):
        logger.warning("%s", lost)
    unread, read = unread_options(tokenizer, run_file.rollout.chat_template_kwargs)
    if unread:
        logger.warning(
            "rollout.chat_template_kwargs: the chat template does not read %s. It reads %s.",
            ", ".join(map(repr, unread)),
            ", ".join(map(repr, read)) or "no variable",
        )
