"""A policy of which an adapter is trained: what it computes, hands out, and was at the start; what is refused."""

import json

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model

from plugrad import ModelError
from plugrad.config.tables.lora_table import LoraTable
from plugrad.policy.adapter_folder import save_adapter
from plugrad.policy.adapter_layers import adapter_tensors, as_it_began, merged_weights
from plugrad.policy.lora import add_adapter, keep_as_it_began
from plugrad.policy.lora_config import check_lora
from plugrad.policy.policy import Policy
from plugrad.testing import tiny_model
from plugrad.trainer.update.policy_weights import PolicyWeights

IDS = torch.arange(3, 15).reshape(2, 6)
KINDS = {
    "plain": ({}, {}),
    "dora": ({"dora": True, "alpha": 5.0}, {}),
    "rslora": ({"rslora": True, "r": 4}, {}),
    "transposed matrices": ({}, {"model_type": "gpt2"}),
    "an untied embedding": ({"target_modules": ["embed_tokens", "up_proj"]}, {"tie_word_embeddings": False}),
    "some layers": ({"kwargs": {"layers_to_transform": [1], "rank_pattern": {"q_proj": 2}}}, {}),
}


def adapted(keys, fields=(), *, seed=0):
    """Return a model in float64 whose adapter does something, in evaluation mode."""
    model = tiny_model(seed, dtype="float64", **dict(fields))
    torch.manual_seed(seed)
    adapter = add_adapter(model, LoraTable(**keys), "the/base")
    move(model)
    return model.eval(), adapter


@torch.no_grad()
def move(model):
    draws = torch.Generator().manual_seed(5)
    for weight in adapter_tensors(model).values():
        weight.add_(torch.randn(weight.shape, generator=draws, dtype=weight.dtype) * 0.2)


@torch.no_grad()
def logits(model):
    return model(input_ids=IDS).logits


@pytest.mark.parametrize("kind", KINDS)
def test_an_engine_gets_the_names_and_values_of_pefts_merge(tmp_path, kind):
    model, adapter = adapted(*KINDS[kind])
    before = logits(model)
    save_adapter(model, tmp_path, adapter_tensors(model), adapter.base)
    theirs = PeftModel.from_pretrained(tiny_model(dtype="float64", **KINDS[kind][1]), tmp_path).eval()
    assert torch.equal(logits(theirs), before), "what is saved is what PEFT loads"
    found = dict(PolicyWeights(model))
    expected = theirs.merge_and_unload().state_dict()
    assert list(found) == list(expected)
    assert all(torch.equal(found[name], expected[name]) for name in found)
    assert torch.equal(logits(model), before), "handing out changes no bit"
    base = tiny_model(dtype="float64", **KINDS[kind][1]).state_dict()
    assert any(not torch.equal(found[name], base[name]) for name in found)


def test_one_matrix_is_merged_at_a_time():
    model, _ = adapted({})
    own = {weight.data_ptr() for weight in model.parameters()}
    weights = iter(merged_weights(model))
    held = [next(weights) for _ in range(3)]
    assert sum(weight.data_ptr() not in own for _, weight in held) == 2, "embed_tokens is the model's"


@pytest.mark.parametrize("keys", [{}, {"dora": True}, {"init": "gaussian"}])
def test_without_its_adapter_the_policy_is_the_base_to_the_bit(keys):
    model, adapter = adapted(keys)
    assert adapter.starts_at_base
    moved, base = logits(model), logits(tiny_model(dtype="float64").eval())
    with as_it_began(model):
        assert torch.equal(logits(model), base)
    assert torch.equal(logits(model), moved)
    assert not torch.equal(moved, base)


