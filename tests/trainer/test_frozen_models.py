"""The reference and the teacher of a run are the models that its run file names."""

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

FROZEN = """
from plugrad import LossInputs, LossOutputs, Mean, loss


@loss(needs={"ref_logprobs", "teacher_logprobs"})
def frozen(inputs: LossInputs) -> LossOutputs:
    metrics = {name: Mean.over(getattr(inputs, f"{name}_logprobs"), inputs.loss_mask) for name in ("ref", "teacher")}
    return LossOutputs(-inputs.trainer_logprobs * inputs.loss_mask, metrics)


class Sums:
    def train_examples(self):
        return [{"prompt": f"{i}+{j}=", "reference": str(i + j)} for i in range(2, 8) for j in (1, 5)]

    def eval_examples(self):
        return []

    def score(self, rollouts):
        return [1.0] * len(rollouts)
"""


@pytest.fixture
def replays(run, write, tmp_path):
    """Train on twelve fixed sums with a loss that reports what the frozen models say of them."""
    write("frozen.py", FROZEN)

    def train(folder="run", **tables):
        rollout = {"engine": "dataset", "prompts_per_step": 12, "rollouts_per_example": 1, "max_new_tokens": 4}
        environment = {"name": "frozen.py:Sums"}
        return run(output_dir=str(tmp_path / folder), environment=environment, rollout=rollout, **{"max_steps": 1} | tables)

    return train


@torch.no_grad()
def mean_logprob_of_sums(folder):
    """Score the twelve sums with the model in this folder, by Transformers alone."""
    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    logprobs = []
    for prompt, reference in ((f"{i}+{j}=", str(i + j)) for i in range(2, 8) for j in (1, 5)):
        ids = torch.tensor([[*tokenizer(f"{prompt}{reference}")["input_ids"], tokenizer.eos_token_id]])
        scores = model(ids).logits.log_softmax(-1)[0, :-1].gather(-1, ids[0, 1:, None]).squeeze(-1)
        logprobs.append(scores[len(prompt) - 1 :])
    return float(torch.cat(logprobs).mean())


def test_a_reference_and_a_teacher_are_the_models_that_the_run_file_names(replays):
    others = [replays(folder, seed=seed, optimizer={"lr": 1e-2}).model for folder, seed in (("a", 5), ("b", 6))]
    reference, teacher = (mean_logprob_of_sums(other) for other in others)
    assert abs(reference - teacher) > 0.01
    model = {
        "from_scratch": {"model_type": "qwen3", "hidden_size": 32},
        "reference": {"name": str(others[0])},
        "teacher": {"name": str(others[1])},
    }
    for record in replays(model=model, loss={"name": "frozen.py:frozen"}, max_steps=2, optimizer={"lr": 1e-1}).records:
        assert record["frozen/ref"] == pytest.approx(reference, rel=1e-5)
        assert record["frozen/teacher"] == pytest.approx(teacher, rel=1e-5)


def test_the_teacher_pulls_where_its_factor_says(replays):
    """A signal of teacher_tau (log pi_teacher - log pi) alone teaches the policy what the teacher says."""
    taught = replays("a", max_steps=20, optimizer={"lr": 1e-2}, loss={"name": "cross_entropy"}).model
    loss = {"name": "importance_sampling", "kwargs": {"adv_tau": 0.0, "teacher_tau": 1.0}}
    model = {"from_scratch": {"model_type": "qwen3", "hidden_size": 32}, "teacher": {"name": str(taught)}}
    pupil = replays("b", seed=1, max_steps=20, model=model, optimizer={"lr": 1e-2}, loss=loss)
    untaught = replays("c", seed=1, optimizer={"lr": 1e-9}).model
    assert mean_logprob_of_sums(pupil.model) > mean_logprob_of_sums(untaught) + 0.5
