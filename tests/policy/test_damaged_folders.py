"""Each way to damage a small real model folder ends in a ModelError of one short line that names the model and the file."""

import json
import os
import re
import shutil
import struct

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

from plugrad import ModelError
from plugrad.config.tables.model_table import ModelTable
from plugrad.policy.loading import load_model, load_tokenizer
from plugrad.testing import tiny_model, tiny_tokenizer

WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"
GENERATION = "generation_config.json"
LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 123\n"


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sound") / "model"
    tiny_model(tie_word_embeddings=False).save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    return folder


@pytest.fixture
def folder(sound, tmp_path):
    return shutil.copytree(sound, tmp_path / "model")


def load(folder, **keys):
    return load_model(ModelTable(name=str(folder), **keys), ["1+1="])


def config(**fields):
    return edit("config.json", **fields)


def edit(file, **fields):
    """Return a change of a JSON file's fields. None removes one, and `...` stands for null."""

    def damage(folder):
        path = folder / file
        content = json.loads(path.read_text()) if path.exists() else {}
        for name, value in fields.items():
            content.pop(name, None)
            if value is not None:
                content[name] = None if value is ... else value
        path.write_text(json.dumps(content))

    return damage


def write(file, content):
    def damage(folder):
        (folder / file).write_bytes(content if isinstance(content, bytes) else content.encode())

    return damage


def cut(file, size):
    """Return a change that keeps the first `size` bytes, or drops the last ones where it is negative."""

    def damage(folder):
        (folder / file).write_bytes((folder / file).read_bytes()[:size])

    return damage


def header(text):
    return write(WEIGHTS, struct.pack("<Q", len(text)) + text.encode() + b"\0" * 64)


def weights(change):
    def damage(folder):
        tensors = load_file(folder / WEIGHTS)
        change(tensors)
        save_file(tensors, folder / WEIGHTS, metadata={"format": "pt"})

    return damage


def sharded(then):
    def damage(folder):
        model = AutoModelForCausalLM.from_pretrained(folder)
        (folder / WEIGHTS).unlink()
        model.save_pretrained(folder, max_shard_size="20KB")
        then(folder, json.loads((folder / INDEX).read_text()))

    return damage


def index(**fields):
    return sharded(lambda folder, content: (folder / INDEX).write_text(json.dumps({**content, **fields})))


def pickled(content):
    def damage(folder):
        tensors = load_file(folder / WEIGHTS)
        (folder / WEIGHTS).unlink()
        torch.save(content(tensors), folder / "pytorch_model.bin")

    return damage


def remove(*files):
    def damage(folder):
        for file in files:
            (folder / file).unlink()

    return damage


def replaced_by(make):
    """Return a change that puts what `make(path)` makes in the place of the weights."""

    def damage(folder):
        (folder / WEIGHTS).unlink()
        make(folder / WEIGHTS)

    return damage


