"""Parity: whether the engine samples from the policy, found out by having the trainer score what it sampled."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch

from plugrad.errors import TrainingError
from plugrad.rollout.engine import Completion, Prompt, RolloutEngine, Sampling
from plugrad.trainer.update.learner import Learner

NUM_PROMPTS = 4
MAX_NEW_TOKENS = 32
BOUND, BOUND_OF_16_BITS = 1e-3, 0.1


class Parity(Protocol):
    """What is found out about an engine between two steps."""

    def check(self, step: int) -> dict[str, float]:
        """Look, if it is due after `step` steps, and return what goes into the record."""
        ...


class NothingToCompare:
    """For an engine that replays: it has no log-probs."""

    def check(self, step: int) -> dict[str, float]:
        """Find nothing."""
        return {}


@dataclass(frozen=True)
class ScoredToken:
    """A sampled token, and what the two say of it."""

    token: str
    prompt: str
    inference_logprob: float
    trainer_logprob: float

    @property
    def difference(self) -> float:
        """In nats; infinite where one of them is NaN."""
        difference = abs(self.inference_logprob - self.trainer_logprob)
        return math.inf if math.isnan(difference) else difference


@dataclass(frozen=True)
class SampleAndScore:
    """Compares the log-probs of a few completions, always of the same prompts, with those that the trainer gives them.

    Weights that arrived wrongly, or not at all, show here and nowhere else: rollouts of a broken policy look like rollouts.
    """

    engine: RolloutEngine
    learner: Learner
    prompts: Sequence[Prompt]
    """Every rank asks its own engine for them."""
    sampling: Sampling
    every_steps: int
    bound: float

    def check(self, step: int) -> dict[str, float]:
        """Compare before the first step, after it, and after every so many.

        Raises:
            TrainingError: they differ by more than the bound in the mean over tokens.
        """
        if step > 1 and step % self.every_steps:
            return {}
        completions = [group[0] for group in self.engine.generate(self.prompts, self.sampling)]
        own = [token for pair in zip(self.prompts, completions, strict=True) for token in self._scored(*pair)]
        of_ranks = self.learner.ranks.gather(own)
        tokens = [token for share in of_ranks for token in share]
        mean = sum(token.difference for token in tokens) / len(tokens)
        worst = max(tokens, key=lambda token: token.difference)
        if mean > self.bound:
            rank = next(rank for rank, share in enumerate(of_ranks) if worst in share)
            raise TrainingError(self._complaint(step, mean, len(tokens), worst, rank))
        return {"inference_mismatch/parity": mean, "inference_mismatch/parity_max": worst.difference}

    @torch.no_grad()
    def _scored(self, prompt: Prompt, completion: Completion) -> list[ScoredToken]:
        ids = torch.tensor([[*prompt.ids, *completion.ids]], device=self.learner.accelerator.device)
        sampled = torch.arange(ids.shape[1], device=ids.device).unsqueeze(0) >= len(prompt.ids)
        logprobs, _ = self.learner.policy(ids, torch.ones_like(sampled), sampled)
        ours: list[float] = logprobs[sampled].tolist()
        return [
            ScoredToken(str(self.learner.tokenizer.decode([token])), prompt.text, theirs, mine)
            for token, theirs, mine in zip(completion.ids, completion.logprobs or [], ours, strict=True)
        ]

    def _complaint(self, step: int, mean: float, num_tokens: int, worst: ScoredToken, rank: int) -> str:
        when = "before the first step" if step == 0 else f"after step {step}"
        on_rank = f" on rank {rank}" if self.learner.ranks.count > 1 else ""
        return (
            f"{when}, the engine's log-probs differ from the policy's by {mean:.3g} nats in the mean over {num_tokens} "
            f"sampled tokens, and rollout.parity_bound is {self.bound:g}. Most at {worst.token!r} after the prompt "
            f"{worst.prompt!r}{on_rank}: {worst.inference_logprob:.4f} by {type(self.engine).__name__}, "
            f"{worst.trainer_logprob:.4f} by the policy. It does not sample from the policy: its new weights did not "
            "arrive, or not whole, or it computes another model. If such differences are right for this model and dtype, "
            "raise the bound."
        )


def default_bound(dtype: torch.dtype) -> float:
    """Return the bound for weights of this type: kernels of 16 bits differ by a few hundredths of a nat."""
    return BOUND_OF_16_BITS if torch.finfo(dtype).bits <= 16 else BOUND
