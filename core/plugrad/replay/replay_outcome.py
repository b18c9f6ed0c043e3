"""What a replay found, as numbers for people and for programs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from plugrad.errors import TrainingError
from plugrad.json_text import plain
from plugrad.replay.replaying import ReplayedLoss, cosines, replay, without_gradient
from plugrad.replay.token_table import PushedToken, TokenTable, pushed_hardest, pushed_to_nan, token_table
from plugrad.trainer.capture.capture_files import Capture

HARDEST = 5


@dataclass(frozen=True)
class Replay:
    """Losses on a captured batch, and what they did to it."""

    capture: Capture
    losses: Sequence[ReplayedLoss]

    @cached_property
    def table(self) -> TokenTable:
        """The batch token by token."""
        return token_table(self.capture, self.losses)

    @cached_property
    def cosines(self) -> dict[tuple[str, str], float | None]:
        """By each two labels: how far the gradients agree."""
        return cosines(self.losses)

    def without_gradient(self, loss: ReplayedLoss) -> float:
        """Return the share of counted tokens to which a loss gives no gradient."""
        return without_gradient(self.capture, loss)

    def hardest(self, loss: ReplayedLoss, *, up: bool, num: int = HARDEST) -> list[PushedToken]:
        """Return the tokens that a loss raises or lowers most."""
        return pushed_hardest(self.table, loss.label, num, up=up)

    def not_finite(self, loss: ReplayedLoss, num: int = HARDEST) -> list[PushedToken]:
        """Return the first tokens at which the gradient of a loss is NaN or infinite."""
        return pushed_to_nan(self.table, loss.label, num)

    def to_json(self) -> dict[str, Any]:
        """Return everything as JSON has it, the tokens included."""
        found: dict[str, Any] = plain(
            {
                "step": self.capture.facts["step"],
                "failed": self.capture.facts["failed"],
                "losses": [self._described(loss) for loss in self.losses],
                "cosines": [{"losses": list(pair), "cosine": cosine} for pair, cosine in self.cosines.items()],
                **self.table.to_json(),
            }
        )
        return found

    def check_finite(self) -> None:
        """Raise TrainingError if a loss, or its gradient, is not finite: in a run, this update would end it."""
        for loss in self.losses:
            if not loss.is_finite:
                where = " Look at the tokens above whose numbers are not finite." * bool(self.not_finite(loss))
                raise TrainingError(
                    f"the loss {loss.label} is {loss.value} and the norm of its gradient {loss.norm()}: this update would "
                    f"turn the policy into NaN.{where}"
                )

    def _described(self, loss: ReplayedLoss) -> dict[str, Any]:
        return {
            "label": loss.label,
            "reference": loss.loss.component.source.reference,
            "weight": loss.loss.weight,
            "reduction": loss.loss.reduction,
            "value": loss.value,
            "gradient_norm": loss.norm(),
            "gradient_norms": {str(name): loss.norm(name) for name in loss.reached},
            "without_gradient": self.without_gradient(loss),
            "metrics": dict(loss.metrics),
            "raises": [_of(pushed) for pushed in self.hardest(loss, up=True)],
            "lowers": [_of(pushed) for pushed in self.hardest(loss, up=False)],
            "not_finite": [_of(pushed) for pushed in self.not_finite(loss)],
        }


def replayed(capture: Capture, losses: Sequence[Any]) -> Replay:
    """Run losses on a capture.

    Raises:
        ContractError: a loss raised or broke its contract.
    """
    return Replay(capture, replay(capture, losses))


def _of(pushed: PushedToken) -> dict[str, Any]:
    sequence = pushed.sequence
    return {
        "gradient": pushed.gradient,
        "token": pushed.token,
        "before": pushed.before,
        "after": pushed.after,
        "group": sequence.group,
        "member": sequence.member,
        "place": pushed.place,
    }
