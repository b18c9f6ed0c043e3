"""The loop of a side process: a question in, an answer out, with limits. It imports nothing but the standard library."""

from __future__ import annotations

import json
import os
import pickle
import resource
import signal
from collections.abc import Callable
from typing import Any

MEMORY_MB = 4096


def serve(answer: Callable[[Any], Any]) -> None:
    """Answer questions until standard input ends.

    Args:
        answer: returns what JSON can hold.
    """
    questions, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    # What a completion prints, or reads, is neither an answer nor a question.
    nowhere = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(nowhere, descriptor)
    _limit(resource.RLIMIT_AS, MEMORY_MB * 2**20)
    _limit(resource.RLIMIT_FSIZE, 16 * 2**20)
    _limit(resource.RLIMIT_CORE, 0)
    _say(answers, "ready")
    while size := questions.read(8):
        timeout_s, question = pickle.loads(questions.read(int.from_bytes(size, "big")))
        # Ends this process even where the one that asked is gone. Libraries use the other timers.
        signal.setitimer(signal.ITIMER_PROF, timeout_s + 1)
        found = answer(question)
        signal.setitimer(signal.ITIMER_PROF, 0)
        _say(answers, found)


def _say(answers: Any, found: Any) -> None:
    answers.write(json.dumps(found).encode() + b"\n")
    answers.flush()


def _limit(which: int, value: int) -> None:
    _, hard = resource.getrlimit(which)
    most = value if hard == resource.RLIM_INFINITY else min(value, hard)
    resource.setrlimit(which, (most, most))
