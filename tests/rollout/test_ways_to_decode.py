"""Every model is decoded in a way whose log-probs are its own, whatever its cache and its padding do."""

import pytest
import torch

from plugrad.errors import EngineError, TrainingError
from plugrad.policy.policy import Policy
from plugrad.rollout.engine import Sampling
from plugrad.rollout.prompts import tokenize_prompts
from plugrad.rollout.transformers_engine import TransformersEngine
from plugrad.rollout.ways_to_decode import WAYS
from plugrad.testing import tiny_model, tiny_tokenizer
from plugrad.testing.engines.engine_trial import largest_mismatch

EXAMPLES = [{"prompt": prompt} for prompt in ("1+1=", "another one", "1+2=", "1+1=")]
FAST, ONE_LENGTH, TRANSFORMERS, REREADING = WAYS
MINIMAX = {"num_local_experts": 4, "num_experts_per_tok": 2, "initializer_range": 0.3}
GPT2 = {"model_type": "gpt2", "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
MODELS = [
    ("qwen3", "float32", {}, FAST),
    ("qwen3", "float64", {}, FAST),
    ("gpt2", "bfloat16", {}, FAST),
    ("mamba", "float32", {}, FAST),
    # A softmax in float32 of a mask in float64: NaN in padded rows.
    ("gemma2", "float64", {"num_hidden_layers": 2}, ONE_LENGTH),
    ("bloom", "float64", {}, ONE_LENGTH),
    ("mpt", "float64", {}, ONE_LENGTH),
    # Linear attention whose cache does not follow its rows.
    ("minimax", "float32", MINIMAX, TRANSFORMERS),
    ("minimax", "float64", MINIMAX, TRANSFORMERS),
    # Caches that are no Transformers caches.
    ("rwkv", "float32", {}, REREADING),
    ("xlstm", "float32", {}, REREADING),
    # Only recurrent layers, which Transformers cannot count the tokens of.
    ("recurrent_gemma", "float32", {}, REREADING),
]


@pytest.mark.parametrize(("model_type", "dtype", "fields", "way"), MODELS)
def test_log_probs_are_the_models_own(model_type, dtype, fields, way):
    model = tiny_model(model_type=model_type, dtype=dtype, **fields)
    Policy(model, 0.7)
    engine = TransformersEngine(model, tiny_tokenizer(), 5)
    assert engine._way is way
    prompts = tokenize_prompts(EXAMPLES, tiny_tokenizer(), room=None)
    groups = engine.generate(prompts, Sampling(3, 8, 0.7, seed=0))
    assert [len(group) for group in groups] == [3] * 4
    assert largest_mismatch(prompts, groups, model, 0.7) < (0.2 if dtype == "bfloat16" else 1e-4)
    again = engine.generate(prompts, Sampling(3, 8, 0.7, seed=0))
    assert again == groups


@pytest.mark.parametrize("model_type", ["mixtral", "qwen3_moe", "jamba"])
def test_experts_compute_in_float64(model_type):
    model = tiny_model(model_type=model_type, dtype="float64", num_experts_per_tok=2)
    ids = torch.arange(3, 9).unsqueeze(0)
    logprobs = Policy(model, 1.0)(ids, torch.ones_like(ids).bool(), torch.ones_like(ids).bool()).logprobs
    assert logprobs.dtype == torch.float64
    assert logprobs.isfinite().all()


@pytest.mark.parametrize("temperature", [0.0, 1.0])
@pytest.mark.parametrize(
    ("version", "when"), [(0, "before the first update"), (1, "after 1 update,"), (2, "after 2 updates,")]
)
def test_logits_that_are_not_finite_end_the_run_with_the_reason(version, when, temperature):
    model = tiny_model()
    engine = TransformersEngine(model, tiny_tokenizer(), 5)
    engine.update_weights([], version)
    with torch.no_grad():
        model.lm_head.weight.fill_(torch.nan)
    prompts = tokenize_prompts(EXAMPLES, tiny_tokenizer(), room=None)
    with pytest.raises(TrainingError, match=f"logits are not finite {when}"):
        engine.generate(prompts, Sampling(1, 4, temperature, seed=0))


def test_a_learning_rate_that_is_far_too_high_is_named(run):
    with pytest.raises(TrainingError, match=r"after 1 update, so no token can be sampled.*Lower optimizer.lr"):
        run(model={"from_scratch": GPT2}, optimizer={"lr": 1e30}, loss=[{"name": "cross_entropy"}])


def test_a_model_that_cannot_be_decoded_is_named_with_the_cause():
    model = tiny_model()

    def fail(*_):
        raise RuntimeError("no such kernel")

    model.model.norm.register_forward_hook(fail)
    with pytest.raises(EngineError, match=r"cannot be decoded in any way.*RuntimeError: no such kernel"):
        TransformersEngine(model, tiny_tokenizer(), 5)


def test_sampling_leaves_the_mode_of_each_module_as_it_was():
    model = tiny_model().train()
    model.model.layers[0].eval()
    modes = [module.training for module in model.modules()]
    engine = TransformersEngine(model, tiny_tokenizer(), 5)
    engine.generate(tokenize_prompts(EXAMPLES, tiny_tokenizer(), room=None), Sampling(1, 4, 1.0, seed=0))
    assert [module.training for module in model.modules()] == modes
