"""Why it matters that a component asks for a field that it does not read."""

from __future__ import annotations

from plugrad.contracts.needs import OF_CRITIC, OF_TEACHER
from plugrad.testing.checks import Broken

OF_MODELS = frozenset({"old_logprobs", "ref_logprobs", *OF_TEACHER})
OF_POLICY = frozenset({"entropy", "logits", "hidden_states", "embedding"})
UNREAD = "A field that is not read is a slip: in the declaration, or in the code that was meant to read it."


def unread(need: str, what: str) -> Broken:
    """Return the failure of a component whose numbers another value of this field does not change.

    Args:
        need: the field.
        what: what stays the same, as in "the same numbers".
    """
    return Broken(f"a change of {need} gives {what}", why=f"{_cost(need)} {UNREAD}".lstrip())


def _cost(need: str) -> str:
    if need in OF_MODELS:
        return f"{need} costs a forward pass over every sequence, and memory."
    if need in OF_POLICY:
        return f"{need} costs memory and time in every forward pass of the policy."
    if need in OF_CRITIC:
        return f"{need} takes a critic, so no run without one can use this component."
    if need == "greedy_rewards":
        return "greedy_rewards costs one more completion per example."
    return ""
