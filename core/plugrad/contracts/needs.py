"""Needs: the optional input fields that a plugin may request. Each costs work that only a plugin with the need causes."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Any, Literal, get_args

from plugrad.errors import OptionError, did_you_mean
from plugrad.shown import shown

LOSS_NEEDS = frozenset(
    {
        "old_logprobs",
        "ref_logprobs",
        "teacher_logprobs",
        "teacher_divergence",
        "teacher_logits",
        "entropy",
        "logits",
        "hidden_states",
        "embedding",
        "values",
        "old_values",
        "returns",
        "input_ids",
        "reward",
        "again",
    }
)
GIVEN_TO_LOSSES = frozenset({"group_ids", "member", "metadata"})
"""Optional fields that every loss gets, since they cost nothing. Naming them as needs is allowed."""
NOT_OF_WHOLE_BATCHES = frozenset({"logits", "hidden_states", "teacher_logits", "again"})
"""What a loss that sees a whole batch cannot have: it exists for one micro-batch at a time."""
ADVANTAGE_NEEDS = frozenset({"greedy_rewards", "values", "old_logprobs", "ref_logprobs", "teacher_logprobs"})
SCORES = ADVANTAGE_NEEDS - {"greedy_rewards"}
"""What models compute of rollouts."""
METRIC_NEEDS = frozenset({"entropy", "old_logprobs", "ref_logprobs", "values", "old_values", "returns"})
GIVEN_TO_METRICS = frozenset({"advantages", "trainer_logprobs"})
"""What every metric gets of an update. Naming them as needs is allowed: an evaluation computes only what is read."""
OF_UPDATES = frozenset({"old_logprobs", "old_values", "returns"})
"""What an update alone has: held-out completions are not trained on."""
KNOWN_NEEDS = {
    "loss": LOSS_NEEDS | GIVEN_TO_LOSSES,
    "advantage": ADVANTAGE_NEEDS,
    "metric": METRIC_NEEDS | GIVEN_TO_METRICS,
}
ALWAYS_GIVEN = GIVEN_TO_LOSSES | GIVEN_TO_METRICS

DivergenceKind = Literal["forward", "reverse", "jsd"]
OF_TEACHER = ("teacher_logprobs", "teacher_divergence", "teacher_logits")
"""What a teacher gives."""
OF_CRITIC = ("values", "old_values", "returns")
"""What takes a critic."""
KINDS_OF_DIVERGENCE: tuple[str, ...] = get_args(DivergenceKind)


@dataclass(frozen=True)
class TeacherDivergence:
    """A need of a loss: how far the policy is from its teacher at each token, over the whole vocabulary, in nats.

    With p_S and p_T the softmax of the policy's and of the teacher's logits over `temperature`:

    - forward: KL(p_T || p_S) = sum p_T (log p_T - log p_S)
    - reverse: KL(p_S || p_T) = sum p_S (log p_S - log p_T)
    - jsd: beta KL(p_T || m) + (1 - beta) KL(p_S || m), with m = beta p_T + (1 - beta) p_S: the generalised Jensen-Shannon
      divergence of GKD (arXiv:2306.13649)

    The sums run over the columns that both heads have. The gradient flows to the policy alone. Nothing is multiplied by
    temperature^2: a loss that wants the gradient's scale kept does it (arXiv:1503.02531, section 2).
    """

    kind: DivergenceKind
    """Which of the three."""
    temperature: float = 1.0
    """Divides the logits as the models give them. The temperature that samples does not count here."""
    beta: float = 0.5
    """The teacher's part of the mixture. Only jsd uses it."""

    def __post_init__(self) -> None:
        """Check the fields.

        Raises:
            OptionError: an unknown kind, a temperature that is not finite and above 0, or a beta that is not between 0 and 1
                and neither of them.
        """
        if self.kind not in KINDS_OF_DIVERGENCE:
            raise _wrong("kind", self.kind, f"unknown kind.{did_you_mean(str(self.kind), KINDS_OF_DIVERGENCE)} {_ONE_OF}")
        if not _is_number(self.temperature) or self.temperature <= 0:
            raise _wrong("temperature", self.temperature, "it divides logits: write a finite number above 0.")
        if not _is_number(self.beta) or not 0 <= self.beta <= 1:
            raise _wrong("beta", self.beta, "it is the teacher's part of a mixture: write a number between 0 and 1.")
        if self.beta in (0, 1):
            raise _wrong(
                "beta",
                self.beta,
                "the mixture is then one of the two distributions, and jsd is always 0. Write forward or reverse: "
                "kind='forward' for what GKD means by beta 0, kind='reverse' for beta 1.",
            )


_ONE_OF = f"Write one of {', '.join(KINDS_OF_DIVERGENCE)}."


def _is_number(value: Any) -> bool:
    # An integer may be too large for a float.
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= sys.float_info.max


def _wrong(name: str, value: object, what: str) -> OptionError:
    frame = sys._getframe(1)
    # The dataclass's own __init__ is in no file.
    while frame.f_back and frame.f_code.co_filename in {__file__, "<string>"}:
        frame = frame.f_back
    return OptionError(
        f"TeacherDivergence({name}={shown(value)}): {what} See {frame.f_code.co_filename}, line {frame.f_lineno}."
    )
