"""Python code in a model's folder runs where the run file says so, and nowhere else; nothing asks."""

import json
import sys

import pytest

from plugrad import ModelError
from plugrad.config.tables.model_table import FrozenModelTable, ModelTable
from plugrad.policy.loading import load_model
from plugrad.policy.loading_beside import load_frozen
from plugrad.testing import tiny_model, tiny_tokenizer

MODEL = """
from pathlib import Path
from transformers import Qwen3Config, Qwen3ForCausalLM

Path({marker!r}).write_text("ran")
{then}

class OwnConfig(Qwen3Config):
    model_type = "own"

class OwnForCausalLM(Qwen3ForCausalLM):
    config_class = OwnConfig
"""
TOKENIZER = """
from pathlib import Path
from transformers import PreTrainedTokenizerFast

Path({marker!r}).write_text("ran")

class OwnTokenizer(PreTrainedTokenizerFast):
    pass
"""


@pytest.fixture
def marker(tmp_path, monkeypatch):
    """The file that a folder's code writes when it runs. Transformers runs a copy of it, here in a folder of the test."""
    monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", str(tmp_path / "modules"))
    monkeypatch.setattr(sys, "stdin", None)
    (tmp_path / "modules").mkdir()
    yield tmp_path / "marker"
    for name in [name for name in sys.modules if name.startswith("transformers_modules")]:
        del sys.modules[name]


@pytest.fixture
def folder(tmp_path):
    tiny_model().save_pretrained(tmp_path / "model")
    tiny_tokenizer().save_pretrained(tmp_path / "model")
    return tmp_path / "model"


def edit(path, **fields):
    path.write_text(json.dumps({**json.loads(path.read_text()), **fields}))


@pytest.fixture
def own(folder, marker):
    """A folder whose model only its own code knows."""

    def make(then="", model_type="own"):
        (folder / "own.py").write_text(MODEL.format(marker=str(marker), then=then))
        maps = {"AutoConfig": "own.OwnConfig", "AutoModelForCausalLM": "own.OwnForCausalLM"}
        edit(folder / "config.json", model_type=model_type, auto_map=maps, architectures=["OwnForCausalLM"])
        return str(folder)

    return make


def test_a_model_of_its_own_code_is_refused_with_the_key_to_write(own, marker):
    with pytest.raises(ModelError, match=r"without running Python code .* set trust_remote_code = true in \[model\]"):
        load_model(ModelTable(name=own()), [])
    assert not marker.exists()


def test_a_teacher_is_trusted_in_its_own_table(own, marker):
    policy = ModelTable(name="policy", trust_remote_code=True)
    with pytest.raises(ModelError, match=r"set trust_remote_code = true in \[model.teacher\]"):
        load_frozen(FrozenModelTable(name=own()), policy, tiny_tokenizer(), "teacher")
    assert not marker.exists()
    load_frozen(FrozenModelTable(name=own(), trust_remote_code=True), policy, tiny_tokenizer(), "teacher")
    assert marker.exists()


def test_a_model_that_transformers_knows_leaves_the_code_alone(own, marker):
    assert type(load_model(ModelTable(name=own(model_type="qwen3")), []).model).__module__.startswith("transformers.models")
    assert not marker.exists()


def test_trusted_code_runs_and_is_saved_with_the_model(own, marker, tmp_path):
    loaded = load_model(ModelTable(name=own(), trust_remote_code=True), [])
    assert type(loaded.model).__name__ == "OwnForCausalLM"
    assert marker.exists()
    loaded.model.save_pretrained(tmp_path / "saved")
    loaded.tokenizer.save_pretrained(tmp_path / "saved")
    again = load_model(ModelTable(name=str(tmp_path / "saved"), trust_remote_code=True), [])
    assert type(again.model).__name__ == "OwnForCausalLM"


@pytest.mark.parametrize("then", ["raise SystemExit(0)", "raise RuntimeError('no')", "import nothing_of_that_name", "1 +"])
def test_trusted_code_that_fails_is_the_models_error(own, then):
    with pytest.raises(ModelError, match="cannot be used"):
        load_model(ModelTable(name=own(then), trust_remote_code=True), [])


def test_a_tokenizer_of_its_own_code(folder, marker):
    (folder / "own_tokenizer.py").write_text(TOKENIZER.format(marker=str(marker)))
    maps = {"AutoTokenizer": [None, "own_tokenizer.OwnTokenizer"]}
    edit(folder / "tokenizer_config.json", auto_map=maps, tokenizer_class="OwnTokenizer")
    assert load_model(ModelTable(name=str(folder)), []).tokenizer.get_vocab() == tiny_tokenizer().get_vocab()
    assert not marker.exists()
    load_model(ModelTable(name=str(folder), trust_remote_code=True), [])
    assert marker.exists()


def test_a_generate_function_of_its_own_stays_unread(folder, marker):
    (folder / "custom_generate").mkdir()
    (folder / "custom_generate" / "generate.py").write_text(f"open({str(marker)!r}, 'w')\ndef generate(model): ...\n")
    load_model(ModelTable(name=str(folder)), [])
    assert not marker.exists()
