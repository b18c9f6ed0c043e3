"""Which signal asks a run to stop, and which one ends it at once."""

import signal
from dataclasses import dataclass

import pytest

from plugrad.trainer.ranks.interrupts import StopRequest, stop_requests


@dataclass
class TwoRanks:
    """This rank, and another one that got a signal or none."""

    other: signal.Signals | None

    def gather(self, value):
        return [value, self.other]


def test_a_signal_that_comes_after_the_others_have_told_of_theirs_does_not_end_this_rank(caplog):
    stop = StopRequest()
    assert not stop.agree(TwoRanks(None))
    assert stop.agree(TwoRanks(signal.SIGTERM))
    stop.note(signal.SIGTERM, None)
    assert stop.signal == signal.SIGTERM
    assert "Stopping" not in caplog.text
    with pytest.raises(KeyboardInterrupt):
        stop.note(signal.SIGTERM, None)


@pytest.mark.parametrize(
    ("number", "misses_a_rank", "is_saved", "is_said"),
    [
        (signal.SIGTERM, False, False, True),
        (signal.SIGTERM, True, False, False),
        # The user's, and the others have ended as they should.
        (signal.SIGINT, True, False, True),
        (signal.SIGTERM, True, True, True),
    ],
)
def test_a_rank_that_its_launcher_ends_because_another_is_lost_does_not_say_that_it_was_asked(
    caplog, number, misses_a_rank, is_saved, is_said
):
    stop = StopRequest(is_saved=is_saved, misses_a_rank=lambda: misses_a_rank)
    stop.note(number, None)
    assert ("stops at once" in caplog.text) == is_said
    assert stop.signal == number


@pytest.mark.parametrize(
    ("signals", "ends_at_once"),
    [
        ([signal.SIGUSR1], False),
        ([signal.SIGUSR1, signal.SIGUSR1], False),
        ([signal.SIGUSR1, signal.SIGTERM], False),
        ([signal.SIGUSR1, signal.SIGTERM, signal.SIGTERM], True),
        ([signal.SIGHUP, signal.SIGHUP], False),
        ([signal.SIGINT, signal.SIGHUP], False),
        ([signal.SIGINT, signal.SIGINT], True),
    ],
)
def test_only_who_asks_twice_ends_a_run_at_once(signals, ends_at_once):
    stop = StopRequest()
    *first, last = signals
    with stop_requests(stop):
        for number in first:
            signal.raise_signal(number)
        if ends_at_once:
            with pytest.raises(KeyboardInterrupt):
                signal.raise_signal(last)
        else:
            signal.raise_signal(last)
            assert stop.signal == signals[0]
