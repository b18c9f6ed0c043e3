"""`needs={"logits"}`: the logits whose softmax the log-probs are, of whatever head, and for the losses alone that ask."""

import weakref

import pytest
import torch
from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook

import plugrad
from plugrad import BatchLossInputs, LossInputs, LossOutputs, loss
from plugrad.policy.policy import Policy
from plugrad.policy.scored import Scored, Wanted
from plugrad.testing import conformance, loss_checks, run_checks, tiny_model

IDS = torch.tensor([[5, 6, 7, 8, 9], [4, 3, 2, 0, 0]])
ATTENTION = torch.tensor([[True] * 5, [True, True, True, False, False]])
COUNTED = torch.tensor([[False, False, True, True, True], [False, True, True, False, False]])
MODELS = ["qwen3", "llama", "gpt2", "granite", "cohere", "gemma2"]
NLL = """
from plugrad import LossInputs, LossOutputs, loss

SEEN = []


@loss(needs={"logits", "input_ids"})
def by_logits(inputs: LossInputs) -> LossOutputs:
    SEEN.append(inputs.logits)
    logprobs = inputs.logits.log_softmax(dim=1).gather(1, inputs.input_ids.unsqueeze(1)).squeeze(1)
    return LossOutputs(-logprobs * inputs.advantages * inputs.loss_mask)


def by_logprobs(inputs: LossInputs) -> LossOutputs:
    assert inputs.logits is None
    return LossOutputs(-inputs.trainer_logprobs * inputs.advantages * inputs.loss_mask)
"""


@loss(needs={"logits", "input_ids"}, policy_gradient=True)
def reinforce_by_logits(inputs: LossInputs) -> LossOutputs:
    logprobs = inputs.logits.log_softmax(dim=1).gather(1, inputs.input_ids.unsqueeze(1)).squeeze(1)
    return LossOutputs(-logprobs * inputs.advantages * inputs.loss_mask)


@loss(needs={"logits", "input_ids"}, policy_gradient=True)
def reinforce_of_the_batch(inputs: BatchLossInputs) -> LossOutputs:
    logprobs = inputs.logits.log_softmax(dim=2).gather(2, inputs.input_ids.unsqueeze(2)).squeeze(2)
    return LossOutputs(-logprobs * inputs.advantages * inputs.loss_mask)


@pytest.mark.parametrize("model_type", MODELS)
@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_their_softmax_is_the_log_probs(model_type, temperature):
    policy = Policy(tiny_model(dtype="float64", model_type=model_type), temperature)
    wanted, entropy = policy(IDS, ATTENTION, COUNTED, Wanted(entropy="value"))[:2]
    found = policy(IDS, ATTENTION, COUNTED, Wanted(entropy="value", logits=True))
    own = found.logits.log_softmax(dim=2).gather(2, IDS.unsqueeze(2)).squeeze(2) * COUNTED
    # Gemma2 and Cohere multiply their norms' weights in float32.
    for values in (found.logprobs, own):
        torch.testing.assert_close(values, wanted, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(found.entropy, entropy, rtol=1e-6, atol=1e-6)
    assert not found.logits[~COUNTED].any()


def test_a_model_without_a_linear_head_gives_its_own():
    policy = Policy(tiny_model(dtype="float64"), 0.5)
    wanted = policy(IDS, ATTENTION, COUNTED, Wanted(logits=True)).logits
    policy.head = None
    torch.testing.assert_close(policy(IDS, ATTENTION, COUNTED, Wanted(logits=True)).logits, wanted)


def test_packed_sequences_have_the_same():
    padded, packed = Policy(tiny_model(dtype="float64"), 1.0), Policy(tiny_model(dtype="float64"), 1.0, packs=True)
    packed.model.set_attn_implementation("plugrad_sequences_by_position")
    found, wanted = (policy(IDS, ATTENTION, COUNTED, Wanted(logits=True)).logits for policy in (packed, padded))
    torch.testing.assert_close(found, wanted)


def test_a_loss_of_logits_trains_as_the_same_loss_of_log_probs(run, write):
    write("losses.py", NLL)
    records = [run(loss={"name": f"losses.py:{name}"}).records for name in ("by_logits", "by_logprobs")]
    for found, wanted in zip(*records, strict=True):
        assert found["grad_norm"] == pytest.approx(wanted["grad_norm"], rel=1e-4)
        assert found["by_logits/loss"] == pytest.approx(wanted["by_logprobs/loss"], rel=1e-4, abs=1e-6)


def test_only_who_asks_is_given_them(run, write):
    write("losses.py", NLL)
    run(loss=[{"name": "losses.py:by_logprobs"}, {"name": "losses.py:by_logits"}], max_steps=1)


@pytest.fixture
def logits_made():
    """Watch every forward pass of a policy: no logits of an earlier one may be alive when it starts."""
    made = []

    def none_are_alive(module, _inputs):
        if isinstance(module, Policy):
            assert [logits() for logits in made if logits() is not None] == []

    def remember(_module, _inputs, outputs):
        if isinstance(outputs, Scored) and outputs.logits is not None:
            made.append(weakref.ref(outputs.logits))

    handles = [register_module_forward_pre_hook(none_are_alive), register_module_forward_hook(remember)]
    yield made
    for handle in handles:
        handle.remove()


def test_no_two_micro_batches_of_them_are_there_at_once(run, write, logits_made):
    write("losses.py", NLL.replace("SEEN.append(inputs.logits)", "pass"))
    run(loss={"name": "losses.py:by_logits"}, max_steps=1, tokens_per_micro_batch=30)
    assert len(logits_made) > 2


def test_a_loss_outside_a_run_says_that_it_needs_them():
    ones = torch.ones(3)
    inputs = LossInputs(
        trainer_logprobs=ones, inference_logprobs=ones, advantages=ones, loss_mask=ones.bool(), input_ids=ones.long()
    )
    bound = plugrad.load("loss", f"{__file__}:reinforce_by_logits")
    with pytest.raises(plugrad.ContractError, match=r"needs logits: pass LossInputs\(logits=\.\.\.\)"):
        bound(inputs)


@conformance(reinforce_by_logits, strict=False)
def test_a_loss_of_logits_keeps_the_promises_of_a_loss(check):
    if check.name not in ("import_effects", "one_rank_equals_two"):
        check()


@conformance(f"{__file__}:reinforce_of_the_batch")
def test_and_so_does_one_of_the_batch_on_two_ranks_too(check):
    check()


def test_a_loss_that_asks_and_does_not_read_them_is_found():
    @loss(needs={"logits"})
    def careless(inputs: LossInputs) -> LossOutputs:
        return LossOutputs(-inputs.trainer_logprobs * inputs.advantages * inputs.loss_mask)

    (result,) = run_checks([check for check in loss_checks(careless) if check.name == "needs"])
    assert result.is_bad
    assert "a change of logits gives the same value" in result.seen
