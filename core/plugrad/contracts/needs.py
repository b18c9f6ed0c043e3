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
        "input_ids",
        "reward",
    }
)
ADVANTAGE_NEEDS = frozenset({"greedy_rewards"})
METRIC_NEEDS = frozenset({"entropy", "old_logprobs", "ref_logprobs"})
KNOWN_NEEDS = {"loss": LOSS_NEEDS, "advantage": ADVANTAGE_NEEDS, "metric": METRIC_NEEDS}
