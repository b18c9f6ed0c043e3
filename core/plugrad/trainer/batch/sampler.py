"""A batch of rollouts: prompts -> engine -> scores -> advantages."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field, replace
from pickle import PicklingError
from typing import Any

import torch
from torch import Tensor

from plugrad.contracts.advantage import AdvantageInputs
from plugrad.contracts.environment import Example
from plugrad.contracts.rollout import Rollout
from plugrad.errors import ContractError
from plugrad.host.advantage import per_token
from plugrad.host.environment import BoundEnvironment
from plugrad.host.hooks import Hooks
from plugrad.host.prepared_advantages import prepared_and_computed
from plugrad.rollout.engine import Completion, Prompt, RolloutEngine, Sampling
from plugrad.rollout.texts import Texts
from plugrad.rollout.turns.player import PlayLimits
from plugrad.trainer.batch.playing import Playing
from plugrad.trainer.capture.watch import Watch
from plugrad.trainer.ranks.ranks import Ranks


@dataclass(frozen=True)
class RolloutBatch:
    """One rank's groups of one step. Everything but `groups` is passed by keyword."""

    groups: list[list[Rollout]]
    """As the environment scored them."""
    _: KW_ONLY
    greedy_rewards: list[float] | None = None
    """Of one greedy completion of each example, for an advantage that compares with it."""
    greedy_failures: Sequence[str] = ()
    """Why plays failed that would have given such rewards."""
    num_dropped: int = 0
    """Rollouts that were sampled again because the policy that sampled them was too old."""
    first_group: int = 0
    """The index of the first group over all ranks."""
    rewards: list[list[float]] = field(default_factory=list)
    """As `prepare_advantages` left them; empty until `with_advantages`."""
    advantages: list[list[list[float]]] = field(default_factory=list)
    """One per completion token; empty until `with_advantages`."""
    returns: list[list[list[float]]] | None = None
    """One per completion token, if the advantage returned them."""
    scores: Mapping[str, list[list[list[float]]]] = field(default_factory=dict)
    """What models made of the rollouts before the first update, by field of `AdvantageInputs`: log-probs, one per completion
    token, and values, one more than that."""

    @property
    def rollouts(self) -> list[Rollout]:
        """All rollouts, in order."""
        return [rollout for group in self.groups for rollout in group]


@dataclass(frozen=True)
class Sampler:
    """Completes examples with an engine and scores the completions with the environment.

    Two threads may call it; the tokenizer and the environment see one call at a time.
    """

    engine: RolloutEngine
    environment: BoundEnvironment
    texts: Texts
    room_for_prompt: int | None
    """The most tokens of a prompt; None where the model states no context length."""
    limits: PlayLimits | None = None
    """Of a play, for environments that play with the policy."""
    one_at_a_time: threading.Lock = field(default_factory=threading.Lock)

    def sample(self, examples: Sequence[Example], sampling: Sampling) -> list[list[Rollout]]:
        """Sample and score `num_completions` rollouts of each example."""
        if self.limits is not None and self.environment.plays:
            with self.one_at_a_time:
                return Playing(self.engine, self.environment, self.texts, self.limits).sample(examples, sampling)
        prompts = self.prompts(examples)
        # Even without a prompt: ranks that share an engine call it together, and one may have no share.
        completions = self.engine.generate(prompts, sampling)
        if not examples:
            return []
        with self.one_at_a_time:
            groups = [
                [self._rollout(prompt, self.texts.cut(completion)) for completion in group]
                for prompt, group in zip(prompts, completions, strict=True)
            ]
            self.environment.score([rollout for group in groups for rollout in group])
        return groups

    def prompts(self, examples: Sequence[Example]) -> list[Prompt]:
        """Return the examples' prompts, tokenized."""
        with self.one_at_a_time:
            return self.texts.prompts(examples, room=self.room_for_prompt)

    def teacher_prompt(self, example: Example) -> list[int] | None:
        """Return what the example's teacher reads in place of the prompt, tokenized; None if it reads the prompt."""
        with self.one_at_a_time:
            return self.texts.teacher_prompt(example)

    def sample_greedy(self, examples: Sequence[Example], sampling: Sampling) -> list[Rollout]:
        """Sample and score one greedy completion of each example."""
        greedy = replace(sampling, num_completions=1, temperature=0.0)
        return [rollout for [rollout] in self.sample(examples, greedy)]

    def _rollout(self, prompt: Prompt, completion: Completion) -> Rollout:
        return Rollout(
            prompt=prompt.text,
            completion=self.texts.completion(completion),
            prompt_ids=prompt.ids,
            completion_ids=completion.ids,
            inference_logprobs=completion.logprobs,
            reward=float("nan"),
            reward_components={},
            truncated=completion.truncated,
            example=prompt.example,
            metrics={},
            policy_versions=completion.policy_versions,
        )


def with_advantages(
    batch: RolloutBatch, environment: BoundEnvironment, hooks: Hooks, ranks: Ranks, watch: Watch
) -> RolloutBatch:
    """Compute the advantages of this rank's rollouts from the groups of all ranks."""
    shares = _gather_groups(batch.groups, environment, ranks)
    greedy_rewards = ranks.gather(batch.greedy_rewards)
    scores = ranks.gather(batch.scores)
    first = sum(len(share) for share in shares[: ranks.index])
    own = slice(first, first + len(batch.groups))
    everyones = [group for share in shares for group in share]
    given = AdvantageInputs(rollouts=everyones, greedy_rewards=_concatenated(greedy_rewards), **_joined(scores))
    with watch.advantage(given, batch.groups, first):
        inputs, outputs = prepared_and_computed(hooks, given)
    lengths = [[len(rollout["completion_ids"]) for rollout in group] for group in everyones]
    returns = None if outputs.returns is None else [[tokens.tolist() for tokens in group] for group in outputs.returns[own]]
    return replace(
        batch,
        first_group=first,
        rewards=inputs.rewards.tolist()[own],
        advantages=per_token(outputs, lengths)[own],
        returns=returns,
    )


def _gather_groups(groups: list[list[Rollout]], environment: BoundEnvironment, ranks: Ranks) -> list[list[list[Rollout]]]:
    try:
        return ranks.gather(groups)
    except (TypeError, AttributeError, PicklingError) as error:
        raise ContractError(
            f"{environment.component} put a value into its rollouts or examples that cannot be sent to another "
            f"rank: {error}. Advantages see the rollouts of all ranks: use only numbers, text, lists and mappings."
        ) from error


def _joined(shares: Sequence[Mapping[str, list[list[list[float]]]]]) -> dict[str, Any]:
    """Return the scores of all ranks' rollouts as tensors in float64, like rewards."""
    names = dict.fromkeys(name for share in shares for name in share)
    return {
        name: [[torch.tensor(row, dtype=torch.double) for row in group] for share in shares for group in share[name]]
        for name in names
    }


def _concatenated(shares: list[list[float] | None]) -> Tensor | None:
    rewards = [reward for share in shares if share is not None for reward in share]
    return torch.tensor(rewards, dtype=torch.double) if rewards else None
