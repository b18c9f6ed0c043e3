"""The failure of a rank, as it reaches the others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from plugrad.errors import RankError


@dataclass(frozen=True)
class Failure:
    """What a rank reports of its failure."""

    rank: int
    message: str
    exit_code: int

    @classmethod
    def of(cls, error: BaseException, rank: int, name: str) -> Failure:
        """Describe an error of this rank; `name` is for people."""
        return cls(rank, f"{name}: {type(error).__name__}: {error}", exit_code=getattr(error, "exit_code", 1))

    def as_error(self) -> RankError:
        """Return what the other ranks raise."""
        return RankError(self.message, self.exit_code)


def add_rank_note(error: BaseException, name: str, failed: Sequence[int]) -> None:
    """Note on an error which ranks failed with it: `name` is this one, the first of `failed`."""
    others = f", and of {', '.join(map(str, failed[1:]))}" if failed[1:] else ""
    error.add_note(f"This is the error of {name}{others}. All ranks stop.")
