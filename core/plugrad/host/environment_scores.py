"""What an environment's `score` returned and wrote: rewards, components and metrics, all of them checked."""

from __future__ import annotations

import inspect
import math
from collections.abc import Iterable, Mapping, Sequence, Set
from itertools import islice
from typing import Any

from plugrad.contracts.environment import finite_number
from plugrad.contracts.rollout import Rollout
from plugrad.errors import ContractError, DataError, counted
from plugrad.host.calling import changed_in_place, refuse_coroutine
from plugrad.host.received import WRITTEN_BY_SCORE, changed_key
from plugrad.host.reported import metric_name
from plugrad.registry.wording import some_of
from plugrad.shown import printable, shown

TAKEN_AS_THEY_ARE = ("info", "trajectory")


def list_of_scores(owner: str, scores: object, num_rollouts: int) -> list[Any]:
    """Return the scores as a list: `score` may return any iterable with an order.

    Raises:
        ContractError: there is not one score per rollout.
    """
    refuse_coroutine(f"{owner}.score", scores)
    rollouts = f"{counted(num_rollouts, 'rollout')}; return one each"
    if isinstance(scores, Mapping | Set | str | bytes) or not isinstance(scores, Iterable) or _has_no_axis(scores):
        raise ContractError(f"{owner}.score returned {type(scores).__name__} for {rollouts}.")
    # An array's or tensor's own method is faster, and gives Python's numbers.
    values = scores.tolist() if hasattr(scores, "tolist") else scores
    # A generator may have no end.
    listed = values if isinstance(values, list) else list(islice(values, num_rollouts + 1))
    if len(listed) != num_rollouts:
        raise ContractError(f"{owner}.score returned {counted(len(listed), 'score')} for {rollouts}.")
    return listed


def write_score(owner: str, score: object, rollout: Rollout) -> None:
    """Write a score's reward and components into a rollout.

    Raises:
        DataError: the reward is not a finite number. Names the example.
    """
    if not isinstance(score, Mapping):
        rollout["reward"], rollout["reward_components"] = _number(owner, score, rollout), {}
        return
    unnamed = next((name for name in score if not isinstance(name, str)), None)
    if not score or unnamed is not None:
        found = "an empty mapping" if not score else f"a component named {shown(unnamed)}"
        raise DataError(
            f"{owner} returned the reward {found}, for {_which(rollout)}. A mapping has at least one component, and each is "
            "named by text."
        )
    components = {name: _number(owner, value, rollout, name) for name, value in score.items()}
    rollout["reward"] = components["reward"] if "reward" in components else _number(owner, sum(components.values()), rollout)
    rollout["reward_components"] = components


def unlike_components(rollouts: Sequence[Rollout]) -> str | None:
    """Return what is odd about the components of scored rollouts: they differ within an example. Or None."""
    listed = [frozenset(rollout["reward_components"]) for rollout in rollouts]
    if len(set(listed)) < 2:
        return None
    first: dict[str, frozenset[str]] = {}
    for rollout, names in zip(rollouts, listed, strict=True):
        example = shown(rollout["example"].get("example_id"))
        others = first.setdefault(example, names)
        if names != others:
            return (
                f"one completion of example {example} has {_listed(others)} and another has {_listed(names)}. A component "
                "that is missing adds nothing to the reward, so these completions are compared by different sums. If that "
                "is not meant, return all components for every completion."
            )
    return None


def take_over(owner: str, given: object, rollout: Rollout) -> None:
    """Take what `score` wrote into its copy of a rollout over into core's.

    Raises:
        InputsChanged: it changed, deleted or replaced something that it may not write.
        ContractError: a metric is not a number. Names the metric and the example.
    """
    if not isinstance(given, dict):
        raise changed_in_place(owner, "rollouts")
    changed = changed_key(given, rollout, WRITTEN_BY_SCORE)
    if changed:
        raise changed_in_place(owner, changed)
    taken: Any = {name: value for name, value in given.items() if name not in rollout or name in TAKEN_AS_THEY_ARE}
    rollout.update(taken)
    rollout["metrics"] = _metrics(owner, given.get("metrics", {}), rollout)


def _listed(names: frozenset[str]) -> str:
    return f"the reward components {some_of(sorted(map(printable, names)))}" if names else "no reward components"


def _has_no_axis(scores: object) -> bool:
    return getattr(scores, "ndim", 1) == 0


def _number(owner: str, value: object, rollout: Rollout, component: str = "") -> float:
    number = finite_number(value)
    if number is None:
        awaited = " It is asynchronous: await it." if inspect.isawaitable(value) else ""
        if inspect.iscoroutine(value):
            value.close()
        what = f"the reward component {shown(component)} as" if component else "the reward"
        raise DataError(
            f"{owner} returned {what} {shown(value)}, which is not a finite number, for {_which(rollout)}.{awaited}"
        )
    return number


def _metrics(owner: str, metrics: object, rollout: Rollout) -> dict[str, float]:
    """Return the environment's metrics without those that are None: undefined for this rollout."""
    if not isinstance(metrics, Mapping):
        raise ContractError(
            f"{owner} set rollout['metrics'] to {type(metrics).__name__}, for {_which(rollout)}. Metrics are a mapping from "
            "names to numbers: rollout['metrics']['name'] = 1.0."
        )
    return {
        metric_name(f"{owner} set", name, f", for {_which(rollout)}"): _metric(owner, name, value, rollout)
        for name, value in metrics.items()
        if value is not None
    }


def _metric(owner: str, name: object, value: Any, rollout: Rollout) -> float:
    number = finite_number(value)
    if number is None:
        raise ContractError(
            f"{owner} set the metric {shown(name)} to {_told(value)}, which is not a finite number, for {_which(rollout)}. "
            "Where it is undefined, set it to None, which leaves the rollout out."
        )
    return number


def _told(value: object) -> str:
    is_number = isinstance(value, float) and not math.isfinite(value)
    return repr(value) if is_number or isinstance(value, str) else type(value).__name__


def _which(rollout: Rollout) -> str:
    return f"the completion {rollout['completion']!r} of example {shown(rollout['example'].get('example_id'))}"
