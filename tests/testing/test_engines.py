"""The engines pass their conformance check, and broken ones are caught by it."""

import copy
import dataclasses

import pytest
import torch
from transformers import GenerationConfig

from plugrad.rollout.dataset_engine import DatasetEngine
from plugrad.rollout.engine import Sampling
from plugrad.rollout.prompts import tokenize_prompts
from plugrad.rollout.transformers_engine import TransformersEngine
from plugrad.testing import CheckFailure, Outcome, check_engine, engine_checks, run_checks, tiny_model, tiny_tokenizer
from plugrad.testing.engines.engine_trial import EXAMPLES, largest_mismatch


def transformers_engine(model, tokenizer, batch_size=4):
    return TransformersEngine(model, tokenizer, batch_size)


@pytest.mark.parametrize("batch_size", [1, 4, 512])
def test_the_transformers_engine_conforms(batch_size):
    check_engine(lambda m, t: transformers_engine(m, t, batch_size), tiny_model(), tiny_tokenizer())


@pytest.mark.parametrize("model_type", ["gpt2", "llama", "mamba", "openai-gpt"])
def test_the_transformers_engine_conforms_with_other_models(model_type):
    """`mamba` has another kind of cache, and `openai-gpt` none."""
    fields = {"openai-gpt": {"n_embd": 32, "n_head": 2, "n_layer": 2}}.get(model_type, {})
    check_engine(transformers_engine, tiny_model(model_type=model_type, **fields), tiny_tokenizer())


def test_the_dataset_engine_conforms():
    check_engine(lambda _, tokenizer: DatasetEngine(tokenizer), tiny_model(), tiny_tokenizer(), samples=False)


class Wrapped:
    """An engine that spoils what a good one returns."""

    def __init__(self, model, tokenizer):
        self.inner = transformers_engine(model, tokenizer)

    def generate(self, prompts, sampling):
        return [[self.spoil(c) for c in group] for group in self.inner.generate(prompts, sampling)]

    def update_weights(self, weights, version):
        self.inner.update_weights(weights, version)

    def close(self):
        self.inner.close()

    def spoil(self, completion):
        return completion


class OtherLogprobs(Wrapped):
    def spoil(self, completion):
        return dataclasses.replace(completion, logprobs=[value - 0.01 for value in completion.logprobs])


class NoVersions(Wrapped):
    def update_weights(self, weights, version):
        pass


class AllTruncated(Wrapped):
    def spoil(self, completion):
        return dataclasses.replace(completion, truncated=True)


class OneRollout(Wrapped):
    def generate(self, prompts, sampling):
        return [group[:1] for group in super().generate(prompts, sampling)]


class SameSeed(Wrapped):
    def generate(self, prompts, sampling):
        return super().generate(prompts, dataclasses.replace(sampling, seed=0))


class IgnoresTemperature(Wrapped):
    def generate(self, prompts, sampling):
        return super().generate(prompts, dataclasses.replace(sampling, temperature=min(sampling.temperature, 1.0) and 1.0))


class SpoilsTheRandomState(Wrapped):
    def generate(self, prompts, sampling):
        torch.rand(1)
        return super().generate(prompts, sampling)


class NoLogprobs(Wrapped):
    def spoil(self, completion):
        return dataclasses.replace(completion, logprobs=None)


class NeverGreedy(Wrapped):
    def generate(self, prompts, sampling):
        return super().generate(prompts, dataclasses.replace(sampling, temperature=sampling.temperature or 1.0))


class KeepsOldWeights(Wrapped):
    def __init__(self, model, tokenizer):
        super().__init__(copy.deepcopy(model), tokenizer)
        self.version = 0

    def update_weights(self, weights, version):
        self.version = version

    def spoil(self, completion):
        return dataclasses.replace(completion, policy_versions=[self.version] * len(completion.ids))


class ClosesOnce(Wrapped):
    closed = False

    def close(self):
        assert not self.closed, "closed already"
        self.closed = True


class CannotBeClosed:
    def __init__(self, model, tokenizer):
        self.inner = transformers_engine(model, tokenizer)
        self.generate = self.inner.generate


