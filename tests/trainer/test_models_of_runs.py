"""A model that cannot be used ends a run before its folder is there; one whose embedding grows trains and is saved."""

import json
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from plugrad import ModelError
from plugrad.testing import tiny_model, tiny_tokenizer


@pytest.fixture
def save(tmp_path):
    def save_it(name, tokenizer=None, model=None):
        (model or tiny_model()).save_pretrained(tmp_path / name)
        (tokenizer or tiny_tokenizer()).save_pretrained(tmp_path / name)
        return tmp_path / name

    return save_it


def thinking():
    tokenizer = tiny_tokenizer()
    tokenizer.add_tokens(["<think>"])
    return tokenizer


def spoil(folder):
    tensors = load_file(folder / "model.safetensors")
    tensors["model.norm.weight"][0] = float("nan")
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def test_nothing_is_written_before_the_policy_has_loaded(run, save, tmp_path):
    spoil(save("model"))
    with pytest.raises(ModelError, match=r"hold NaN or infinity: model\.norm\.weight"):
        run(model={"name": str(tmp_path / "model")})
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("key", ["reference", "teacher"])
def test_nothing_is_written_before_the_frozen_models_have_loaded(run, save, tmp_path, key):
    save("model")
    spoil(save("frozen"))
    loss = "kl_to_reference" if key == "reference" else "importance_sampling"
    options = {} if key == "reference" else {"kwargs": {"teacher_tau": 0.5}}
    with pytest.raises(ModelError, match=r"frozen' hold NaN or infinity: model\.norm\.weight"):
        run(
            model={"name": str(tmp_path / "model"), key: {"name": str(tmp_path / "frozen")}},
            loss=[{"name": loss, **options}],
        )
    assert not (tmp_path / "run").exists()


def test_a_grown_embedding_trains_beside_a_reference_that_grows_too(run, save, tmp_path):
    model = {"name": str(save("model", thinking())), "reference": {"name": str(save("reference", thinking()))}}
    with pytest.raises(ModelError, match=r"model\.resize_embeddings = true"):
        run(model=model)
    (tmp_path / "sums.jsonl").write_text(
        "".join(json.dumps({"prompt": f"<think>{i}+1=", "reference": str(i + 1)}) + "\n" for i in range(16))
    )
    losses = [{"name": "importance_sampling"}, {"name": "kl_to_reference", "weight": 0.1}]
    result = run(model={**model, "resize_embeddings": True}, loss=losses)
    saved = AutoModelForCausalLM.from_pretrained(result.model)
    token = AutoTokenizer.from_pretrained(result.model).convert_tokens_to_ids("<think>")
    assert saved.get_input_embeddings().num_embeddings == token + 1
    assert all(torch.isfinite(parameter).all() for parameter in saved.parameters())


def test_the_command_neither_asks_nor_prints_a_traceback(save, tmp_path):
    folder = save("model")
    fields = json.loads((folder / "config.json").read_text())
    code = {"AutoConfig": "own.Own", "AutoModelForCausalLM": "own.Own"}
    (folder / "config.json").write_text(json.dumps({**fields, "model_type": "own", "auto_map": code}))
    (folder / "own.py").write_text(f"open({str(tmp_path / 'marker')!r}, 'w')\n")
    (tmp_path / "run.toml").write_text('[model]\nname = "model"\n[environment]\nname = "arithmetic"\n')
    command = [sys.executable, "-m", "plugrad", "train", "run.toml"]
    done = subprocess.run(command, cwd=tmp_path, input="y\ny\ny\n", capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "set trust_remote_code = true in [model]" in done.stderr
    assert "Traceback" not in done.stderr
    assert "[y/N]" not in done.stdout + done.stderr
    assert not (tmp_path / "marker").exists()
    assert not (tmp_path / "runs").exists()
