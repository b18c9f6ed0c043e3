"""Under Accelerate's mixed precision, everything that scores a token computes in it: sampling, reference, parity."""

import pytest
from accelerate.state import AcceleratorState

ROLLOUT = {"prompts_per_step": 4, "rollouts_per_example": 4, "max_new_tokens": 4}
GPT2 = {"model_type": "gpt2", "hidden_size": 64, "num_hidden_layers": 4, "num_attention_heads": 4, "initializer_range": 0.3}


@pytest.fixture
def mixed(monkeypatch):
    """Configure as Accelerate's launcher does; its state lasts for the process."""
    AcceleratorState._reset_state(reset_partial_state=True)
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "bf16")
    yield
    AcceleratorState._reset_state(reset_partial_state=True)


@pytest.mark.usefixtures("mixed")
def test_the_engine_samples_in_the_precision_that_scores(run):
    losses = [{"name": "importance_sampling"}, {"name": "kl_to_reference", "weight": 0.1}]
    result = run(model={"from_scratch": GPT2}, loss=losses, rollout=ROLLOUT, metric=[{"name": "inference_mismatch"}])
    first = result.records[0]
    assert 0 < first["inference_mismatch/parity"] < 0.1
    assert first["kl_to_reference/loss"] == pytest.approx(0.0, abs=1e-12)


def test_without_it_parity_is_as_tight_as_the_weights(run):
    result = run(model={"from_scratch": GPT2}, rollout=ROLLOUT)
    assert result.records[0]["inference_mismatch/parity"] < 1e-5
