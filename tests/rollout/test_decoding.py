"""The sampling loop: what it draws, and what it spares the model."""

import pytest
import torch

from plugrad.rollout.decoding import draw
from plugrad.rollout.engine import Sampling
from plugrad.rollout.prompts import tokenize_prompts
from plugrad.rollout.transformers_engine import TransformersEngine
from plugrad.testing import tiny_model, tiny_tokenizer
from plugrad.testing.engines.engine_trial import largest_mismatch

EXAMPLES = [{"prompt": prompt} for prompt in ("1+1=", "another one", "1+1=")]


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_tokens_are_drawn_from_the_softmax_with_temperature_and_come_with_its_logprob(temperature):
    torch.manual_seed(0)
    logits = torch.tensor([2.0, 1.0, 0.0, -1.0])
    drawn, logprobs = draw(logits.expand(100_000, 4), temperature)
    expected = (logits / temperature).softmax(dim=0)
    assert drawn.bincount(minlength=4) / 100_000 == pytest.approx(expected, abs=0.01)
    torch.testing.assert_close(logprobs, expected.log()[drawn])


def test_temperature_zero_takes_the_likeliest():
    drawn, logprobs = draw(torch.tensor([[0.0, 3.0, 1.0]]), 0.0)
    assert drawn.tolist() == [1]
    assert logprobs.item() == pytest.approx(torch.tensor([0.0, 3.0, 1.0]).log_softmax(0)[1].item())


def rows_of_each_pass(model, sampling):
    rows, engine = [], TransformersEngine(model, tiny_tokenizer(), 512)
    handle = model.register_forward_pre_hook(lambda _, __, kwargs: rows.append(kwargs["input_ids"].shape), with_kwargs=True)
    prompts = tokenize_prompts(EXAMPLES, tiny_tokenizer(), room=None)
    groups = engine.generate(prompts, sampling)
    handle.remove()
    return rows, prompts, groups


def test_each_prompt_is_read_once_for_all_its_completions():
    rows, _, _ = rows_of_each_pass(tiny_model(), Sampling(5, 4, 1.0, seed=0))
    assert rows[:2] == [(2, len("another one")), (15, 1)]


def test_rows_that_have_ended_leave_the_batch():
    model = tiny_model(vocab_size=103)
    eos = tiny_tokenizer().eos_token_id
    # A tenth of the tokens ends a row: those that a bias on the head makes as likely.
    head = torch.nn.Linear(32, 103, bias=True)
    with torch.no_grad():
        head.weight.normal_(std=0.1, generator=torch.Generator().manual_seed(0))
        head.bias.zero_()[eos] = 2.5
    model.set_output_embeddings(head)
    rows, prompts, groups = rows_of_each_pass(model, Sampling(20, 40, 1.0, seed=0))
    counts = [count for count, _ in rows[1:]]
    lengths = [len(completion.ids) for group in groups for completion in group]
    assert counts == sorted(counts, reverse=True)
    assert counts[-1] < 10 < counts[0] == 60
    assert len(set(lengths)) > 5
    assert largest_mismatch(prompts, groups, model, 1.0) < 1e-5
