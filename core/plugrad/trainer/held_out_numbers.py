"""What is reported of held-out examples: reward, length, and what several completions of an example tell."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from math import comb
from statistics import fmean

from plugrad.config.tables.evaluation_table import OF_THE_ENVIRONMENT, EvaluationTable
from plugrad.contracts.measures import Mean, Measures
from plugrad.contracts.rollout import Rollout


def held_out_numbers(groups: Sequence[Sequence[Rollout]], prefix: str, table: EvaluationTable) -> Measures:
    """Return the measures of the completions of some examples, a group for each, under names that begin with `prefix`."""
    rollouts = [rollout for group in groups for rollout in group]
    measures = Measures()
    measures.add(f"{prefix}/reward", Mean.of(rollout["reward"] for rollout in rollouts))
    measures.add(f"{prefix}/completion_length", Mean.of(float(len(rollout["completion_ids"])) for rollout in rollouts))
    for k in table.ks:
        passed = Mean.of(pass_at_k([rollout["reward"] >= table.pass_reward for rollout in group], k) for group in groups)
        measures.add(f"{prefix}/pass_at_k/{k}", passed)
    if table.ks:
        num = table.rollouts_per_example
        measures.add(f"{prefix}/mean_at_k/{num}", Mean.of(rollout["reward"] for rollout in rollouts))
        measures.add(f"{prefix}/maj_at_k/{num}", Mean.of(map(reward_of_majority, groups)))
    for rollout in rollouts:
        noted = {f"{prefix}/{OF_THE_ENVIRONMENT}/{name}": Mean(float(v), 1.0) for name, v in rollout["metrics"].items()}
        measures.update(noted)
    return measures


def pass_at_k(successes: Sequence[bool], k: int) -> float:
    """Return 1 - C(n - c, k) / C(n, k) for n completions, c of which succeed (arXiv:2107.03374, eq. 1).

    It is unbiased, unlike 1 - (1 - c / n)^k.
    """
    num, failures = len(successes), len(successes) - sum(successes)
    return 1 - comb(failures, k) / comb(num, k)


def reward_of_majority(group: Sequence[Rollout]) -> float:
    """Return the reward of the most frequent answer; of several that are equally frequent, the mean.

    The answer is `rollout["info"]["answer"]` where the environment writes it, and otherwise the whole completion.
    """
    rewards: defaultdict[str, list[float]] = defaultdict(list)
    for rollout in group:
        rewards[_answer(rollout)].append(rollout["reward"])
    most = max(map(len, rewards.values()))
    return fmean(fmean(found) for found in rewards.values() if len(found) == most)


def _answer(rollout: Rollout) -> str:
    info = rollout.get("info")
    return str(info["answer"]) if isinstance(info, dict) and "answer" in info else rollout["completion"].strip()
