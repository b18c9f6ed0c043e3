"""NeMo RL: its losses get next-token logits and the documented keys, and return the sum of the formula."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

import plugrad
from plugrad import PluginError
from plugrad_compat.adapters.responses import as_rows
from plugrad_compat.nemo_rl import LossType, calculate_kl, masked_mean
from plugrad_compat.nemo_rl.loss import data_of

VOCABULARY = 17
CLIP = {"ratio_clip_min": 0.2, "ratio_clip_max": 0.2}


def load(target, name="nemo_rl", **options):
    return plugrad.load("loss", f"plugrad-compat/{name}", target=target, **options)


@pytest.fixture
def with_logits(tokens):
    """A sequence whose logits match the log-probs of its tokens."""

    def make(ratios, advantages, **fields):
        plain = tokens(ratios, advantages, input_ids=torch.arange(len(ratios) + 2), **fields)
        own = plain.trainer_logprobs.where(plain.loss_mask, -1.0)
        # All other tokens have the logit 0: log p = x - log(e^x + others), solved for x.
        others = torch.zeros(len(own), VOCABULARY).double()
        logit = own - (-own.expm1()).log() + math.log(VOCABULARY - 1)
        return replace(plain, logits=others.scatter(1, plain.input_ids.unsqueeze(1), logit.unsqueeze(1)))

    return make


def test_the_log_likelihood_by_hand(with_logits, target):
    inputs = with_logits([1.0, 2.0], [0.0, 0.0])
    outputs = load(target("nemo_rl_losses", "NLLLoss"))(inputs)
    outputs.loss.backward()
    assert outputs.loss.item() == pytest.approx(2.0 + 2.0 - torch.tensor(2.0).log().item())
    torch.testing.assert_close(inputs.trainer_logprobs.grad[2:].tolist(), [-1.0, -1.0])
    assert outputs.metrics["loss"].value() == pytest.approx(outputs.loss.item() / 2)


def test_the_clip_by_hand_by_tokens_and_by_sequences(with_logits, target):
    inputs = with_logits([2.0, 0.5], [1.0, -1.0])
    by_token = load(target("nemo_rl_losses", "ClippedPGLossFn"), config={**CLIP, "token_level_loss": True})
    outputs = by_token(inputs)
    assert outputs.loss.item() == pytest.approx(-1.2 + 0.8)
    assert outputs.metrics["probs_ratio"].value() == pytest.approx((2.0 + 0.5) / 2)
    config = {**CLIP, "token_level_loss": False}
    by_sequence = load(target("nemo_rl_losses", "ClippedPGLossFn"), "nemo_rl_sequence", config=config)
    assert by_sequence(inputs).loss.item() == pytest.approx((-1.2 + 0.8) / 2)
    assert (by_token.reduction, by_sequence.reduction) == ("token", "sequence_sum")


def test_a_loss_asks_for_what_it_reads_and_no_more(target):
    plain = load(target("nemo_rl_losses", "NLLLoss"))
    clipped = load(target("nemo_rl_losses", "ClippedPGLossFn"), config={**CLIP, "token_level_loss": True})
    config = {**CLIP, "token_level_loss": True, "reference_policy_kl_penalty": 0.1}
    penalised = load(target("nemo_rl_losses", "ClippedPGLossFn"), config=config)
    assert plain.needs == {"logits", "input_ids"}
    assert clipped.needs == {"logits", "input_ids", "old_logprobs"}
    assert penalised.needs == {"logits", "input_ids", "old_logprobs", "ref_logprobs"}


def test_the_reference_is_that_of_the_run(with_logits, target):
    config = {**CLIP, "token_level_loss": True, "reference_policy_kl_penalty": 0.5}
    loss = load(target("nemo_rl_losses", "ClippedPGLossFn"), config=config)
    inputs = with_logits([1.0], [0.0], ref_logprobs=torch.tensor([0.0, 0.0, -1.0]).double())
    # k3 of a log-ratio of one nat.
    assert loss(inputs).loss.item() == pytest.approx(0.5 * (torch.tensor(1.0).exp().item() - 1 - 1))


def test_every_documented_key_is_there(with_logits):
    inputs = with_logits([1.0, 2.0], [3.0, 4.0], ref_logprobs=torch.zeros(4).double(), reward=torch.tensor(0.5).double())
    data = data_of(as_rows(inputs))
    assert data["token_mask"].tolist() == [[0, 0, 1, 1]]
    assert data["sample_mask"].tolist() == [1]
    assert data["input_lengths"].tolist() == [4]
    assert data["rewards"].tolist() == [0.5]
    assert data["advantages"][0, 2:].tolist() == [3.0, 4.0]
    assert data["prev_logprobs"] is not data["generation_logprobs"]
    assert {"input_ids", "reference_policy_logprobs"} <= data.keys()


def test_a_loss_of_log_probs_needs_no_logits_and_says_what_its_metrics_are(tokens, target):
    loss = load(target("nemo_rl_losses", "LaterClippedPGLossFn"), config=CLIP)
    assert loss.needs == {"old_logprobs"}
    inputs = tokens([2.0, 0.5], [1.0, -1.0])
    outputs = loss(inputs)
    outputs.loss.backward()
    assert outputs.loss.item() == pytest.approx(-1.2 + 0.8)
    torch.testing.assert_close(inputs.trainer_logprobs.grad.tolist(), [0.0] * 4)
    assert loss(tokens([1.1], [2.0])).loss.item() == pytest.approx(-2.2)
    other = loss(tokens([1.1], [2.0])).metrics
    added = {name: (measure + other[name]).value() for name, measure in outputs.metrics.items()}
    assert added == {
        "probs_ratio": pytest.approx((2.0 + 0.5 + 1.1) / 3),
        "probs_ratio_max": pytest.approx(2.0),
        "per_sequence": pytest.approx((1.25 + 1.1) / 2),
        "seen": 2.0,
    }


def test_a_loss_of_logits_by_their_later_name(with_logits, target):
    loss = load(target("nemo_rl_losses", "LaterEntropyLoss"))
    assert loss.needs == {"logits"}
    inputs = with_logits([1.0], [1.0])
    logprobs = inputs.logits[2].log_softmax(-1)
    assert loss(inputs).loss.item() == pytest.approx((logprobs.exp() * logprobs).sum().item())


def test_a_loss_of_pairs_is_told_its_name(tokens, target):
    with pytest.raises(plugrad.ContractError, match=r'mixes sequences.* name = "nemo_rl_pairs" if it compares the two'):
        load(target("nemo_rl_losses", "PreferenceLoss"), "nemo_rl_sequence")(tokens([1.0], [1.0]))


def test_a_key_that_is_read_only_later_is_answered_with_what_there_is(with_logits, written):
    path = written(
        """
        from plugrad_compat.nemo_rl import LossFunction, LossType

        class Late(LossFunction):
            loss_type = LossType.TOKEN_LEVEL
            calls = 0

            def __call__(self, next_token_logits, data, global_valid_seqs, global_valid_toks):
                Late.calls += 1
                extra = data["rewards"].sum() if Late.calls > 15 else 0.0
                logprobs = next_token_logits[:, :-1].log_softmax(-1)
                picked = logprobs.gather(-1, data["input_ids"][:, 1:, None]).squeeze(-1)
                return -(picked * data["token_mask"][:, 1:]).sum() / global_valid_toks + extra, {}
        """
    )
    loss = load(f"{path}:Late")
    # One call said what it needs, and eleven what it divides by and whether it mixes.
    for _ in range(3):
        loss(with_logits([1.0], [1.0]))
    with pytest.raises(
        plugrad.ContractError, match=r"'rewards': there are .*the keys that a trial of the loss before the run read"
    ):
        loss(with_logits([1.0], [1.0]))


@pytest.mark.parametrize(
    ("code", "name", "complaint"),
    [
        (
            "class Mine:\n    loss_type = LossType.SEQUENCE_LEVEL\n"
            "    def __call__(self, next_token_logits, data, global_valid_seqs, global_valid_toks): ...",
            "nemo_rl",
            'states LossType.SEQUENCE_LEVEL, but is selected as TOKEN_LEVEL.* Write name = "nemo_rl_sequence"',
        ),
        (
            "class Mine:\n    loss_type = LossType.SEQUENCE_LEVEL\n"
            "    def __call__(self, next_token_logits, data, global_valid_seqs, global_valid_toks): ...",
            "nemo_rl_whole_batch",
            '"nemo_rl_sequence" if each sequence has a loss of its own, "nemo_rl_pairs" if it compares the two completions',
        ),
        (
            "class Mine:\n    loss_type = LossType.TOKEN_LEVEL\n"
            "    def __call__(self, next_token_logits, data, global_valid_seqs, global_valid_toks): ...",
            "nemo_rl_sequence",
            'Write name = "nemo_rl", or "nemo_rl_whole_batch" if it mixes sequences',
        ),
        (
            "class Mine:\n    def __call__(self, next_token_logits, data, global_valid_seqs, global_valid_toks): ...",
            "nemo_rl",
            "has the loss_type None. A NeMo RL LossFunction states LossType.TOKEN_LEVEL or LossType.SEQUENCE_LEVEL",
        ),
        (
            "class Mine:\n    loss_type = LossType.TOKEN_LEVEL\n    input_type = 'distillation'\n"
            "    def __call__(self, data, global_valid_seqs, global_valid_toks, **kwargs): ...",
            "nemo_rl",
            "states the input_type 'distillation'. plugrad supports LossInputType.LOGIT and LossInputType.LOGPROB",
        ),
        (
            "class Mine:\n    loss_type = LossType.TOKEN_LEVEL\n"
            "    def __call__(self, data, global_valid_seqs, global_valid_toks): ...",
            "nemo_rl",
            "takes none of 'next_token_logits', 'logits', 'next_token_logprobs'",
        ),
        (
            "def Mine(log_probs, old_log_probs, advantages, config): ...",
            "nemo_rl_sequence",
            "looks like a SkyRL policy loss",
        ),
    ],
)
def test_a_loss_of_another_level_or_style_is_told_so(code, name, complaint, written):
    path = written(f"from plugrad_compat.nemo_rl import LossType\n\n\n{code}\n")
    with pytest.raises(PluginError, match=complaint):
        load(f"{path}:Mine", name)


def test_its_functions():
    values, mask = torch.tensor([[1.0, 2.0], [3.0, 4.0]]), torch.tensor([[1.0, 1.0], [1.0, 0.0]])
    assert masked_mean(values, mask).item() == pytest.approx(2.0)
    assert masked_mean(values, mask, dim=-1).tolist() == pytest.approx([1.5, 3.0])
    assert masked_mean(values, mask, global_normalization_factor=12).item() == pytest.approx(0.5)
    ratio = torch.tensor([2.0]).log()
    assert calculate_kl(torch.zeros(1), ratio).item() == pytest.approx(2 - 1 - ratio.item())
    assert calculate_kl(torch.zeros(1), ratio, "k1").item() == pytest.approx(-ratio.item())
    with pytest.raises(PluginError, match="NeMo RL has k1, k2, k3"):
        calculate_kl(ratio, ratio, "k4")
    assert LossType("token_level") is LossType.TOKEN_LEVEL


def test_a_loss_of_logits_that_mixes_sequences_is_told_to_take_log_probs(tokens, target, with_logits):
    told = r"Let it take log-probs: the argument next_token_logprobs.* input_type = LossInputType.LOGPROB"
    with pytest.raises(plugrad.ContractError, match=rf'mixes sequences.*{told}.*name = "nemo_rl_whole_batch"'):
        load(target("nemo_rl_losses", "MeanSeeking"))(with_logits([1.0, 1.1], [1.0, 1.0]))
    with pytest.raises(PluginError, match=rf"MeanSeeking' takes logits, .*never exist at once. {told}"):
        load(target("nemo_rl_losses", "MeanSeeking"), "nemo_rl_whole_batch")
    mixed = load(target("nemo_rl_losses", "LaterMeanSeeking"), "nemo_rl_whole_batch")
    assert mixed.bound.component.facts.whole_batch
    inputs = tokens([1.0, 1.2], [1.0, 1.0])
    counted = inputs.trainer_logprobs[inputs.loss_mask]
    assert mixed(inputs).loss.sum().item() == pytest.approx((counted - counted.mean()).square().sum().item())
