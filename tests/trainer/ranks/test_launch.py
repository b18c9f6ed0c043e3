"""The exit code of a run in several processes, and what is said of a rank that did not say it itself."""

from __future__ import annotations

import pytest
from torch.distributed.elastic.multiprocessing.errors import ProcessFailure

from plugrad.errors import TrainingError
from plugrad.trainer.ranks.launch import exit_code_of
from plugrad.trainer.ranks.rank_file import LastSign

TOLD, LOST, BEGUN = (
    LastSign(10, True, True, ()),
    LastSign(11, False, False, ("the loss 'x'",)),
    LastSign(12, True, False, ()),
)


def failed(exit_code: int, seconds: int = 0) -> ProcessFailure:
    failure = ProcessFailure(0, 99, exit_code, "no such file")
    failure.timestamp = seconds
    return failure


@pytest.mark.parametrize(
    ("failures", "signs", "expected"),
    [
        ({}, [TOLD, TOLD], 0),
        # An error before the ranks have met.
        ({0: failed(2), 1: failed(2)}, [None, None], 2),
        ({0: failed(1), 1: failed(-15)}, [TOLD, TOLD], 1),
        ({0: failed(-15), 1: failed(130)}, [TOLD, TOLD], 130),
        ({0: failed(1), 1: failed(-6, seconds=1)}, [TOLD, LOST], 1),
    ],
)
def test_what_a_rank_has_told_is_passed_on(
    failures: dict[int, ProcessFailure], signs: list[LastSign | None], expected: int
) -> None:
    assert exit_code_of(failures, signs) == expected


@pytest.mark.parametrize(
    ("failures", "signs", "message", "expected"),
    [
        # The launcher does not count an end with 0 among the failures.
        (
            {},
            [TOLD, LOST],
            r"rank 1 \(process 11\) ended in a call of the loss 'x' with exit code 0 and without an error",
            1,
        ),
        ({}, [LOST, LOST], "rank 0 .* ended in a call of the loss 'x' with exit code 0", 2),
        ({0: failed(2)}, [TOLD, LOST], "rank 1 .* with exit code 0", 1),
        (
            {0: failed(1), 1: failed(3)},
            [TOLD, LOST],
            r"rank 1 \(process 99\) ended in a call of the loss 'x' with exit code 3",
            1,
        ),
        ({1: failed(3)}, [LOST, BEGUN], r"rank 0 .* exit code 0", 1),
        (
            {0: failed(-15), 1: failed(-9)},
            [LOST, LOST],
            "rank 1 .* was killed by SIGKILL in a call of the loss 'x'.*memory",
            2,
        ),
        ({0: failed(1), 1: failed(-11)}, [TOLD, BEGUN], r"rank 1 \(process 99\) was killed by SIGSEGV\. Unless", 1),
        ({0: failed(-9)}, [None, None], "rank 0 .* was killed by SIGKILL", 2),
    ],
)
def test_what_it_has_not_told_is_an_error(
    failures: dict[int, ProcessFailure], signs: list[LastSign | None], message: str, expected: int
) -> None:
    with pytest.raises(TrainingError, match=message) as found:
        exit_code_of(failures, signs)
    assert found.value.exit_code == expected
