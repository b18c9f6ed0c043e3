"""Whole runs, from a run file to a trained model."""

import json
import math

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

import plugrad
from plugrad import RunFile, RunFileError
from plugrad.policy.policy import Policy
from plugrad.trainer.record.display import Silent

SUMS = {"name": "arithmetic", "kwargs": {"digits": 1, "num_eval": 8}}
OF_THE_MACHINE = ("seconds", "rollouts_s", "tokens_per_s", "memory_gib")


def without_those_of_the_machine(records):
    return [{name: value for name, value in record.items() if name not in OF_THE_MACHINE} for record in records]


def weights(result):
    return AutoModelForCausalLM.from_pretrained(result.model).state_dict()


def test_a_run_leaves_a_folder_that_says_everything(run):
    result = run(loss={"name": "ppo_clip"})
    assert {path.name for path in result.folder.iterdir()} == {
        "run.toml",
        "plugins.json",
        "metrics.jsonl",
        "samples.jsonl",
        "history.jsonl",
        "model",
    }
    lines = [json.loads(line) for line in (result.folder / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [1, 2, 3]
    assert lines == result.records
    assert {"reward", "loss", "ppo_clip/clip_fraction", "entropy/mean", "inference_mismatch/kl", "tokens_per_s"} <= lines[
        0
    ].keys()
    resolved = RunFile.load(result.folder / "run.toml")
    assert resolved.loss[0].kwargs == {"clip_eps": 0.2}
    assert resolved.loss[0].reduction == "token"
    assert resolved.model.from_scratch["num_attention_heads"] == 4
    assert resolved.advantage.name == "group_mean"
    found = json.loads((result.folder / "plugins.json").read_text())["components"]
    assert ("loss", "plugrad", plugrad.__version__) in {(c["kind"], c["package"], c["version"]) for c in found}


def test_the_resolved_run_file_repeats_the_run(run, tmp_path):
    first = run(evaluation={"every_steps": 2})
    again = RunFile.load(first.folder / "run.toml", [f"output_dir='{tmp_path / 'again'}'"])
    second = plugrad.train(again, display=Silent())
    assert without_those_of_the_machine(second.records) == without_those_of_the_machine(first.records)
    for name, tensor in weights(first).items():
        assert torch.equal(tensor, weights(second)[name])


def test_another_seed_is_another_run(run):
    assert run(seed=1).records[-1]["entropy/mean"] != run(seed=2).records[-1]["entropy/mean"]


def test_supervised_fine_tuning_lowers_the_loss_and_reports_no_mismatch(run):
    result = run(
        max_steps=30,
        rollout={"engine": "dataset", "prompts_per_step": 16, "rollouts_per_example": 1, "max_new_tokens": 4},
        environment=SUMS,
        loss={"name": "cross_entropy"},
        optimizer={"lr": 5e-3},
    )
    losses = [loss for _, loss in result.series("loss")]
    assert losses[-1] < 0.8 * losses[0]
    assert losses[0] == pytest.approx(result.records[0]["cross_entropy/nll"], rel=1e-6)
    assert not any(name.startswith("inference_mismatch") for name in result.records[0])
    assert result.records[0]["reward"] == 1.0


def test_reinforcement_learning_raises_the_reward(run):
    result = run(
        max_steps=25,
        rollout={"prompts_per_step": 4, "rollouts_per_example": 16, "max_new_tokens": 8},
        optimizer={"lr": 1e-2},
    )
    rewards = [reward for _, reward in result.series("reward")]
    # Of 8 tokens from a vocabulary of 13 less than one is a "1" at first.
    assert rewards[0] < 1
    assert sum(rewards[-5:]) / 5 > 4


def test_evaluation_is_greedy_on_the_same_examples_and_can_end_the_run(run):
    result = run(
        max_steps=200,
        rollout={"engine": "dataset", "prompts_per_step": 16, "rollouts_per_example": 1, "max_new_tokens": 4},
        environment=SUMS,
        loss={"name": "cross_entropy"},
        optimizer={"lr": 5e-3},
        evaluation={"every_steps": 10, "num_examples": 8, "stop_at_reward": 0.1},
    )
    accuracy = result.series("eval/reward")
    assert accuracy[0] == (0, 0.0)
    assert accuracy[-1][1] >= 0.1 > accuracy[-2][1]
    assert result.num_steps == accuracy[-1][0] < 200


@pytest.mark.parametrize("updates", [1, 2, 4])
def test_a_batch_is_trained_on_in_as_many_updates_as_asked(run, updates):
    result = run(updates_per_batch=updates, loss={"name": "ppo_clip"}, optimizer={"lr": 1e-2})
    moved = [abs(record["ppo_clip/ratio"] - 1) > 1e-6 for record in result.records]
    # In the first of several updates the policy is the one that sampled; in the others it has moved.
    assert any(moved) == (updates > 1)


def test_several_losses_are_a_weighted_sum(run):
    result = run(
        loss=[
            {"name": "ppo_clip"},
            {"name": "kl_to_reference", "weight": 0.05, "reduction": "sequence"},
            {"name": "entropy_bonus", "weight": 0.01},
        ]
    )
    for record in result.records:
        total = record["ppo_clip/loss"] + 0.05 * record["kl_to_reference/loss"] + 0.01 * record["entropy_bonus/loss"]
        assert record["loss"] == pytest.approx(total, rel=1e-5, abs=1e-7)
    # The reference is the model as it was at the start, so the divergence starts at 0 and grows.
    assert result.records[0]["kl_to_reference/kl"] == pytest.approx(0, abs=1e-6)
    assert result.records[-1]["kl_to_reference/kl"] > 1e-5
    assert result.records[0]["entropy_bonus/entropy"] == pytest.approx(result.records[0]["entropy/mean"], rel=1e-5)


def test_a_local_folder_is_a_model_with_its_weights_and_its_tokenizer(run, write):
    write(
        "vetoes.py",
        """
        import plugrad

        class Vetoes:
            @plugrad.hookimpl
            def before_update(self):
                return False
        """,
    )
    first = run(max_steps=1, optimizer={"lr": 1e-1})
    folder = str(first.folder.parent / "second")
    second = run(output_dir=folder, model={"name": str(first.model)}, max_steps=1, extension=[{"name": "vetoes.py:Vetoes"}])
    assert second.records[0]["skipped_updates"] == 1
    assert weights(second).keys() == weights(first).keys()
    for name, tensor in weights(first).items():
        assert torch.equal(tensor, weights(second)[name])
    tokenizers = [AutoTokenizer.from_pretrained(result.model) for result in (first, second)]
    assert tokenizers[0].get_vocab() == tokenizers[1].get_vocab()
    assert tokenizers[1].decode(tokenizers[1]("1+2=")["input_ids"]) == "1+2="


def test_an_output_folder_that_holds_a_run_is_refused(run_file):
    plugrad.train(run_file(max_steps=1), display=Silent())
    with pytest.raises(RunFileError, match=r"already holds a run.*--overwrite"):
        plugrad.train(run_file(max_steps=1), display=Silent())


def test_accumulation_from_the_environment_is_refused(run, monkeypatch):
    monkeypatch.setenv("ACCELERATE_GRADIENT_ACCUMULATION_STEPS", "4")
    with pytest.raises(RunFileError, match="divide the objective"):
        run()


def test_the_engine_samples_what_the_trainer_scores(run):
    mismatch = [
        record["inference_mismatch/max_ratio"] for record in run(rollout={"prompts_per_step": 4, "temperature": 0.7}).records
    ]
    assert all(ratio == pytest.approx(1, abs=1e-4) for ratio in mismatch)


def test_gradient_checkpointing_changes_nothing(run):
    model = {"from_scratch": {"model_type": "qwen3", "hidden_size": 32}}
    plain = run(model=model).records
    checkpointed = run(model={**model, "gradient_checkpointing": True})
    assert [r["loss"] for r in checkpointed.records] == pytest.approx([r["loss"] for r in plain], rel=1e-5)


def test_policies_need_no_dropout_to_be_switched_off_by_hand(run, tmp_path):
    result = run(model={"from_scratch": {"model_type": "gpt2", "resid_pdrop": 0.5, "embd_pdrop": 0.5, "attn_pdrop": 0.5}})
    assert all(record["inference_mismatch/max_ratio"] == pytest.approx(1, abs=1e-4) for record in result.records)
    assert math.isfinite(result.records[-1]["loss"])


def test_the_policy_that_is_saved_is_the_one_that_was_trained(run, run_file):
    result = run(max_steps=2)
    model = AutoModelForCausalLM.from_pretrained(result.model)
    tokenizer = AutoTokenizer.from_pretrained(result.model)
    ids = torch.tensor([tokenizer("1+1=2")["input_ids"]])
    mask = torch.ones_like(ids, dtype=torch.bool)
    logprobs = Policy(model, 1.0)(ids, mask, mask).logprobs
    expected = model(ids).logits.log_softmax(-1)[:, :-1].gather(-1, ids[:, 1:, None]).squeeze(-1)
    torch.testing.assert_close(logprobs[:, 1:], expected)


def test_what_an_environment_measures_is_reported(run, tmp_path):
    (tmp_path / "mine.py").write_text(
        "class Mine:\n"
        "    def train_examples(self):\n        return [{'prompt': 'ab'}]\n"
        "    def eval_examples(self):\n        return []\n"
        "    def score(self, rollouts):\n"
        "        for index, rollout in enumerate(rollouts):\n            rollout['metrics']['index'] = index\n"
        "        return [0.0] * len(rollouts)\n"
    )
    result = run(environment={"name": "mine.py:Mine"}, max_steps=1)
    assert result.records[0]["environment/index"] == 7.5


def test_sixteen_bit_weights_get_a_warning(run, caplog):
    run(model={"from_scratch": {"model_type": "qwen3", "hidden_size": 32}, "dtype": "bfloat16"}, max_steps=1)
    assert "The weights are bfloat16: an update smaller than 3.9e-03" in caplog.text


def test_groups_without_a_signal_are_counted_and_leave_the_policy_as_it_was(run, tmp_path):
    (tmp_path / "equal.py").write_text("def reward(completion, example):\n    return 1.0\n")
    kwargs = {"path": "sums.jsonl", "reward": "equal.py:reward", "num_eval": 8}
    result = run(environment={"name": "jsonl", "kwargs": kwargs})
    for record in result.records:
        assert record["reward/equal_groups"] == 1.0
        assert record["grad_norm"] == 0.0


def test_one_prompt_with_one_rollout_each_is_a_batch(run):
    result = run(
        rollout={"prompts_per_step": 1, "rollouts_per_example": 1, "max_new_tokens": 4}, advantage={"name": "constant"}
    )
    assert len(result.records) == 3
    assert all(record["grad_norm"] > 0 for record in result.records)


def test_a_batch_in_which_no_token_counts_is_an_update_of_nothing(run, tmp_path):
    (tmp_path / "drops.py").write_text(
        """
from dataclasses import replace
import torch
import plugrad

class DropsAll:
    @plugrad.hookimpl(wrapper=True)
    def prepare_loss(self, inputs):
        prepared = yield
        return replace(prepared, loss_mask=torch.zeros_like(prepared.loss_mask)) if inputs.step else prepared
"""
    )
    result = run(extension=[{"name": "drops.py:DropsAll"}])
    assert [record["loss"] for record in result.records[1:]] == [0.0, 0.0]
    assert [record["grad_norm"] for record in result.records[1:]] == [0.0, 0.0]
    assert result.records[0]["grad_norm"] > 0


def test_a_run_that_replaces_a_killed_one_removes_the_weights_that_it_left(run, tmp_path):
    folder = run(max_steps=1).folder
    left = folder / "weights" / "0123456789abcdef" / "000001-v1"
    left.mkdir(parents=True)
    run(max_steps=1)
    assert not left.parent.parent.exists()
