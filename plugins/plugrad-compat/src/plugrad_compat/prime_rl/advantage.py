"""The advantage `prime_rl`: a prime-rl advantage that reads rollouts in the layout of the `verifiers` package."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, cast

from plugrad import AdvantageInputs, AdvantageOutputs, CallableReference, ContractError, Rollout, advantage, resolve_callable
from plugrad_compat.prime_rl.trajectory import trajectory_of


@advantage()
class PrimeRlAdvantage:
    """A_ij of a prime-rl advantage, given rollouts with the keys of `verifiers`.

    Args:
        target: `file.py:name` or `module:name` of the function `(inputs, **kwargs) -> AdvantageOutputs`.
        kwargs: its keyword arguments.
    """

    def __init__(self, target: CallableReference, kwargs: dict[str, Any] | None = None) -> None:
        self._target = target
        self._call = resolve_callable(target)
        self._kwargs = kwargs or {}

    def __call__(self, inputs: AdvantageInputs) -> AdvantageOutputs:
        """Return one advantage per rollout, or one per token."""
        rollouts = [[verifiers_rollout(rollout) for rollout in group] for group in inputs.rollouts]
        returned = self._call(replace(inputs, rollouts=rollouts), **self._kwargs)
        if not hasattr(returned, "advantages"):
            raise ContractError(
                f"{self._target!r} returned {type(returned).__name__}; a prime-rl advantage returns "
                "AdvantageOutputs(advantages=...)."
            )
        return AdvantageOutputs(returned.advantages)


def verifiers_rollout(rollout: Rollout) -> Rollout:
    """Return a rollout with every key of `verifiers`, either supplied by the environment or derived.

    Its trajectory has a `TrajectoryStep` of `verifiers/types.py` for each reply, with the known fields.
    """
    supplied = {name: rollout.get(name) for name in ("trajectory", "info")}
    more = {
        "example_id": rollout["example"].get("example_id"),
        "answer": rollout["example"].get("reference"),
        "is_truncated": rollout["truncated"],
        "trajectory": supplied["trajectory"] or trajectory_of(rollout),
        "info": supplied["info"] or {},
        "metrics": {**rollout["reward_components"], **rollout["metrics"]},
    }
    return cast(Rollout, {**rollout, **more})
