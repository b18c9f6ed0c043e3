"""Which rows of a batch are compared with each other: the better and the worse completion of a prompt."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

import torch
from jaxtyping import Float, Int
from torch import Tensor

from plugrad import BatchLossInputs, DataError, Mean, loss

Plugin = TypeVar("Plugin", bound=Callable[..., Any])
By = Literal["member", "reward"]
"""`member`: the first of an example's `references` is better than each other one. `reward`: of two rollouts of a prompt, the
one with the higher reward; equal rewards make no pair."""


def needs_of_pairs(options: Mapping[str, Any]) -> set[str]:
    """Return what telling the better one takes."""
    return {"reward"} if options["by"] == "reward" else set()


def by_place(options: Mapping[str, Any]) -> bool:
    """Return whether the place of a completion tells the better one: it is one of an example's `references`."""
    return bool(options["by"] == "member")


def check_pair(example: Mapping[str, Any], options: Mapping[str, Any]) -> None:
    """Raise DataError unless the example has completions of which the first is the better one."""
    if by_place(options) and "references" not in example:
        raise DataError(
            f"it has no column 'references' with the better completion and then worse ones (it has {', '.join(example)}). A "
            "single `reference` would be compared with itself."
        )


def of_pairs(*, needs: Callable[[Mapping[str, Any]], set[str]] = needs_of_pairs) -> Callable[[Plugin], Plugin]:
    """State the facts that every loss of pairs has, as `@loss` does."""
    return loss(
        needs=needs,
        reduction="sequence_sum",
        policy_gradient=False,
        whole_batch=True,
        min_rollouts_per_example=2,
        replayed=by_place,
        check_example=check_pair,
    )


@dataclass(frozen=True)
class Pairs:
    """The pairs of a batch, by the numbers of their rows."""

    better: Int[Tensor, "pairs"]
    worse: Int[Tensor, "pairs"]
    num_rows: int

    @classmethod
    def of(cls, inputs: BatchLossInputs, by: By) -> Pairs:
        """Return all pairs of rows of one prompt. A row in which nothing counts is in none."""
        assert inputs.group_ids is not None
        above = _by_member(inputs) if by == "member" else _by_reward(inputs)
        counted = inputs.loss_mask.any(dim=1)
        of_one_prompt = inputs.group_ids.unsqueeze(1) == inputs.group_ids
        better, worse = (above & of_one_prompt & counted.unsqueeze(1) & counted).nonzero(as_tuple=True)
        return cls(better, worse, len(counted))

    def differences(self, of_rows: Float[Tensor, "batch"]) -> Float[Tensor, "pairs"]:
        """Return how far the better one of each pair is above the worse."""
        return of_rows[self.better] - of_rows[self.worse]

    def per_row(self, losses: Float[Tensor, "pairs"]) -> Float[Tensor, "batch"]:
        """Give half of each pair's loss to each of its rows, scaled so that the mean over rows is the mean over pairs."""
        halves = losses * (self.num_rows / max(2 * len(losses), 1))
        return losses.new_zeros(self.num_rows).index_add(0, self.better, halves).index_add(0, self.worse, halves)

    def measures(self, rewards: Float[Tensor, "batch"]) -> dict[str, Mean]:
        """Return what the pairs say of implicit rewards."""
        margins = self.differences(rewards).detach()
        return {
            "accuracy": Mean.of((margins > 0).to(margins)),
            "margin": Mean.of(margins),
            "chosen_reward": Mean.of(rewards[self.better]),
            "rejected_reward": Mean.of(rewards[self.worse]),
        }


def _by_member(inputs: BatchLossInputs) -> Tensor:
    assert inputs.member is not None
    return (inputs.member == 0).unsqueeze(1) & (inputs.member > 0)


def _by_reward(inputs: BatchLossInputs) -> Tensor:
    assert inputs.reward is not None
    return inputs.reward.unsqueeze(1) > inputs.reward


def sequence_sums(values: Float[Tensor, "batch seq"], inputs: BatchLossInputs) -> Float[Tensor, "batch"]:
    """Return the sum over the counted tokens of each row."""
    return torch.where(inputs.loss_mask, values, 0.0).sum(dim=1)


def sequence_means(values: Float[Tensor, "batch seq"], inputs: BatchLossInputs) -> Float[Tensor, "batch"]:
    """Return the mean over the counted tokens of each row, 0 where nothing counts."""
    return sequence_sums(values, inputs) / inputs.loss_mask.sum(dim=1).clamp(min=1)
