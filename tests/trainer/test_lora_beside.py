"""An adapter in runs that use much else: each part of plugrad does with it what it does without."""

import json
import math
from types import SimpleNamespace

import pytest
import torch
from peft import AutoPeftModelForCausalLM
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM
from typer.testing import CliRunner

from plugrad import RunFile
from plugrad.cli.main import app
from plugrad.testing import tiny_model, tiny_tokenizer
from plugrad.trainer.checkpoints.checkpoint_folder import folder_of
from plugrad.trainer.record.display import Silent
from plugrad.trainer.train import train

PLUGINS = """
import torch
from plugrad import LossInputs, LossOutputs, Mean, ModelSizes, loss


def ones(completion, example):
    return completion.count("1") + len(completion) / 9


@loss(policy_gradient=False)
class Scaled:
    def trained(self, sizes: ModelSizes) -> torch.nn.Module:
        return torch.nn.ParameterDict({"scale": torch.ones(1)})

    def __call__(self, inputs: LossInputs) -> LossOutputs:
        return LossOutputs(-inputs.parameters["scale"] * inputs.trainer_logprobs * inputs.loss_mask)


@loss(needs={"values"}, policy_gradient=False)
def to_one(inputs: LossInputs) -> LossOutputs:
    return LossOutputs((inputs.values - 1) ** 2 * inputs.loss_mask)


@loss(needs={"teacher_logprobs"}, policy_gradient=False)
def told(inputs: LossInputs) -> LossOutputs:
    gap = inputs.teacher_logprobs - inputs.trainer_logprobs
    return LossOutputs(-gap * inputs.loss_mask, {"gap": Mean.over(gap, inputs.loss_mask)})
"""
LOSSES = [{"name": "ppo_clip"}, {"name": "kl_to_reference", "weight": 0.1}]
LOSSES += [{"name": f"plugins.py:{name}", "weight": 0.1} for name in ("Scaled", "to_one", "told")]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Two steps of a run that uses much at once, and how to make it again."""
    folder = tmp_path_factory.mktemp("beside")
    (folder / "plugins.py").write_text(PLUGINS)
    lines = [
        {"prompt": f"{i}+{j}=", "reference": str(i + j), "teacher_prompt": f"{i + j}={i}+{j}="}
        for i in range(6)
        for j in range(6)
    ]
    (folder / "sums.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    tiny_model(dtype="bfloat16").save_pretrained(folder / "base")
    tokenizer = tiny_tokenizer()
    tokenizer.add_tokens([f"<{number}>" for number in range(9)])
    tokenizer.save_pretrained(folder / "base")

    def file(name):
        return RunFile(
            output_dir=str(folder / name),
            search_paths=[str(folder)],
            max_steps=2,
            updates_per_batch=2,
            model={
                "name": str(folder / "base"),
                "dtype": "bfloat16",
                "resize_embeddings": True,
                "lora": {"r": 4},
                "teacher": {"policy": True},
            },
            critic={},
            environment={"name": "jsonl", "kwargs": {"path": "sums.jsonl", "reward": "plugins.py:ones", "num_eval": 8}},
            rollout={"prompts_per_step": 4, "rollouts_per_example": 4, "max_new_tokens": 4},
            loss=LOSSES,
            optimizer={"name": "Muon", "lr": 1e-2, "groups": [{"match": "*lora_B*", "lr": 3e-2}]},
            evaluation={"every_steps": 1, "metrics": True},
            checkpoint={"every_steps": 1, "keep": 9},
            capture={"steps": [1]},
        )

    result = train(file("run"), display=Silent())
    return SimpleNamespace(folder=folder, run=result.folder, records=result.records, file=file)


def test_every_loss_and_held_out_number_is_there_and_the_policy_leaves_its_reference(made):
    first, last = made.records[-2:]
    assert all(math.isfinite(last[f"{name}/loss"]) for name in ("ppo_clip", "kl_to_reference", "Scaled", "to_one", "told"))
    assert 0 <= first["kl_to_reference/kl"] < last["kl_to_reference/kl"]
    assert last["eval/entropy/mean"] != first["eval/entropy/mean"]
    # A policy of 16 bits and its engine round in different places.
    assert abs(last["inference_mismatch/kl"]) < 1e-2
    assert abs(last["told/gap"]) > 1e-5, "the teacher reads another prompt"


def test_the_adapter_is_float32_beside_a_base_of_16_bits_that_has_grown(made):
    adapter = load_file(made.run / "model" / "adapter_model.safetensors")
    grown = load_file(made.run / "model" / "base" / "model.safetensors")
    given = load_file(made.folder / "base" / "model.safetensors")
    assert {value.dtype for value in adapter.values()} == {torch.float32}
    assert {value.dtype for value in grown.values()} == {torch.bfloat16}
    rows = len(given["model.embed_tokens.weight"])
    assert len(grown["model.embed_tokens.weight"]) == rows + 9
    assert all(torch.equal(grown[name][:rows], value) for name, value in given.items())


def test_what_is_trained_beside_the_adapter_is_trained_and_kept(made):
    assert float(load_file(made.run / "model" / "trained" / "Scaled.safetensors")["scale"]) != 1
    heads = load_file(made.run / "model" / "critic" / "value_head.safetensors")
    assert any(bool(value.abs().max() > 0) for value in heads.values())
    [file] = (folder_of(made.run, 2) / "policy").glob("*.safetensors")
    names = [name for name in load_file(file) if ".lora_" not in name]
    assert len(names) == len(heads) + 1, "the head of the critic and the loss's number, nothing of the base"


def test_it_goes_on_to_the_bit(made, stopped_runs):
    stopped_runs.stop_after(1, made.run, made.folder / "stopped")
    found = train(made.file("stopped"), resume=True, display=Silent())
    stopped_runs.assert_same(found.folder, made.run)


@pytest.mark.parametrize("loss", ["ppo_clip", "kl_to_reference", "told", "to_one"])
def test_its_capture_is_replayed(made, loss):
    done = CliRunner().invoke(app, ["replay", str(made.run / "captures" / "step_000001"), "--loss", loss])
    assert done.exit_code == 0, done.output
    assert loss in done.output


def test_its_merged_model_is_the_policy_in_16_bits(made):
    done = CliRunner().invoke(app, ["export", str(made.run), "--merged"])
    assert done.exit_code == 0, done.output
    merged = AutoModelForCausalLM.from_pretrained(made.run / "merged")
    assert merged.dtype == torch.bfloat16
    ids = torch.arange(3, 15).unsqueeze(0)
    policies = [AutoPeftModelForCausalLM.from_pretrained(made.run / "model", dtype="bfloat16"), merged]
    with torch.no_grad():
        with_adapter, in_it = (model.eval()(input_ids=ids).logits.float().log_softmax(-1) for model in policies)
        base = (
            AutoModelForCausalLM.from_pretrained(made.run / "model" / "base")(input_ids=ids).logits.float().log_softmax(-1)
        )
    assert float((with_adapter - in_it).abs().max()) < 0.1 < float((base - in_it).abs().max())


def test_commands_that_read_runs_read_this_one(made):
    report = made.folder / "report.html"
    for words in (["report", str(made.run), "--output", str(report)], ["diagnose", str(made.run)]):
        done = CliRunner().invoke(app, words)
        assert done.exit_code == 0, done.output
    assert "kl_to_reference/kl" in report.read_text()
