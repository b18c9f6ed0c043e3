"""Runs that train an adapter: what they save and go on from, and what they leave as it was."""

import json
import shutil
from types import SimpleNamespace

import pytest
import torch
from peft import AutoPeftModelForCausalLM
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer
from typer.testing import CliRunner

from plugrad import ModelError, RunFile, RunFileError
from plugrad.cli.main import app
from plugrad.errors import ResumeError
from plugrad.trainer.checkpoints.checkpoint_folder import folder_of
from plugrad.trainer.record.display import Silent
from plugrad.trainer.train import train

TINY = {"model_type": "qwen3", "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "head_dim": 16}
LOSSES = [{"name": "importance_sampling"}, {"name": "kl_to_reference", "weight": 0.1}]
KEYS = {"r": 4, "dropout": 0.1}
IDS = torch.arange(3, 9).unsqueeze(0)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A run of three steps from scratch with an adapter, and how to make others like it."""
    folder = tmp_path_factory.mktemp("lora")
    lines = [json.dumps({"prompt": f"{i}+{j}=", "reference": str(i + j)}) for i in range(6) for j in range(6)]
    (folder / "sums.jsonl").write_text("\n".join(lines) + "\n")
    reward = "def ones(completion, example):\n    return completion.count('1') + len(completion) / 9\n"
    (folder / "rewards.py").write_text(reward)

    def file(name, model, **tables):
        defaults = {
            "output_dir": str(folder / name),
            "search_paths": [str(folder)],
            "max_steps": 3,
            "model": model,
            "environment": {"name": "jsonl", "kwargs": {"path": "sums.jsonl", "reward": "rewards.py:ones"}},
            "rollout": {"prompts_per_step": 4, "rollouts_per_example": 4, "max_new_tokens": 4, "parity_every_steps": 1},
            "loss": LOSSES,
            "checkpoint": {"every_steps": 1, "keep": 9},
            "samples": {"every_steps": 1},
            "optimizer": {"lr": 5e-2},
        }
        return RunFile(**{**defaults, **tables})

    scratch = {"from_scratch": TINY, "lora": KEYS}
    result = train(file("run", scratch), display=Silent())
    return SimpleNamespace(folder=folder, run=result.folder, lines=result.records, file=file, scratch=scratch)


@torch.no_grad()
def logits(model):
    return model.eval()(input_ids=IDS).logits


def test_the_models_folder_is_an_adapter_that_peft_loads_with_its_base_and_tokenizer(made):
    loaded = AutoPeftModelForCausalLM.from_pretrained(made.run / "model")
    base = AutoModelForCausalLM.from_pretrained(made.run / "model" / "base")
    assert float((logits(loaded) - logits(base)).abs().max()) > 1e-3
    config = json.loads((made.run / "model" / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == str(made.run / "model" / "base")
    assert (config["r"], config["lora_alpha"], config["task_type"]) == (4, 8.0, "CAUSAL_LM")
    tokenizers = [AutoTokenizer.from_pretrained(made.run / "model" / place) for place in ("", "base")]
    assert tokenizers[0].get_vocab() == tokenizers[1].get_vocab()


def test_the_base_is_as_it_was(made):
    begun = train(made.file("begun", made.scratch, max_steps=1), display=Silent())
    base, wanted = (load_file(at / "base" / "model.safetensors") for at in (made.run / "model", begun.model))
    assert base.keys() == wanted.keys()
    assert all(torch.equal(base[name], value) for name, value in wanted.items())


def test_the_reference_is_the_base(made):
    values = [json.loads(line)["kl_to_reference/kl"] for line in (made.run / "metrics.jsonl").read_text().splitlines()]
    # With dropout, not quite 0.
    assert abs(values[0]) < 1e-6 < values[1] < values[2]


def test_checkpoints_hold_the_adapter_alone(made):
    for part, per_weight in (("policy", 1), ("optimizer", 2)):
        [file] = (folder_of(made.run, 2) / part).glob("*.safetensors")
        names = load_file(file).keys()
        assert len(names) == 2 * 7 * 2 * per_weight
        assert all(".lora_" in name for name in names)


def test_a_run_goes_on_to_the_bit(made, stopped_runs):
    copy = made.folder / "stopped"
    stopped_runs.stop_after(2, made.run, copy)
    found = train(made.file("stopped", made.scratch), resume=True, display=Silent())
    stopped_runs.assert_same(found.folder, made.run)


def test_a_run_does_not_go_on_beside_another_base(made):
    copy = made.folder / "other"
    shutil.copytree(made.run, copy)
    other = made.file("other", made.scratch, seed=5, max_steps=4)
    with pytest.raises(ResumeError, match="the base of the adapter changed since it began"):
        train(other, resume=True, allow_changes=True, display=Silent())


def test_the_merged_export_computes_what_the_adapter_does(made):
    done = CliRunner().invoke(app, ["export", str(made.run), "--merged"])
    assert done.exit_code == 0, done.output
    merged = made.run / "merged"
    with_adapter = AutoPeftModelForCausalLM.from_pretrained(made.run / "model")
    torch.testing.assert_close(
        logits(AutoModelForCausalLM.from_pretrained(merged)), logits(with_adapter), rtol=1e-5, atol=1e-6
    )
    assert AutoTokenizer.from_pretrained(merged).eos_token
    refused = [["--merged"], [], ["--merged", "--to", str(made.folder)]]
    said = ["is not replaced", "say what to write: --merged", "is not replaced"]
    for options, why in zip(refused, said, strict=True):
        again = CliRunner().invoke(app, ["export", str(made.run), *options])
        assert again.exit_code == 2
        assert why in again.output
    whole = CliRunner().invoke(app, ["export", str(merged), "--merged"])
    assert "holds a whole model, which needs no export" in " ".join(whole.output.split())


def test_another_run_goes_on_from_the_adapter_and_its_reference_is_where_it_began(made):
    adapter = made.folder / "adapter"
    shutil.copytree(made.run / "model", adapter, ignore=shutil.ignore_patterns("base"))
    config = json.loads((adapter / "adapter_config.json").read_text())
    (adapter / "adapter_config.json").write_text(json.dumps({**config, "lora_dropout": 0.0}))
    model = {"name": str(made.run / "model" / "base"), "lora": {"adapter": str(adapter)}}
    result = train(made.file("further", model, max_steps=2), display=Silent())
    records = [json.loads(line) for line in (result.folder / "metrics.jsonl").read_text().splitlines()]
    assert abs(records[0]["kl_to_reference/kl"]) < 1e-6 < records[1]["kl_to_reference/kl"]
    before, after = (load_file(at / "model" / "adapter_model.safetensors") for at in (made.run, result.folder))
    assert before.keys() == after.keys()
    assert not (result.model / "base").exists(), "a folder holds it"
    config = json.loads((result.model / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == model["name"]


def test_an_adapters_folder_is_no_base(made):
    with pytest.raises(ModelError, match=r"as name, and the folder as adapter in \[model\.lora\]"):
        train(made.file("refused", {"name": str(made.run / "model")}), display=Silent())
    with pytest.raises(RunFileError, match=r"those of \[model.from_scratch\] are new"):
        made.file("refused", {"from_scratch": TINY, "lora": {"adapter": str(made.run / "model")}})


def test_dropout_is_refused_with_a_loss_of_the_whole_batch(made, write):
    write(
        "mixes.py",
        """
        from plugrad import BatchLossInputs, LossOutputs, loss


        @loss(whole_batch=True)
        def mixes(inputs: BatchLossInputs) -> LossOutputs:
            return LossOutputs(-inputs.trainer_logprobs * inputs.loss_mask)
        """,
    )
    folder = str(write("empty.py", "").parent)
    file = made.file("refused", made.scratch, loss=[{"name": "mixes.py:mixes"}], search_paths=[folder, str(made.folder)])
    with pytest.raises(RunFileError, match="takes the whole batch at once"):
        train(file, display=Silent())
