"""Parity: check that the engine samples from the policy, by scoring its samples with the trainer."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch

from plugrad.errors import TrainingError
from plugrad.rollout.engine import Completion, Prompt, RolloutEngine, Sampling
from plugrad.shown import shown
from plugrad.trainer.update.learner import Learner

NUM_PROMPTS = 4
MAX_NEW_TOKENS = 32
BOUND, BOUND_OF_16_BITS = 1e-3, 0.1


class Parity(Protocol):
    """Compares the engine with the policy between two steps."""

    def check(self, step: int) -> dict[str, float]:
        """Run the check if it is due after `step` steps; return what it adds to the record."""
        ...


class NothingToCompare:
    """For an engine that replays completions: it has no log-probs."""

    def check(self, step: int) -> dict[str, float]:
        """Return nothing."""
        return {}


@dataclass(frozen=True)
class ScoredToken:
    """A sampled token with its log-prob by the engine and by the policy."""

    token: str
    prompt: str
    inference_logprob: float
    trainer_logprob: float

    @property
    def difference(self) -> float:
        """The absolute difference in nats; infinite where either is NaN."""
        difference = abs(self.inference_logprob - self.trainer_logprob)
        return math.inf if math.isnan(difference) else difference


@dataclass(frozen=True)
class SampleAndScore:
    """Samples completions of a few fixed prompts, and compares the engine's log-probs with the policy's.

    Nothing else reveals a failed weight sync: the rollouts of a broken policy still look plausible.
    """

    engine: RolloutEngine
    learner: Learner
    prompts: Sequence[Prompt]
    """Each rank gives them to its own engine."""
    sampling: Sampling
    every_steps: int
    bound: float

    def check(self, step: int) -> dict[str, float]:
        """Compare before the first step, after it, and after every `every_steps` steps.

        Raises:
            TrainingError: the mean difference over tokens exceeds the bound.
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
            raise TrainingError(self._message(step, mean, len(tokens), worst, rank))
        return {"inference_mismatch/parity": mean, "inference_mismatch/parity_max": worst.difference}

    @torch.no_grad()
    def _scored(self, prompt: Prompt, completion: Completion) -> list[ScoredToken]:
        ids = torch.tensor([[*prompt.ids, *completion.ids]], device=self.learner.accelerator.device)
        sampled = torch.arange(ids.shape[1], device=ids.device).unsqueeze(0) >= len(prompt.ids)
        logprobs = self.learner.policy(ids, torch.ones_like(sampled), sampled).logprobs
        ours: list[float] = logprobs[sampled].tolist()
        return [
            ScoredToken(str(self.learner.tokenizer.decode([token])), prompt.text, theirs, mine)
            for token, theirs, mine in zip(completion.ids, completion.logprobs or [], ours, strict=True)
        ]

    def _message(self, step: int, mean: float, num_tokens: int, worst: ScoredToken, rank: int) -> str:
        when = "before the first step" if step == 0 else f"after step {step}"
        on_rank = f" on rank {rank}" if self.learner.ranks.count > 1 else ""
        return (
            f"{when}, the engine's log-probs differ from the policy's by {mean:.3g} nats on average over {num_tokens} "
            f"sampled tokens; rollout.parity_bound is {self.bound:g}. The largest difference is at {worst.token!r} after "
            f"the prompt {shown(worst.prompt)}{on_rank}: {worst.inference_logprob:.4f} by {type(self.engine).__name__}, "
            f"{worst.trainer_logprob:.4f} by the policy. The engine does not sample from the policy: its new weights did "
            "not arrive, or only some did, or it runs another model. If such differences are normal for this model and "
            "dtype, raise the bound."
        )


def default_bound(dtype: torch.dtype) -> float:
    """Return the bound for what computes in this dtype: 16-bit kernels differ by a few hundredths of a nat."""
    return BOUND_OF_16_BITS if torch.finfo(dtype).bits <= 16 else BOUND
