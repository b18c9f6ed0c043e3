"""What the tests of adapters share: sequences of the user's own numbers, and files as users write them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest
import torch

from plugrad import LossInputs
from plugrad_compat.adapters.notices import notice

FOREIGN = Path(__file__).parent / "foreign"


def sequence(ratios: list[float], advantages: list[float], *, prompt: int = 2, **fields: Any) -> LossInputs:
    """Return a sequence whose tokens have these ratios to the old policy, after a prompt whose numbers mean nothing."""
    num = len(ratios)
    old = torch.cat([torch.full((prompt,), 7.0), torch.full((num,), -2.0)]).double()
    own = old.clone()
    own[prompt:] += torch.tensor(ratios).double().log()
    mask = torch.arange(prompt + num) >= prompt
    given = torch.cat([torch.full((prompt,), 9.0), torch.tensor(advantages)]).double()
    return LossInputs(
        trainer_logprobs=own.requires_grad_(),
        inference_logprobs=old - 0.5,
        advantages=given,
        loss_mask=mask,
        old_logprobs=old,
        **fields,
    )


@pytest.fixture
def tokens() -> Callable[..., LossInputs]:
    return sequence


@pytest.fixture
def target() -> Callable[[str, str], str]:
    """Return the reference to something in a file of tests/foreign."""
    return lambda file, name: f"{FOREIGN}/{file}.py:{name}"


@pytest.fixture
def written(tmp_path: Path) -> Callable[[str], Path]:
    """Write a file as a user would; return its path."""

    def write(code: str, name: str = "my_loss.py") -> Path:
        path = tmp_path / name
        path.write_text(dedent(code).lstrip())
        return path

    return write


@pytest.fixture(autouse=True)
def _notices_are_given_again() -> None:
    notice.cache_clear()
