"""Under Accelerate's mixed precision, everything that scores a token computes in it: sampling, reference, parity."""

from contextlib import nullcontext

import pytest
import torch
from accelerate.state import AcceleratorState

from plugrad import RunFileError
from plugrad.policy.loading import load_model
from plugrad.trainer.engines import _engine_model
from plugrad.trainer.ranks.accelerate_config import make_accelerator

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


LOSSES = [{"name": "importance_sampling"}, {"name": "kl_to_reference", "weight": 0.1}]


@pytest.fixture
def anew(monkeypatch):
    """Begin and end without the precision of another run."""
    AcceleratorState._reset_state(reset_partial_state=True)
    monkeypatch.delenv("ACCELERATE_MIXED_PRECISION", raising=False)
    yield
    AcceleratorState._reset_state(reset_partial_state=True)


@pytest.mark.usefixtures("anew")
def test_the_run_file_says_in_what_is_computed_and_the_next_run_in_the_process_may_say_otherwise(run):
    def parity(**keys):
        tables = {"loss": LOSSES, "rollout": ROLLOUT, "max_steps": 1}
        first = run(model={"from_scratch": GPT2, **keys}, **tables).records[0]
        assert first["kl_to_reference/loss"] == pytest.approx(0.0, abs=1e-12)
        return first["inference_mismatch/parity"]

    assert 1e-5 < parity(compute_dtype="bfloat16") < 0.1
    assert parity(compute_dtype="float32") < 1e-5
    assert 1e-5 < parity(dtype="bfloat16", compute_dtype="bfloat16") < 0.1
    assert parity() < 1e-5


@pytest.mark.usefixtures("anew")
def test_the_weights_stay_in_float32_and_an_engine_of_its_own_is_told_what_is_computed_in(run_file):
    file = run_file(model={"from_scratch": GPT2, "compute_dtype": "bfloat16"})
    accelerator = make_accelerator(file.model)
    loaded = load_model(file.model, ["0123456789+="])
    assert {weight.dtype for weight in loaded.model.parameters()} == {torch.float32}
    assert _engine_model(file, loaded, accelerator.autocast).dtype == torch.bfloat16
    assert _engine_model(file, loaded, nullcontext).dtype == torch.float32


@pytest.mark.usefixtures("mixed")
def test_a_launcher_that_sets_another_precision_is_an_error(run_file):
    with pytest.raises(RunFileError, match=r'compute_dtype is "float32".*sets mixed precision to bf16.*Leave one'):
        make_accelerator(run_file(model={"from_scratch": GPT2, "compute_dtype": "float32"}).model)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"dtype": "bfloat16", "compute_dtype": "float32"}, "computed with as they are stored"),
        ({"dtype": "auto", "compute_dtype": "float32"}, 'Set dtype = "float32"'),
        ({"dtype": "float64", "compute_dtype": "bfloat16"}, "autocast leaves float64 as it is"),
        ({"compute_dtype": "float16"}, "compute_dtype"),
    ],
)
def test_what_no_model_computes_in(run_file, keys, message):
    with pytest.raises(RunFileError, match=message):
        run_file(model={"from_scratch": GPT2, **keys})


SMALL = {"model_type": "qwen3", "hidden_size": 16, "num_hidden_layers": 1, "head_dim": 8, "initializer_range": 0.002}


@pytest.mark.usefixtures("anew")
def test_at_a_rate_of_1e_6_the_curve_of_bfloat16_follows_that_of_float32(run, caplog):
    def curve(master_weights=False, **keys):
        result = run(
            max_steps=30,
            model={"from_scratch": SMALL, **keys},
            loss={"name": "cross_entropy"},
            rollout={"engine": "dataset", "prompts_per_step": 36, "rollouts_per_example": 1},
            evaluation={"every_steps": 0},
            environment={"name": "jsonl", "kwargs": {"path": "sums.jsonl", "reward": "rewards.py:ones"}},
            optimizer={"lr": 1e-6, "master_weights": master_weights},
            metrics=[],
        )
        return torch.tensor([record["loss"] for record in result.records])

    exact = curve()
    gained = exact[0] - exact[-1]
    assert gained > 1e-4
    for keys in ({"compute_dtype": "bfloat16"}, {"dtype": "bfloat16", "master_weights": True}):
        found = curve(**keys)
        assert ((found - found[0]) - (exact - exact[0])).abs().max() < 0.25 * gained, keys
    assert "rounded away" not in caplog.text
    rounded = curve(dtype="bfloat16")
    assert rounded[0] - rounded[-1] < 0.5 * gained
    assert "optimizer.master_weights = true keeps every update" in caplog.text


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_masters_of_weights_that_take_every_update_are_refused(run_file, dtype):
    with pytest.raises(RunFileError, match="would change nothing: these weights take every update"):
        run_file(model={"from_scratch": GPT2, "dtype": dtype}, optimizer={"master_weights": True})


def test_masters_of_adapters_are_refused(run):
    model = {"from_scratch": GPT2, "dtype": "bfloat16", "lora": {}}
    with pytest.raises(RunFileError, match="no weight that is trained has 16 bits: adapters"):
        run(model=model, optimizer={"master_weights": True})
