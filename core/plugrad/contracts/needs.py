"""Needs: the optional input fields that a plugin may request. Each costs work that only a plugin with the need causes."""

from __future__ import annotations

LOSS_NEEDS = frozenset(
    {
        "old_logprobs",
        "ref_logprobs",
        "teacher_logprobs",
        "entropy",
        "logits",
        "hidden_states",
        "embedding",
        "values",
        "old_values",
        "returns",
        "input_ids",
        "reward",
    }
)
GIVEN_TO_LOSSES = frozenset({"group_ids", "member", "metadata"})
"""Optional fields that every loss gets, since they cost nothing. Naming them as needs is allowed."""
NOT_OF_WHOLE_BATCHES = frozenset({"logits", "hidden_states"})
"""What a loss that sees a whole batch cannot have: it exists for one micro-batch at a time."""
ADVANTAGE_NEEDS = frozenset({"greedy_rewards", "values", "old_logprobs", "ref_logprobs", "teacher_logprobs"})
SCORES = ADVANTAGE_NEEDS - {"greedy_rewards"}
"""What models compute of rollouts."""
METRIC_NEEDS = frozenset({"entropy", "old_logprobs", "ref_logprobs", "values", "old_values", "returns"})
KNOWN_NEEDS = {"loss": LOSS_NEEDS | GIVEN_TO_LOSSES, "advantage": ADVANTAGE_NEEDS, "metric": METRIC_NEEDS}
