"""A policy that writes what a test says, for the tests of environments with turns."""

from __future__ import annotations

from plugrad.host.trial_plays import MadeUpPolicy


def scripted_policy(*replies: str) -> MadeUpPolicy:
    """Return a policy for `play` that writes these replies, one after another, and then ends the play.

    Its `said` has role and content of every message after the prompts, and `of_turns` what `chat.reward` gave.
    """
    return MadeUpPolicy("", script=replies)
