"""How many processes can share a run file's prompts, and what is advised to those that cannot."""

import pytest

from plugrad import RunFile
from plugrad.config.rank_shares import check_shares
from plugrad.errors import RunFileError


def run_file(prompts, updates=1):
    return RunFile(
        updates_per_batch=updates,
        model={"name": "m"},
        environment={"name": "arithmetic"},
        rollout={"prompts_per_step": prompts},
    )


@pytest.mark.parametrize(("prompts", "updates", "processes"), [(8, 1, 1), (8, 1, 8), (8, 2, 4), (12, 3, 2)])
def test_equal_shares_of_whole_groups(prompts, updates, processes):
    check_shares(run_file(prompts, updates), processes)


@pytest.mark.parametrize(
    ("prompts", "updates", "processes", "advice"),
    [
        (10, 1, 4, "Set it to 8 or 12, or train with 2 or 5 processes."),
        (2, 1, 3, "Set it to 3, or train with 2 processes."),
        (8, 4, 4, "(updates_per_batch = 4 must divide each share). Set it to 16, or train with 2 processes."),
        (7, 1, 2, "Set it to 6 or 8, or train with 1 or 7 processes."),
        (1, 1, 2, "Set it to 2, or train with 1 process."),
    ],
)
def test_the_nearest_numbers_that_do(prompts, updates, processes, advice):
    with pytest.raises(RunFileError) as error:
        check_shares(run_file(prompts, updates), processes)
    assert str(error.value).endswith(advice)


@pytest.mark.parametrize("prompts", range(1, 13))
@pytest.mark.parametrize("processes", range(1, 9))
def test_what_is_advised_works(prompts, processes):
    try:
        check_shares(run_file(prompts), processes)
    except RunFileError as error:
        sizes, counts = str(error).split("Set it to ")[1].split(", or train with ")
        for size in (int(word) for word in sizes.split() if word.isdigit()):
            check_shares(run_file(size), processes)
        for count in (int(word) for word in counts.split() if word.isdigit()):
            check_shares(run_file(prompts), count)


def test_ranks_that_share_an_engine_are_a_multiple_of_it():
    table = {"engine": "vllm", "prompts_per_step": 12, "vllm": {"tensor_parallel_size": 2}}
    shared = RunFile(model={"name": "m"}, environment={"name": "arithmetic"}, rollout=table)
    check_shares(shared, 4)
    with pytest.raises(RunFileError, match=r"tensor_parallel_size is 2, and 1 process cannot .* --num-processes 2"):
        check_shares(shared, 1)
    with pytest.raises(RunFileError, match="3 processes cannot form groups of 2"):
        check_shares(shared, 3)
