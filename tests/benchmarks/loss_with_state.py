"""A loss as an author starts with: a class with state, in one file. `check.py` checks it."""

from collections.abc import Mapping

from plugrad import LossInputs, LossOutputs, Mean, finite_exp, loss


@loss(needs={"old_logprobs"})
class LossWithState:
    """-min(r A, clip(r) A), r = pi / pi_old. It remembers the mean ratio of the update before."""

    def __init__(self, width: float = 0.2) -> None:
        self.width = width
        self.mean_ratio = 1.0

    def __call__(self, inputs: LossInputs) -> LossOutputs:
        """Return the loss of one sequence."""
        assert inputs.old_logprobs is not None
        ratio = finite_exp(inputs.trainer_logprobs - inputs.old_logprobs)
        clipped = ratio.clamp(1 - self.width, 1 + self.width)
        per_token = -(ratio * inputs.advantages).minimum(clipped * inputs.advantages) * inputs.loss_mask
        return LossOutputs(per_token.sum(), {"ratio": Mean.over(ratio, inputs.loss_mask)})

    def after_update(self, measures: Mapping[str, float]) -> None:
        """Remember the mean ratio."""
        self.mean_ratio = measures["ratio"]

    def state_dict(self) -> dict[str, float]:
        """Return what it remembers."""
        return {"mean_ratio": self.mean_ratio}

    def load_state_dict(self, state: dict[str, float]) -> None:
        """Remember what another one remembered."""
        self.mean_ratio = state["mean_ratio"]
