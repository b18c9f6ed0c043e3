"""`check_engine`: what every rollout engine promises, tried on a real one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from plugrad.policy.policy import Policy
from plugrad.rollout.engine import Completion, Prompt, RolloutEngine, Sampling
from plugrad.rollout.prompts import tokenize_prompts

MakeEngine = Callable[[PreTrainedModel, PreTrainedTokenizerBase], RolloutEngine]

EXAMPLES = [
    {"example_id": 0, "prompt": "1+1=", "reference": "2"},
    {"example_id": 1, "prompt": "a longer prompt, so that padding matters: ", "reference": "yes, it does"},
    {"example_id": 2, "prompt": "x", "reference": ""},
]


def check_engine(
    make_engine: MakeEngine,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    *,
    samples: bool = True,
    tolerance: float = 1e-5,
) -> None:
    """Check an engine against its contract, with prompts of different lengths.

    Args:
        make_engine: makes the engine for a model and its tokenizer.
        model: the policy; its weights are changed and put back.
        tokenizer: the model's.
        samples: False for an engine that replays recorded completions: it is not asked to sample.
        tolerance: the largest difference in nats between the engine's log-probs and the model's.

    Raises:
        AssertionError: saying what the engine promised and what it did.
    """
    assert isinstance(make_engine(model, tokenizer), RolloutEngine), "an engine has generate, update_weights and close"
    prompts = tokenize_prompts(EXAMPLES, tokenizer, room=None)
    sampling = Sampling(num_completions=3, max_new_tokens=8, temperature=0.7, seed=1)
    engine = make_engine(model, tokenizer)
    try:
        _check_shape(engine, prompts, sampling, tokenizer, samples)
        _check_versions(engine, prompts, sampling, model)
        if samples:
            _check_seeds(engine, prompts, sampling)
            _check_logprobs(engine, prompts, sampling, model, tolerance)
            _check_greedy(engine, prompts, replace(sampling, temperature=0.0))
            _check_new_weights(engine, prompts, sampling, model, tolerance)
    finally:
        engine.close()
        engine.close()


def largest_mismatch(
    prompts: Sequence[Prompt], groups: Sequence[Sequence[Completion]], model: PreTrainedModel, temperature: float
) -> float:
    """Return the largest difference between the completions' log-probs and those of `model`, in nats."""
    policy = Policy(model, temperature)
    differences = [0.0]
    for prompt, group in zip(prompts, groups, strict=True):
        for completion in group:
            ids = torch.tensor([[*prompt.ids, *completion.ids]], device=model.device)
            counted = torch.arange(ids.shape[1], device=model.device).unsqueeze(0) >= len(prompt.ids)
            with torch.no_grad():
                logprobs, _ = policy(ids, torch.ones_like(ids, dtype=torch.bool), counted)
            theirs = torch.tensor(completion.logprobs, device=model.device)
            differences.append(float((logprobs[counted] - theirs).abs().max()))
    return max(differences)


def _check_shape(
    engine: RolloutEngine, prompts: list[Prompt], sampling: Sampling, tokenizer: PreTrainedTokenizerBase, samples: bool
) -> None:
    groups = engine.generate(prompts, sampling)
    assert [len(group) for group in groups] == [sampling.num_completions] * len(prompts), (
        "generate returns num_completions completions for each prompt, in order"
    )
    for completion in (completion for group in groups for completion in group):
        length = len(completion.ids)
        assert 0 < length <= sampling.max_new_tokens, f"a completion has 1 to max_new_tokens tokens, not {length}"
        assert (completion.logprobs is not None) == samples, "log-probs come with what was sampled, and only with that"
        assert completion.logprobs is None or len(completion.logprobs) == length, "there is one log-prob per token"
        assert tokenizer.eos_token_id not in completion.ids[:-1], "nothing follows the end-of-sequence token"
        ended = completion.ids[-1] == tokenizer.eos_token_id
        assert completion.truncated is not ended, "truncated means: without an end-of-sequence token"


def _check_versions(engine: RolloutEngine, prompts: list[Prompt], sampling: Sampling, model: PreTrainedModel) -> None:
    engine.update_weights(_weights(model), version=3)
    versions = {c.policy_version for group in engine.generate(prompts, sampling) for c in group}
    assert versions == {3}, f"completions carry the version of the weights that made them, 3, and not {versions}"


def _check_seeds(engine: RolloutEngine, prompts: list[Prompt], sampling: Sampling) -> None:
    before = torch.random.get_rng_state()
    first, again = engine.generate(prompts, sampling), engine.generate(prompts, sampling)
    assert first == again, "the same prompts, seed and weights give the same completions"
    assert torch.equal(before, torch.random.get_rng_state()), "generate leaves the trainer's random state as it was"
    other = engine.generate(prompts, replace(sampling, seed=sampling.seed + 1))
    assert first != other, "another seed gives other completions"
    assert any(group[0].ids != group[1].ids for group in first), "the completions of a group are sampled independently"


def _check_logprobs(
    engine: RolloutEngine, prompts: list[Prompt], sampling: Sampling, model: PreTrainedModel, tolerance: float
) -> None:
    for temperature in (1.0, sampling.temperature):
        groups = engine.generate(prompts, replace(sampling, temperature=temperature))
        difference = largest_mismatch(prompts, groups, model, temperature)
        assert difference <= tolerance, (
            f"at temperature {temperature} the engine's log-probs are {difference:.1e} from those of softmax(logits / "
            "temperature): it samples from another distribution, or reports another's log-probs"
        )


def _check_greedy(engine: RolloutEngine, prompts: list[Prompt], sampling: Sampling) -> None:
    groups = engine.generate(prompts, sampling)
    assert all(completion.ids == group[0].ids for group in groups for completion in group), "temperature 0 is greedy"


def _check_new_weights(
    engine: RolloutEngine, prompts: list[Prompt], sampling: Sampling, model: PreTrainedModel, tolerance: float
) -> None:
    kept = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    before = engine.generate(prompts, sampling)
    try:
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(0.1 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(0)).to(parameter))
        stale = largest_mismatch(prompts, before, model, sampling.temperature)
        assert stale > 100 * tolerance, (
            "log-probs come from the logits that sampled: they must not follow weights that changed afterwards"
        )
        engine.update_weights(_weights(model), version=4)
        difference = largest_mismatch(prompts, engine.generate(prompts, sampling), model, sampling.temperature)
        assert difference <= tolerance, f"after update_weights the engine is {difference:.1e} from the new weights"
    finally:
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                parameter.copy_(kept[name])
        engine.update_weights(_weights(model), version=5)


def _weights(model: PreTrainedModel) -> list[tuple[str, torch.Tensor]]:
    return [(name, weight.detach()) for name, weight in model.state_dict(keep_vars=True).items()]
