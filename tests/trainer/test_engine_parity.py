"""Parity: an engine that does not sample from the policy is found out, and the run ends with what was seen."""

import copy
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from plugrad.config import engine_kinds
from plugrad.config.engine_kinds import EngineKind
from plugrad.errors import TrainingError
from plugrad.rollout.engine_implementation import EngineImplementation
from plugrad.rollout.transformers_engine import TransformersEngine

ROLLOUT = {"prompts_per_step": 4, "rollouts_per_example": 4, "max_new_tokens": 4}


class Copy(TransformersEngine):
    """Samples from a copy of the weights, to which only some new ones get through."""

    def __init__(self, model, tokenizer, batch_size):
        super().__init__(copy.deepcopy(model), tokenizer, batch_size)

    def update_weights(self, weights, version):
        super().update_weights(weights, version)
        own = dict(self._model.named_parameters())
        with torch.no_grad():
            for name, weight in weights:
                if name in own and self.arrives(name, version):
                    own[name].copy_(weight)

    def arrives(self, name, version):
        return True


class Never(Copy):
    def arrives(self, name, version):
        return version == 0


class Partly(Copy):
    def arrives(self, name, version):
        return version == 0 or "embed" not in name


class NaN(Copy):
    def generate(self, prompts, sampling):
        groups = super().generate(prompts, sampling)
        groups[0][0].logprobs[0] = float("nan")
        return groups


@pytest.fixture
def run_with(run, monkeypatch):
    """Train with another engine, added to the table of engines as a package could publish it."""

    def train_with(engine, lr=1e-1, rollout=ROLLOUT, **tables):
        implementation = EngineImplementation(open=lambda setup: engine(setup.policy, setup.model.tokenizer, 8))
        monkeypatch.setitem(sys.modules, "an_engine", SimpleNamespace(ENGINE=implementation))
        kind = EngineKind(name="another", summary="of this test", implementation="an_engine:ENGINE")
        monkeypatch.setattr(engine_kinds, "ENGINES", (*engine_kinds.ENGINES, kind))
        rollout = {"engine": "another", **rollout}
        return run(optimizer={"lr": lr}, loss=[{"name": "cross_entropy"}], rollout=rollout, **tables)

    return train_with


def test_an_engine_that_takes_its_weights_agrees(run_with):
    result = run_with(Copy)
    first, second, _ = result.records
    assert first["inference_mismatch/parity"] < 1e-5
    assert first["inference_mismatch/parity"] <= first["inference_mismatch/parity_max"] < 1e-5
    assert "inference_mismatch/parity" not in second, "it is checked every parity_every_steps"


def test_it_is_looked_at_every_so_many_steps(run_with):
    rollout = {**ROLLOUT, "parity_every_steps": 2}
    steps = [r["step"] for r in run_with(Copy, max_steps=5, rollout=rollout).records if "inference_mismatch/parity" in r]
    assert steps == [1, 2, 4]


@pytest.mark.parametrize("engine", [Never, Partly])
def test_weights_that_do_not_arrive_end_the_run_after_the_first_update(run_with, engine):
    with pytest.raises(TrainingError) as caught:
        run_with(engine)
    message = str(caught.value)
    assert message.startswith("after step 1, the engine's log-probs differ from the policy's by ")
    assert "rollout.parity_bound is 0.001" in message
    assert f"by {engine.__name__}" in message
    assert "its new weights did not arrive, or only some did" in message


def test_what_was_learnt_until_then_is_saved(run_with, run_file):
    rollout = {**ROLLOUT, "parity_every_steps": 2}

    class Later(Copy):
        def arrives(self, name, version):
            return version < 2

    with pytest.raises(TrainingError, match="after step 2"):
        run_with(Later, rollout=rollout)
    assert (Path(run_file().output_dir) / "model" / "config.json").exists()


def test_another_model_is_found_before_the_first_step(run_with):
    class Another(Copy):
        def arrives(self, name, version):
            return False

        def __init__(self, model, tokenizer, batch_size):
            super().__init__(model, tokenizer, batch_size)
            with torch.no_grad():
                for parameter in self._model.parameters():
                    parameter.mul_(3.0)

    with pytest.raises(TrainingError, match="before the first step"):
        run_with(Another)


def test_log_probs_that_are_not_numbers_end_the_run(run_with):
    with pytest.raises(TrainingError, match=r"by inf nats .* nan by NaN"):
        run_with(NaN)


def test_a_wider_bound_lets_it_pass(run_with):
    rollout = {**ROLLOUT, "parity_bound": 100.0}
    result = run_with(Never, rollout=rollout)
    assert result.records[0]["inference_mismatch/parity"] > 1e-3


def test_what_is_replayed_is_not_compared(run):
    rollout = {"engine": "dataset", "prompts_per_step": 4, "rollouts_per_example": 1, "max_new_tokens": 4}
    result = run(rollout=rollout, loss=[{"name": "cross_entropy"}])
    assert not any("inference_mismatch/parity" in record for record in result.records)