@pytest.mark.parametrize("keys", [{}, {"dora": True, "dropout": 0.5}])
def test_an_adapter_that_goes_on_began_where_the_other_ended(tmp_path, keys):
    first, adapter = adapted(keys)
    save_adapter(first, tmp_path, adapter_tensors(first), adapter.base)
    model = tiny_model(dtype="float64").eval()
    again = add_adapter(model, LoraTable(adapter=str(tmp_path)), "the/base")
    assert not again.starts_at_base
    state = torch.get_rng_state()
    keep_as_it_began(model)
    assert torch.equal(torch.get_rng_state(), state)
    trained = [name for name, weight in model.named_parameters() if weight.requires_grad]
    assert trained == list(adapter_tensors(first)), "the copy is frozen"
    move(model)
    model.eval()
    assert not torch.equal(logits(model), logits(first))
    with as_it_began(model):
        assert torch.equal(logits(model), logits(first))
    expected = {**tiny_model(dtype="float64").state_dict()}.keys()
    assert dict(merged_weights(model)).keys() == expected


def test_dropout_is_for_passes_with_gradient_alone():
    model, _ = adapted({"dropout": 0.5})
    plain, _ = adapted({})
    policies = [Policy(each, temperature=1.0).train() for each in (model, plain)]
    assert not policies[0].noisy - {name for name, _ in model.named_modules() if "lora_dropout" in name}
    counted = torch.ones_like(IDS, dtype=torch.bool)
    counted[:, 0] = False
    rows = (IDS, torch.ones_like(counted), counted)

    def scores(policy):
        return policy(*rows).logprobs.detach()

    with torch.no_grad():
        exact = scores(policies[1])
        assert torch.equal(scores(policies[0]), exact)
    assert not torch.equal(scores(policies[0]), exact)
    with torch.no_grad():
        assert torch.equal(scores(policies[0]), exact), "and off again"
    assert any(module.training for name, module in model.named_modules() if "lora_dropout" in name), "for a backward pass"
    assert torch.equal(scores(policies[0].eval()), exact)


@pytest.mark.parametrize("keys", [{}, {"dora": True}])
def test_an_adapter_of_a_model_of_16_bits_keeps_float32(keys, tmp_path):
    model = tiny_model(dtype="bfloat16")
    adapter = add_adapter(model, LoraTable(**keys), "the/base")
    assert {weight.dtype for weight in adapter_tensors(model).values()} == {torch.float32}
    assert {weight.dtype for weight in dict(merged_weights(model)).values()} == {torch.bfloat16}
    move(model)
    before = logits(model)
    assert before.dtype == torch.bfloat16
    save_adapter(model, tmp_path, adapter_tensors(model), adapter.base)
    again = tiny_model(dtype="bfloat16")
    add_adapter(again, LoraTable(adapter=str(tmp_path)), "the/base")
    keep_as_it_began(again)
    move(again)
    with as_it_began(again):
        assert torch.equal(logits(again), before)


