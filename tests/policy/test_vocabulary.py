"""A tokenizer with more tokens than the embedding has rows: named with both sizes, or the embedding grows."""

import pytest
import torch
from tokenizers import AddedToken
from transformers import AutoModelForCausalLM

from plugrad import ModelError
from plugrad.config.tables.model_table import FrozenModelTable, ModelTable
from plugrad.policy.loading import load_model
from plugrad.policy.loading_beside import load_frozen
from plugrad.testing import tiny_model, tiny_tokenizer

ROWS = len(tiny_tokenizer())


@pytest.fixture(params=[False, True], ids=["untied", "tied"])
def tied(request):
    return request.param


@pytest.fixture
def save(tmp_path):
    """Save a model with a tokenizer that `change` has changed; return the folder."""

    def save_it(change=lambda tokenizer: None, name="model", tied=True, **fields):
        tokenizer = tiny_tokenizer()
        change(tokenizer)
        tiny_model(tie_word_embeddings=tied, **fields).save_pretrained(tmp_path / name)
        tokenizer.save_pretrained(tmp_path / name)
        return str(tmp_path / name)

    return save_it


def think(tokenizer):
    tokenizer.add_tokens(["<think>", "</think>"])


def special_image(tokenizer):
    tokenizer.add_tokens([AddedToken("<image>", special=True)], special_tokens=True)


def new_pad(tokenizer):
    tokenizer.add_special_tokens({"pad_token": "[PAD]"})


def load(folder, texts=(), **keys):
    return load_model(ModelTable(name=folder, **keys), texts)


SIZES = f"tokenizer of the model .* has {{}} tokens, but the model's embedding has {ROWS} rows"


@pytest.mark.parametrize(
    ("change", "texts", "size"),
    [
        (think, ["1+1="], ROWS + 2),
        (new_pad, ["1+1="], ROWS + 1),
        (special_image, ["see <image>"], ROWS + 1),
        (lambda tokenizer: (special_image(tokenizer), think(tokenizer)), [], ROWS + 3),
    ],
    ids=["added", "pad", "special_in_a_prompt", "special_and_added"],
)
def test_both_sizes_are_named_with_the_remedy(save, change, texts, size):
    with pytest.raises(ModelError, match=SIZES.format(size)) as caught:
        load(save(change), texts)
    assert "Set model.resize_embeddings = true" in str(caught.value)


def test_a_special_token_in_the_chat_template_counts_as_used(save):
    def change(tokenizer):
        special_image(tokenizer)
        tokenizer.chat_template = "<image>{{ messages[0]['content'] }}"

    with pytest.raises(ModelError, match=SIZES.format(ROWS + 1)):
        load(save(change))


def test_a_special_token_that_cannot_occur_is_only_noted(save, caplog):
    loaded = load(save(special_image), ["1+1="])
    assert f"has {ROWS + 1} tokens, but the model's embedding has {ROWS} rows: there is none for <image>" in caplog.text
    assert loaded.model.get_input_embeddings().num_embeddings == ROWS


def test_a_smaller_tokenizer_needs_nothing(save, caplog):
    loaded = load(save(vocab_size=ROWS + 7), resize_embeddings=True)
    assert loaded.model.get_input_embeddings().num_embeddings == ROWS + 7
    assert not caplog.text


def test_the_embedding_grows_with_its_head_and_keeps_every_old_row(save, tied):
    folder = save(think, tied=tied)
    model = load(folder, ["<think>"], resize_embeddings=True).model
    old = AutoModelForCausalLM.from_pretrained(folder)
    rows, head = model.get_input_embeddings().weight, model.get_output_embeddings().weight
    assert rows.shape[0] == head.shape[0] == model.config.vocab_size == ROWS + 2
    assert (rows is head) == tied
    assert torch.equal(rows[:ROWS], old.get_input_embeddings().weight)
    assert torch.equal(head[:ROWS], old.get_output_embeddings().weight)
    assert rows.isfinite().all()


def test_a_grown_model_is_saved_and_loaded_as_it_is(save, tmp_path, tied):
    loaded = load(save(think, tied=tied), ["<think>"], resize_embeddings=True)
    loaded.model.save_pretrained(tmp_path / "saved")
    loaded.tokenizer.save_pretrained(tmp_path / "saved")
    again = load(str(tmp_path / "saved"), ["<think>"])
    ids = torch.tensor([again.tokenizer("1<think>2")["input_ids"]])
    assert ids.max() == ROWS
    assert torch.equal(again.model(ids).logits, loaded.model.eval()(ids).logits)


def test_a_frozen_model_grows_with_the_policy_or_is_refused(save):
    policy = save(think)
    tokenizer = load(policy, resize_embeddings=True).tokenizer
    reference = FrozenModelTable(name=save(think, name="reference"))
    with pytest.raises(ModelError, match=SIZES.format(ROWS + 2)):
        load_frozen(reference, ModelTable(name=policy), tokenizer)
    grown = load_frozen(reference, ModelTable(name=policy, resize_embeddings=True), tokenizer)
    assert grown.get_input_embeddings().num_embeddings == ROWS + 2
    assert not any(parameter.requires_grad for parameter in grown.parameters())