def model_that_ends():
    """Return a model whose completions have end-of-sequence tokens: without them some of these do not show."""
    model = tiny_model(tie_word_embeddings=False)
    with torch.no_grad():
        model.get_output_embeddings().weight[tiny_tokenizer().eos_token_id].normal_(
            generator=torch.Generator().manual_seed(0)
        )
    return model


BROKEN = [
    (OneRollout, "runs"),
    (AllTruncated, "completions"),
    (NoVersions, "versions"),
    (ClosesOnce, "closes"),
    (SameSeed, "seeds"),
    (SpoilsTheRandomState, "random_state"),
    (IgnoresTemperature, "logprobs"),
    (NeverGreedy, "greedy"),
    (KeepsOldWeights, "new_weights"),
]


@pytest.mark.parametrize(("broken", "name"), BROKEN)
def test_a_broken_engine_is_found_by_the_check_made_for_it(broken, name):
    results = run_checks(list(engine_checks(broken, model_that_ends(), tiny_tokenizer())))
    assert {result.check.name for result in results if result.is_bad} == {name}


def test_every_check_has_one_that_fails_it():
    checks = [check.name for check in engine_checks(transformers_engine, tiny_model(), tiny_tokenizer())]
    assert [name for _, name in BROKEN] == checks


@pytest.mark.parametrize(
    ("broken", "complaint"),
    [
        (OtherLogprobs, "nats from those of softmax"),
        (NoLogprobs, "a sampled completion has no log-probs"),
        (CannotBeClosed, "CannotBeClosed has no update_weights and no close"),
    ],
)
def test_one_call_tries_them_all_and_says_whose_engine_breaks_what(broken, complaint):
    with pytest.raises(CheckFailure, match=complaint) as failure:
        check_engine(broken, tiny_model(), tiny_tokenizer())
    assert str(failure.value).startswith(f"the engine '{broken.__name__}' breaks the promise")


def test_an_engine_that_replays_is_not_asked_to_sample():
    checks = engine_checks(lambda _, tokenizer: DatasetEngine(tokenizer), tiny_model(), tiny_tokenizer(), samples=False)
    outcomes = {result.check.name: result.outcome for result in run_checks(list(checks))}
    assert [name for name, outcome in outcomes.items() if outcome is Outcome.KEPT] == [
        "runs",
        "completions",
        "versions",
        "closes",
    ]
    assert set(outcomes.values()) == {Outcome.KEPT, Outcome.NOT_APPLICABLE}


def test_the_check_puts_the_weights_back():
    model = tiny_model()
    before = {name: parameter.clone() for name, parameter in model.named_parameters()}
    check_engine(transformers_engine, model, tiny_tokenizer())
    assert all(torch.equal(before[name], parameter) for name, parameter in model.named_parameters())


def sampled(model, temperature):
    tokenizer = tiny_tokenizer()
    prompts = tokenize_prompts(EXAMPLES, tokenizer, room=None)
    engine = transformers_engine(model, tokenizer)
    return prompts, engine.generate(prompts, Sampling(16, 8, temperature, seed=0))


def test_a_generation_config_that_asks_for_top_k_changes_nothing():
    model = tiny_model(vocab_size=2000)
    asks = GenerationConfig(top_k=5, top_p=0.5, temperature=0.1, repetition_penalty=3.0, do_sample=True, suppress_tokens=[7])
    model.generation_config = asks
    prompts, groups = sampled(model, temperature=0.7)
    assert largest_mismatch(prompts, groups, model, 0.7) < 1e-5
    # With only the five likeliest tokens there could be no more than that many first tokens.
    assert len({completion.ids[0] for completion in groups[0]}) > 5
    assert model.generation_config is asks


def test_logprobs_do_not_follow_weights_that_change_after_sampling():
    model = tiny_model()
    prompts, groups = sampled(model, temperature=1.0)
    assert largest_mismatch(prompts, groups, model, 1.0) < 1e-5
    with torch.no_grad():
        model.get_input_embeddings().weight.mul_(1.5)
    assert largest_mismatch(prompts, groups, model, 1.0) > 0.1