def test_packed_rows_have_the_gradients_of_padded_ones():
    model, _ = adapted({"dora": True})
    attended = torch.arange(6) < torch.tensor([[6], [3]])
    counted = attended & (torch.arange(6) > 0)

    def found(packs):
        logprobs = Policy(model, temperature=0.7, packs=packs)(IDS * attended, attended, counted).logprobs
        weights = torch.linspace(-1, 2, IDS.numel(), dtype=logprobs.dtype).view_as(IDS)
        return torch.autograd.grad((weights * logprobs).sum(), list(adapter_tensors(model).values()))

    for packed, padded in zip(found(packs=True), found(packs=False), strict=True):
        torch.testing.assert_close(packed, padded, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(
    ("keys", "fields", "said"),
    [
        ({"kwargs": {"rank_patern": {}}}, {}, "Did you mean 'rank_pattern'"),
        ({"kwargs": {"lora_alpha": 3}}, {}, "Write it as alpha in"),
        ({"kwargs": {"modules_to_save": ["lm_head"]}}, {}, "refuses: it trains or replaces weights of the base"),
        ({"kwargs": {"bias": "all"}}, {}, "refuses"),
        ({"kwargs": {"target_parameters": ["mlp.experts"]}}, {}, "cannot be merged one at a time"),
        ({"init": "orthogonal", "r": 3}, {}, "needs an even r"),
        ({"target_modules": ["q_prj", "v_proj"]}, {}, "called 'q_prj'. Its linear layers are q_proj"),
        ({"target_modules": "nothing"}, {}, "called 'nothing'"),
        ({"target_modules": ["mlp"]}, {}, "'model.layers.0.mlp', a Qwen3MLP: only linear layers"),
        ({"target_modules": ["lm_head"]}, {"tie_word_embeddings": False}, "the head. It gets no adapter"),
        ({"target_modules": ["embed_tokens"]}, {"tie_word_embeddings": True}, "would change one of the two and untie"),
        ({"kwargs": {"layers_to_transform": [7]}, "target_modules": ["q_proj"]}, {}, "allowed by layers_to_transform"),
        ({"target_modules": []}, {}, "target_modules is empty"),
        ({"target_modules": "("}, {}, "PEFT cannot tell which layers are meant by target_modules = '('"),
        ({"kwargs": {"layers_to_transform": "x"}}, {}, "layers_to_transform = 'x' (TypeError"),
        ({"kwargs": {"rank_pattern": "x"}}, {}, "PEFT cannot put this adapter into Qwen3ForCausalLM"),
        ({"adapter": "/no/such"}, {}, "is no folder"),
    ],
)
def test_what_is_refused_and_why(keys, fields, said):
    with pytest.raises(ModelError, match=r"model\.lora") as raised:
        add_adapter(tiny_model(**fields), LoraTable(**keys), None)
    assert said in str(raised.value)


def test_without_peft_the_error_says_how_to_install_it(monkeypatch):
    check_lora(None)
    check_lora(LoraTable())
    monkeypatch.setattr("plugrad.policy.lora_config.find_spec", lambda name: None)
    with pytest.raises(ModelError, match=r'pip install "plugrad\[lora\]"'):
        check_lora(LoraTable())


@pytest.fixture
def folder(tmp_path):
    """An adapter that PEFT has saved."""
    get_peft_model(tiny_model(), LoraConfig(r=4, target_modules=["q_proj"])).save_pretrained(tmp_path / "adapter")
    return tmp_path / "adapter"


def test_an_adapter_of_pefts_own_is_read_with_its_configuration(folder):
    model = tiny_model()
    adapter = add_adapter(model, LoraTable(adapter=str(folder), r=4, target_modules=["q_proj"]), "the/base")
    assert (adapter.config.r, adapter.config.lora_alpha, adapter.config.target_modules) == (4, 8, {"q_proj"})
    assert len(adapter_tensors(model)) == 4


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({"r": 8}, "r is 8, but adapter_config.json"),
        ({"target_modules": ["v_proj"]}, "has target_modules = ['q_proj']"),
        ({"dora": True}, "dora is True"),
        ({"init": "gaussian"}, "init is for a new adapter"),
    ],
)
def test_keys_that_contradict_the_adapter_are_refused(folder, keys, said):
    with pytest.raises(ModelError) as raised:
        check_lora(LoraTable(adapter=str(folder), **keys))
    assert said in str(raised.value)


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("peft_type", "IA3", "only LORA"),
        ("init_lora_weights", "pissa", "rewrote the base"),
        ("bias", "all", "refuses"),
        ("r", -3, "PEFT cannot put this adapter"),
    ],
)
def test_an_adapter_of_another_kind_is_refused(folder, field, value, said):
    config = json.loads((folder / "adapter_config.json").read_text())
    (folder / "adapter_config.json").write_text(json.dumps({**config, field: value}))
    with pytest.raises(ModelError) as raised:
        add_adapter(tiny_model(), LoraTable(adapter=str(folder)), None)
    assert said in str(raised.value)


def test_an_adapter_of_another_base_is_refused(folder):
    with pytest.raises(ModelError, match="must be the base that the adapter was trained beside"):
        add_adapter(tiny_model(hidden_size=48), LoraTable(adapter=str(folder)), None)
    with pytest.raises(ModelError, match="are missing"):
        add_adapter(tiny_model(num_hidden_layers=3), LoraTable(adapter=str(folder)), None)


def test_fused_experts_keep_their_matrices(caplog):
    caplog.set_level("INFO", logger="plugrad")
    model = tiny_model(model_type="qwen3_moe")
    add_adapter(model, LoraTable(), None)
    assert "experts that are stored as one tensor stay as they are" in caplog.text
    assert {name.split(".")[3] for name in adapter_tensors(model)} == {"self_attn"}
