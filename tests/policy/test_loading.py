"""Models from folders and from scratch, and what cannot be one."""

import pytest
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

from plugrad import ModelError
from plugrad.config.tables.critic_table import CriticTable
from plugrad.config.tables.model_table import FrozenModelTable, ModelTable
from plugrad.policy.character_tokenizer import character_tokenizer
from plugrad.policy.from_scratch import with_small_defaults
from plugrad.policy.loading import load_model
from plugrad.policy.loading_beside import load_critic, load_frozen
from plugrad.testing import tiny_model, tiny_tokenizer


def from_scratch(**fields):
    return ModelTable.model_validate({"from_scratch": fields})


@pytest.fixture
def folder(tmp_path):
    tiny_model().save_pretrained(tmp_path / "model")
    tiny_tokenizer().save_pretrained(tmp_path / "model")
    return tmp_path / "model"


def test_small_defaults_make_half_a_million_parameters():
    model = load_model(from_scratch(model_type="qwen3"), ["0123456789+="]).model
    assert 400_000 < sum(parameter.numel() for parameter in model.parameters()) < 600_000


@pytest.mark.parametrize("model_type", ["llama", "gpt2", "qwen2", "mistral", "gemma2"])
def test_other_models_can_be_built_too(model_type):
    model = load_model(from_scratch(model_type=model_type), ["abc"]).model
    assert model.config.model_type == model_type
    assert model.config.vocab_size == 6


def test_a_model_type_that_is_misspelt():
    with pytest.raises(ModelError, match=r"no such model. Did you mean 'qwen3'"):
        with_small_defaults({"model_type": "qwen33"})


def test_a_field_that_is_misspelt():
    with pytest.raises(ModelError, match=r"qwen3 has no field 'hiden_size'. Did you mean 'hidden_size'"):
        with_small_defaults({"model_type": "qwen3", "hiden_size": 3})


def test_fields_that_do_not_go_together():
    with pytest.raises(ModelError, match="cannot be built"):
        load_model(from_scratch(model_type="qwen3", num_attention_heads=0), ["a"])


def test_a_folder_loads_as_it_was_saved(folder):
    loaded = load_model(ModelTable(name=str(folder)), [])
    assert loaded.tokenizer.get_vocab() == tiny_tokenizer().get_vocab()
    assert loaded.model.config.hidden_size == 32


def test_dropout_is_switched_off():
    fields = {"model_type": "gpt2", "resid_pdrop": 0.5, "attn_pdrop": 0.3, "embd_pdrop": 0.2}
    config = load_model(from_scratch(**fields), ["a"]).model.config
    assert (config.resid_pdrop, config.attn_pdrop, config.embd_pdrop) == (0.0, 0.0, 0.0)


def test_a_folder_that_is_not_there():
    with pytest.raises(ModelError, match=r"there is no model folder '/nowhere/at/all'"):
        load_model(ModelTable(name="/nowhere/at/all"), [])


def test_a_folder_that_holds_no_model(tmp_path):
    with pytest.raises(ModelError, match=r"holds no model: it has no config.json"):
        load_model(ModelTable(name=str(tmp_path)), [])


def test_a_model_without_a_tokenizer(tmp_path):
    tiny_model().save_pretrained(tmp_path)
    with pytest.raises(ModelError, match="holds a model without a tokenizer"):
        load_model(ModelTable(name=str(tmp_path)), [])


def test_a_teacher_with_another_vocabulary_is_refused(folder):
    with pytest.raises(ModelError, match="is not the policy's"):
        load_frozen(FrozenModelTable(name=str(folder)), ModelTable(name=str(folder)), character_tokenizer(["abc"]))


@pytest.mark.parametrize("key", ["reference", "teachers.m"])
def test_the_error_of_a_model_beside_the_policy_says_which_it_is(folder, tmp_path, key):
    policy, other = ModelTable(name=str(folder)), tmp_path / "no_tokenizer"
    with pytest.raises(ModelError, match=rf"^\[model\.{key}\]: the tokenizer of .* would read other tokens than the policy"):
        load_frozen(FrozenModelTable(name=str(folder)), policy, character_tokenizer(["abc"]), key)
    tiny_model().save_pretrained(other)
    with pytest.raises(ModelError, match=rf"\[?model\.{key}\b.*holds a model without a tokenizer"):
        load_frozen(FrozenModelTable(name=str(other)), policy, tiny_tokenizer(), key)
    with pytest.raises(ModelError, match=r"^\[critic\]: the tokenizer of"):
        load_critic(CriticTable(name=str(folder)), policy, character_tokenizer(["abc"]))


def test_a_frozen_model_has_no_gradient(folder):
    model = load_frozen(FrozenModelTable(name=str(folder)), ModelTable(name=str(folder)), tiny_tokenizer())
    assert not any(parameter.requires_grad for parameter in model.parameters())


def test_the_character_tokenizer_survives_a_round_trip(tmp_path):
    tokenizer = character_tokenizer(["12+3=\n é"])
    tokenizer.save_pretrained(tmp_path)
    again = AutoTokenizer.from_pretrained(tmp_path)
    text = "1+2=3\n é"
    assert again.decode(again(text)["input_ids"]) == text
    assert len(again(text)["input_ids"]) == len(text)
    assert again("x")["input_ids"] == [again.unk_token_id]


def test_a_model_from_scratch_is_an_ordinary_folder(tmp_path):
    loaded = load_model(from_scratch(model_type="qwen3"), ["abc"])
    loaded.model.save_pretrained(tmp_path)
    again = AutoModelForCausalLM.from_pretrained(tmp_path)
    assert again.generation_config.eos_token_id == loaded.tokenizer.eos_token_id


def test_gradient_checkpointing_of_a_model_that_has_none_is_refused():
    table = ModelTable.model_validate({"from_scratch": {"model_type": "ctrl"}, "gradient_checkpointing": True})
    with pytest.raises(ModelError, match=r"model.gradient_checkpointing is true, but CTRLLMHeadModel has none"):
        load_model(table, ["abc"])


def test_dropout_is_switched_off_in_a_configuration_inside_another(tmp_path):
    text = {"model_type": "gemma3_text", "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1}
    vision = {"hidden_size": 32, "intermediate_size": 64, "num_attention_heads": 2, "image_size": 28, "patch_size": 14}
    config = AutoConfig.for_model("gemma3", text_config={**text, "attention_dropout": 0.5}, vision_config=vision)
    AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path)
    tiny_tokenizer().save_pretrained(tmp_path)
    model = load_model(ModelTable(name=str(tmp_path)), []).model
    assert model.config.text_config.attention_dropout == 0.0
    assert {layer.self_attn.attention_dropout for layer in model.model.language_model.layers} == {0.0}
