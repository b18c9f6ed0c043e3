"""Packed sequences give what padded ones give, and models that would mix them are found."""

import pytest
import torch

from plugrad.policy.lm_head import attention
from plugrad.policy.micro_batches import Layout, TrainingSequence, cut
from plugrad.policy.packing import LIKE_FLASH, can_pack, keeps_sequences_apart, packed_inputs
from plugrad.policy.partition import full_blocks
from plugrad.policy.policy import Policy
from plugrad.policy.reductions import Counts
from plugrad.policy.scored import Wanted
from plugrad.testing import tiny_model

LENGTHS = torch.tensor([7, 4, 1, 6])
ATTENTION = torch.arange(7) < LENGTHS.unsqueeze(1)
IDS = torch.randint(3, 60, (4, 7), generator=torch.Generator().manual_seed(0)) * ATTENTION
COUNTED = ATTENTION & (torch.arange(7) >= torch.tensor([[3], [2], [1], [1]]))
MIXED = [
    ("mamba2", {"num_heads": 8, "head_dim": 8, "state_size": 8, "n_groups": 1, "expand": 2, "hidden_size": 32}),
    ("lfm2", {"layer_types": ["conv", "full_attention"], "num_hidden_layers": 2}),
]


def scores(model, *, packs):
    logprobs, entropy = Policy(model, 0.7, packs=packs)(IDS, ATTENTION, COUNTED, Wanted(entropy="gradient"))[:2]
    weights = torch.linspace(-1, 2, IDS.numel(), dtype=logprobs.dtype).view_as(IDS)
    total = (weights * logprobs).sum() + (weights.flip(1) * entropy).sum()
    return [logprobs, entropy, *torch.autograd.grad(total, list(model.parameters()))]


@pytest.mark.parametrize("implementation", ["sdpa", "eager", LIKE_FLASH])
@pytest.mark.parametrize("model_type", ["qwen3", "llama", "granite"])
def test_packed_scores_and_gradients_are_those_of_padded_rows(model_type, implementation):
    model = tiny_model(model_type=model_type, dtype="float64")
    padded = scores(model, packs=False)
    with attention(model, implementation):
        packed = scores(model, packs=True)
    for one, other in zip(packed, padded, strict=True):
        # Transformers' eager attention has its softmax in float32.
        tolerance = 1e-6 if implementation == "eager" else 1e-10
        torch.testing.assert_close(one, other, rtol=tolerance, atol=tolerance)


def test_logits_of_an_unknown_head_are_packed_too():
    model = tiny_model(dtype="float64")
    policies = [Policy(model, 0.7, packs=packs) for packs in (True, False)]
    for policy in policies:
        policy.head = None
    packed, padded = (policy(IDS, ATTENTION, COUNTED, Wanted(entropy="value")) for policy in policies)
    for one, other in zip(packed, padded, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-10)


def test_positions_begin_again_at_each_sequence():
    inputs = packed_inputs(IDS, ATTENTION)
    assert inputs["input_ids"].shape == (1, int(LENGTHS.sum()))
    assert inputs["position_ids"][0].tolist() == [place for length in LENGTHS for place in range(length)]


@pytest.mark.parametrize("implementation", ["eager", LIKE_FLASH])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("model_type", ["qwen3", "llama", "gpt2", "gemma2"])
def test_transformers_keep_packed_sequences_apart(model_type, dtype, implementation):
    model = tiny_model(model_type=model_type, dtype=dtype).eval()
    with torch.no_grad(), attention(model, implementation):
        assert keeps_sequences_apart(model)


@pytest.mark.parametrize(("model_type", "fields"), MIXED)
def test_models_that_mix_tokens_outside_attention_are_not_packed(model_type, fields):
    model = tiny_model(model_type=model_type, **fields).eval()
    with torch.no_grad():
        assert not keeps_sequences_apart(model)


def test_a_model_that_hands_no_positions_to_its_attention_is_not_packed():
    """A mask that it made of them would have hidden it: flash attention gets none."""
    model = tiny_model().eval()
    for layer in model.model.layers:
        layer.self_attn.register_forward_pre_hook(
            lambda module, args, options: (args, {**options, "position_ids": None}), with_kwargs=True
        )
    with torch.no_grad(), attention(model, "eager"):
        assert keeps_sequences_apart(model)
    with torch.no_grad(), attention(model, LIKE_FLASH):
        assert not keeps_sequences_apart(model)


@pytest.mark.parametrize(("implementation", "packs"), [("sdpa", False), ("eager", False), ("flex_attention", True)])
def test_only_attention_that_skips_other_sequences_is_worth_it(implementation, packs):
    model = tiny_model()
    model.set_attn_implementation(implementation)
    assert can_pack(model) == packs
    assert model.config._attn_implementation == implementation


def test_flash_attention_is_tried_without_a_mask():
    model = tiny_model()
    # The setter would ask for the package, which needs a GPU.
    model.config._attn_implementation_internal = "flash_attention_2"
    with pytest.MonkeyPatch.context() as patch:
        setter = model.set_attn_implementation
        patch.setattr(model, "set_attn_implementation", lambda name: setter(name) if name == LIKE_FLASH else None)
        assert can_pack(model)
    assert model.config._attn_implementation == LIKE_FLASH


def test_packed_micro_batches_are_full_of_tokens():
    lengths = [9, 7, 7, 5, 3, 1]
    assert full_blocks(lengths, 10) == [(0, 1), (1, 2), (2, 3), (3, 6)]
    assert full_blocks(lengths, 16) == [(0, 2), (2, 6)]
    assert full_blocks([], 16) == []
    sequences = [TrainingSequence([1] * n, [True] * n, [0.0] * n, None, 0.0, 0, 0, {}) for n in lengths]
    counts = Counts(sum(lengths), len(lengths), 1, 9)
    micro_batches = cut(sequences, counts, Layout(16, 0, torch.float32, packed=True))
    assert [int(m.attention_mask.sum()) for m in micro_batches] == [16, 16]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("implementation", ["flash_attention_2", "flex_attention"])
def test_on_a_gpu_packed_is_padded(implementation):
    if implementation == "flash_attention_2":
        pytest.importorskip("flash_attn")
    dtype = "bfloat16" if implementation == "flash_attention_2" else "float32"
    model = tiny_model(dtype=dtype).cuda()
    batch = [tensor.cuda() for tensor in (IDS, ATTENTION, COUNTED)]
    padded = Policy(model, 1.0)(*batch).logprobs
    model.set_attn_implementation(implementation)
    policy = Policy(model, 1.0)
    assert policy.packs
    packed = policy(*batch).logprobs
    tolerance = 0.05 if dtype == "bfloat16" else 1e-4
    torch.testing.assert_close(packed, padded, rtol=tolerance, atol=tolerance)