class Touch:
    """A pickle that would write a file where it is loaded."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (self.path, "w"))


def set_nan(tensors):
    tensors["model.layers.0.mlp.up_proj.weight"][0, 0] = float("nan")


def set_inf(tensors):
    tensors["lm_head.weight"][3] = float("-inf")


def as_integers(tensors):
    tensors["lm_head.weight"] = tensors["lm_head.weight"].view(torch.int32)


def far_id(folder):
    content = json.loads((folder / "tokenizer.json").read_text())
    content["added_tokens"].append({**content["added_tokens"][0], "id": 4_000_000_000, "content": "<far>"})
    content["model"]["vocab"]["<far>"] = 4_000_000_000
    (folder / "tokenizer.json").write_text(json.dumps(content))


def transpose(tensors):
    tensors["model.layers.0.mlp.up_proj.weight"] = tensors["model.layers.0.mlp.up_proj.weight"].T.contiguous()


def without(*names):
    return weights(lambda tensors: [tensors.pop(name) for name in names])


def other_prefix(tensors):
    for name in list(tensors):
        tensors[f"module.{name}"] = tensors.pop(name)


LAYER = "model.layers.1.self_attn.q_proj.weight"
DAMAGE = {
    # config.json
    "config_empty": (write("config.json", ""), "config.json"),
    "config_null": (write("config.json", "null"), "config.json.*None, not a JSON object"),
    "config_list": (write("config.json", "[1]"), "config.json.*not a JSON object"),
    "config_cut": (cut("config.json", 100), "config.json.*JSONDecodeError"),
    "config_binary": (write("config.json", b"\xff\xfe\x00"), "config.json.*UnicodeDecodeError"),
    "config_nested": (write("config.json", '{"a":' * 100_000), "config.json.*RecursionError"),
    "config_digits": (write("config.json", '{"hidden_size": ' + "9" * 5_000 + "}"), "config.json.*ValueError"),
    "config_lfs": (write("config.json", LFS), "config.json.*Git LFS pointer.*git lfs pull"),
    "config_gone": (remove("config.json"), "no config.json"),
    "no_model_type": (config(model_type=None), "config.json.*model_type"),
    "null_model_type": (config(model_type=...), "config.json"),
    "list_model_type": (config(model_type=["qwen3"]), "config.json"),
    "unknown_model_type": (config(model_type="qwen99"), "config.json.*qwen99"),
    "no_causal_lm": (config(model_type="t5"), "is a t5, which has no causal LM"),
    "negative_size": (config(hidden_size=-32), "config.json|describes"),
    "zero_heads": (config(num_attention_heads=0), "config.json|describes"),
    "text_size": (config(hidden_size="32"), "config.json.*hidden_size"),
    "null_size": (config(hidden_size=...), "config.json.*hidden_size"),
    "float_layers": (config(num_hidden_layers=2.5), "config.json.*num_hidden_layers"),
    "negative_layers": (config(num_hidden_layers=-1), "config.json"),
    "endless_layers": (config(num_hidden_layers=10**9), "config.json.*num_hidden_layers is 1000000000"),
    "huge_size": (config(hidden_size=10**6), "describes a Qwen3ForCausalLM of .* weights, but its files hold"),
    "huge_vocabulary": (config(vocab_size=10**9), "describes a Qwen3ForCausalLM"),
    "unknown_activation": (config(hidden_act="magic"), "config.json.*magic"),
    "unknown_rope": (config(rope_parameters={"rope_type": "magic", "rope_theta": 1e4}), "magic|config.json"),
    "text_rope": (config(rope_parameters="linear"), "config.json"),
    "unknown_dtype": (config(dtype="float99"), "config.json.*float99"),
    "text_eos": (config(eos_token_id="</s>"), "config.json.*eos_token_id"),
    "bad_layer_types": (config(layer_types=["magic", "magic"]), "config.json.*layer_types"),
    "inner_number": (config(text_config=5), "config.json.*text_config is 5, which is no table"),
    "nan_epsilon": (config(rms_norm_eps=float("nan")), "config.json.*rms_norm_eps is NaN"),
    "infinite_epsilon": (config(rms_norm_eps=float("inf")), "config.json.*rms_norm_eps is inf"),
    "negative_epsilon": (config(rms_norm_eps=-0.1), "config.json.*rms_norm_eps is -0.1, which is below 0"),
    "inner_nan": (config(rope_parameters={"rope_theta": float("nan")}), "rope_parameters.rope_theta is NaN"),
    "no_probability": (config(attention_dropout=7.5), "config.json.*attention_dropout is 7.5: a probability"),
    "unknown_quantisation": (config(quantization_config={"quant_method": "magic"}), "quant_method is 'magic'.*not know"),
    "list_model_type_is_named": (config(model_type=["qwen3"]), "model_type is .*, which is no text"),
    "pad_beyond": (config(pad_token_id=10**6), "config.json|pad"),
    "changed_vocabulary": (config(vocab_size=50), r"lm_head.weight has the shape \[\d+, 32\] where \[50, 32\] is needed"),
    "changed_width": (config(intermediate_size=96), "do not fit: .*mlp"),
    "more_layers": (config(num_hidden_layers=3, layer_types=None), "are missing: model.layers.2"),
    # the weights
    "weights_gone": (remove(WEIGHTS), "holds no weights"),
    "weights_empty": (write(WEIGHTS, b""), "model.safetensors.*cut short"),
    "weights_header_cut": (cut(WEIGHTS, 50), "model.safetensors.*cut short"),
    "weights_cut": (cut(WEIGHTS, -100), "model.safetensors.*header announces"),
    "weights_garbage": (write(WEIGHTS, os.urandom(200)), "model.safetensors"),
    "weights_html": (write(WEIGHTS, "<!doctype html><title>Sign in</title>" * 9), "model.safetensors"),
    "weights_lfs": (write(WEIGHTS, LFS), "model.safetensors.*Git LFS pointer"),
    "header_not_json": (header("{'a': 1}"), "model.safetensors.*header"),
    "header_list": (header("[1, 2, 3]"), "model.safetensors.*header"),
    "header_no_offsets": (header('{"a": {"dtype": "F32", "shape": [1]}}'), "model.safetensors.*header"),
    "header_bad_offsets": (
        header('{"a": {"dtype": "F32", "shape": [1], "data_offsets": "ab"}}'),
        "model.safetensors.*header",
    ),
    "header_bad_dtype": (header('{"a": {"dtype": "F99", "shape": [16], "data_offsets": [0, 64]}}'), "F99|random"),
    "integer_weights": (weights(as_integers), "1 weight .* is stored as integers: lm_head.weight .I32."),
    "integer_pickle": (
        pickled(lambda tensors: {**tensors, LAYER: tensors[LAYER].int()}),
        "integers: .*q_proj.weight .int32.",
    ),
    "weights_pipe": (replaced_by(os.mkfifo), "model.safetensors.*is a pipe"),
    "weights_link": (replaced_by(lambda path: path.symlink_to("nowhere")), "symbolic link to nothing"),
    "weights_folder": (replaced_by(lambda path: path.mkdir()), "holds no weights"),
    "head_gone": (without("lm_head.weight"), "1 is missing: lm_head.weight"),
    "matrix_gone": (without(LAYER), f"1 is missing: {LAYER}"),
    "norm_gone": (without("model.norm.weight"), "missing: model.norm.weight"),
    "other_prefix": (weights(other_prefix), "are missing: .*belong nowhere: module."),
    "transposed": (weights(transpose), r"up_proj.weight has the shape \[32, 64\] where \[64, 32\] is needed"),
    "nan": (weights(set_nan), "1 weights .* hold NaN or infinity: model.layers.0.mlp.up_proj.weight"),
    "infinity": (weights(set_inf), "1 weights .* hold NaN or infinity: lm_head.weight"),
    # shards
    "shard_gone": (
        sharded(lambda folder, content: (folder / content["weight_map"]["lm_head.weight"]).unlink()),
        "lacks 1 of .* weight files that model.safetensors.index.json names: model-",
    ),
    "shard_cut": (
        sharded(lambda folder, content: cut(content["weight_map"]["lm_head.weight"], -9)(folder)),
        "model-.*header announces",
    ),
    "index_cut": (sharded(lambda folder, content: cut(INDEX, 40)(folder)), f"{INDEX}.*JSONDecodeError"),
    "index_null_map": (index(weight_map=None), f"{INDEX}.*weight_map"),
    "index_list_map": (index(weight_map=["a"]), f"{INDEX}.*weight_map"),
    "index_outside": (index(weight_map={"a": "../a.safetensors"}), f"{INDEX}.*outside the folder"),
    # pytorch_model.bin
    "bin_list": (pickled(lambda tensors: list(tensors.values())), "pytorch_model.bin.*holds a list"),
    "bin_nested": (pickled(lambda tensors: {"state_dict": tensors, "step": 3}), "no tensors: state_dict, step"),
    "bin_class": (pickled(lambda tensors: {**tensors, "x": Touch("stolen")}), "pytorch_model.bin.*Nothing in it was run"),
    "bin_gone": (pickled(lambda tensors: {name: tensors[name] for name in [LAYER]}), "are missing"),
    "bin_garbage": (
        lambda folder: (remove(WEIGHTS)(folder), write("pytorch_model.bin", b"garbage" * 99)(folder)),
        "pytorch_model.bin",
    ),
    "adapter": (edit("adapter_config.json", peft_type="LORA"), r"give its base as name.*\[model.lora\].*export .* --merged"),
    "adapter_with_base": (edit("adapter_config.json", base_model_name_or_path="a/b"), "give its base, 'a/b', as name"),
    # the generation configuration
    "generation_cut": (cut(GENERATION, 20), "generation_config.json.*JSONDecodeError"),
    "generation_null": (write(GENERATION, "null"), "generation_config.json.*not a JSON object"),
    "generation_text_eos": (edit(GENERATION, eos_token_id="1"), "eos_token_id in generation_config.json"),
    "generation_list_eos": (edit(GENERATION, eos_token_id=[[1]]), "eos_token_id in generation_config.json"),
    "generation_negative_eos": (edit(GENERATION, eos_token_id=-1), "eos_token_id in generation_config.json"),
    "generation_huge_eos": (edit(GENERATION, eos_token_id=[1, 10**9]), r"eos_token_id .* is \[1, 1000000000\]"),
    "config_huge_eos": (
        lambda folder: (remove(GENERATION)(folder), config(eos_token_id=10**9)(folder)),
        "eos_token_id .* is 1000000000",
    ),
    "generation_types": (
        edit(GENERATION, max_new_tokens="x", num_beams=-4, do_sample="maybe", stop_strings=7),
        "generation_config.json.*cannot be used: .*Correct or remove the values",
    ),
    "generation_invalid": (edit(GENERATION, max_new_tokens=-3), "max_new_tokens"),
    # the tokenizer
    "tokenizer_gone": (remove("tokenizer.json", "tokenizer_config.json"), "model without a tokenizer"),
    "tokenizer_cut": (cut("tokenizer.json", 300), "tokenizer"),
    "tokenizer_empty": (write("tokenizer.json", "{}"), "tokenizer"),
    "tokenizer_null": (write("tokenizer.json", "null"), "tokenizer.json.*begins with 'null'.*no JSON object"),
    "tokenizer_far_id": (far_id, "has .* tokens, and one of them has the id 4000000000.*damaged"),
    "tokenizer_lfs": (write("tokenizer.json", LFS), "tokenizer.json.*Git LFS pointer"),
    "tokenizer_unknown_model": (edit("tokenizer.json", model={"type": "Magic"}), "tokenizer"),
    "tokenizer_config_null": (write("tokenizer_config.json", "null"), "tokenizer_config.json.*not a JSON object"),
    "tokenizer_config_cut": (cut("tokenizer_config.json", 30), "tokenizer_config.json.*JSONDecodeError"),
    "tokenizer_list_eos": (edit("tokenizer_config.json", eos_token=["<eos>", "<pad>"]), "tokenizer"),
    "tokenizer_number_eos": (edit("tokenizer_config.json", eos_token=1), "tokenizer"),
    "tokenizer_null_eos": (edit("tokenizer_config.json", eos_token=...), "no end-of-sequence token"),
    "tokenizer_new_eos": (edit("tokenizer_config.json", eos_token="<|end|>"), "embedding has .* rows.*<|end|>"),
    "tokenizer_huge_eos": (edit("tokenizer_config.json", eos_token="e" * 10**6), "embedding has .* rows"),
    "special_tokens_list": (write("special_tokens_map.json", "[]"), "special_tokens_map.json.*not a JSON object"),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_damage_is_named_in_one_short_line(folder, damage, monkeypatch):
    monkeypatch.chdir(folder.parent)
    change, message = DAMAGE[damage]
    change(folder)
    with pytest.raises(ModelError, match=message) as caught:
        load(folder)
    text = str(caught.value)
    assert str(folder) in text
    assert len(text) - len(str(folder)) * 2 < 900
    assert text.isprintable()
    assert not (folder.parent / "stolen").exists()


def test_a_dtype_that_is_none_is_named_where_the_folder_decides(folder):
    config(dtype=32)(folder)
    with pytest.raises(ModelError, match="the model"):
        load(folder, dtype="auto")


def test_a_pickle_of_tensors_loads_like_safetensors(folder, sound):
    pickled(dict)(folder)
    found, wanted = (load(path).model.state_dict() for path in (folder, sound))
    assert found.keys() == wanted.keys()
    assert all(torch.equal(found[name], weight) for name, weight in wanted.items())


def test_shards_load_like_one_file(folder, sound):
    sharded(lambda folder, content: None)(folder)
    found, wanted = (load(path).model.state_dict() for path in (folder, sound))
    assert all(torch.equal(found[name], weight) for name, weight in wanted.items())


def test_a_tied_head_needs_no_weights_of_its_own(tmp_path):
    tiny_model(tie_word_embeddings=True).save_pretrained(tmp_path)
    tiny_tokenizer().save_pretrained(tmp_path)
    assert "lm_head.weight" not in load_file(tmp_path / WEIGHTS)
    load(tmp_path)


def test_another_class_is_named_with_its_own_weights(folder):
    config = AutoModelForSequenceClassification.from_pretrained(folder).config
    AutoModelForSequenceClassification.from_config(config).save_pretrained(folder)
    message = "1 is missing: lm_head.weight; 1 belongs nowhere: score.weight. It was saved as Qwen3ForSequenceClassification"
    with pytest.raises(ModelError, match=message):
        load(folder)


def test_integers_that_are_no_weights_and_infinite_limits_do_no_harm(folder):
    weights(lambda tensors: tensors.update({"model.mask": torch.ones(3, dtype=torch.bool)}))(folder)
    config(time_step_limit=[0.0, float("inf")], vision_config=..., attention_dropout=1)(folder)
    load(folder)


def test_weights_that_nothing_uses_are_noted(folder, caplog):
    weights(lambda tensors: tensors.update({"model.mtp.weight": torch.zeros(3)}))(folder)
    load(folder)
    assert re.search(
        "1 weight of the model .* has no place in a Qwen3ForCausalLM and is not used: model.mtp.weight", caplog.text
    )
    assert "LOAD REPORT" not in caplog.text


NEED_THE_MODEL = {"tokenizer_far_id", "config_huge_eos", "tokenizer_new_eos", "tokenizer_huge_eos"}
SEEN_EARLY = [name for name in DAMAGE if name.split("_")[0] in ("config", "tokenizer", "endless", "no")]


@pytest.mark.parametrize("damage", [name for name in SEEN_EARLY if name not in NEED_THE_MODEL])
def test_the_tokenizer_alone_is_refused_like_the_model(folder, damage):
    DAMAGE[damage][0](folder)
    with pytest.raises(ModelError) as caught:
        load_tokenizer(ModelTable(name=str(folder)), ["1+1="])
    assert str(folder) in str(caught.value)
    assert str(caught.value).isprintable()
