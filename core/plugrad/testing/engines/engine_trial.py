"""An engine on trial: how it is created and called, and how its log-probs compare with the model's."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from plugrad.contracts.rollout import Rollout
from plugrad.policy.policy import Policy
from plugrad.rollout.engine import Completion, Prompt, RolloutEngine, Sampling
from plugrad.rollout.prompts import tokenize_prompts
from plugrad.rollout.segments import by_segment, segments_of

MakeEngine = Callable[[PreTrainedModel, PreTrainedTokenizerBase], RolloutEngine]

EXAMPLES = [
    {"example_id": 0, "prompt": "1+1=", "reference": "2"},
    {"example_id": 1, "prompt": "a longer prompt, so that padding matters: ", "reference": "yes, it does"},
    {"example_id": 2, "prompt": "x", "reference": ""},
]
SAMPLING = Sampling(num_completions=3, max_new_tokens=8, temperature=0.7, seed=1)


@dataclass(frozen=True)
class EngineTrial:
    """An engine on trial."""

    make_engine: MakeEngine
    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    samples: bool
    """False for an engine that replays recorded completions."""
    tolerance: float
    """The largest accepted difference, in nats, between its log-probs and the model's."""

    @cached_property
    def prompts(self) -> list[Prompt]:
        """Prompts of different lengths."""
        return tokenize_prompts(EXAMPLES, self.tokenizer, room=None)

    @contextmanager
    def opened(self) -> Iterator[RolloutEngine]:
        """Create an engine and send it the weights, as a run does. Close it at the end."""
        engine = self.make_engine(self.model, self.tokenizer)
        try:
            engine.update_weights(self.weights(), version=0)
            yield engine
        finally:
            engine.close()

    def weights(self) -> list[tuple[str, torch.Tensor]]:
        """Return the model's weights as a run sends them to an engine."""
        return [(name, weight.detach()) for name, weight in self.model.state_dict(keep_vars=True).items()]

    @contextmanager
    def other_weights(self) -> Iterator[None]:
        """Give the model other weights inside the context."""
        kept = {name: parameter.detach().clone() for name, parameter in self.model.named_parameters()}
        try:
            with torch.no_grad():
                for parameter in self.model.parameters():
                    noise = torch.randn(parameter.shape, generator=torch.Generator().manual_seed(0))
                    parameter.add_(0.1 * noise.to(parameter))
            yield
        finally:
            with torch.no_grad():
                for name, parameter in self.model.named_parameters():
                    parameter.copy_(kept[name])


def largest_mismatch(
    prompts: Sequence[Prompt], groups: Sequence[Sequence[Completion]], model: PreTrainedModel, temperature: float
) -> float:
    """Return the largest difference, in nats, between the completions' log-probs and those of `model`."""
    policy = Policy(model, temperature)
    differences = [0.0]
    for prompt, group in zip(prompts, groups, strict=True):
        for completion in group:
            before = len(prompt.ids)
            sampled = [False] * before + [True] * len(completion.ids)
            theirs = [0.0] * before + (completion.logprobs or [])
            differences.append(_mismatch(policy, [*prompt.ids, *completion.ids], sampled, theirs))
    return max(differences)


def largest_mismatch_of_turns(rollouts: Sequence[Rollout], model: PreTrainedModel, temperature: float) -> float:
    """Return the largest difference, in nats, between the log-probs of the rollouts' sampled tokens and those of `model`."""
    policy = Policy(model, temperature)
    differences = [0.0]
    for rollout in rollouts:
        segments = segments_of(rollout)
        rows = by_segment(segments, rollout["inference_logprobs"] or [])
        for segment, logprobs in zip(segments, rows, strict=True):
            differences.append(_mismatch(policy, segment["ids"], segment["sampled"], logprobs))
    return max(differences)


@torch.no_grad()
def _mismatch(policy: Policy, row: Sequence[int], sampled: Sequence[bool], theirs: Sequence[float]) -> float:
    device = next(policy.parameters()).device
    ids, counted = torch.tensor([row], device=device), torch.tensor([sampled], device=device)
    ours = policy(ids, torch.ones_like(ids, dtype=torch.bool), counted).logprobs
    return float((ours - torch.tensor([theirs], device=device))[counted].abs().max())
