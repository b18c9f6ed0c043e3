"""A request asks vLLM for samples from softmax(logits / temperature) and nothing else, with its own seed."""

from plugrad.rollout.engine import Prompt, Sampling
from plugrad.rollout.servers.request import requests_for


def requests(num_prompts, num_completions=4, temperature=0.5, seed=1):
    prompts = [Prompt("p", [number], {}) for number in range(num_prompts)]
    sampling = Sampling(num_completions, 8, temperature, seed)
    return requests_for(prompts, sampling, stops=frozenset({9, 2}), vocab_size=10)


def test_everything_that_changes_the_distribution_is_switched_off():
    [request] = requests(1)
    body = request.body("salt")
    assert (body["token_ids"], body["cache_salt"]) == ([0], "salt")
    expected = {
        "temperature": 0.5,
        "n": 4,
        "max_tokens": 8,
        "stop_token_ids": [2, 9],
        "ignore_eos": True,
        "logprobs": 0,
        "top_p": 1.0,
        "top_k": 0,
        "min_p": 0.0,
        "min_tokens": 0,
        "presence_penalty": 0.0,
        "frequency_penalty": 0.0,
        "repetition_penalty": 1.0,
    }
    assert expected.items() <= body["sampling_params"].items()


def test_no_two_completions_share_a_seed():
    """vLLM seeds the completions of a request with its seed, seed + 1, and so on."""
    drawn = [r.seed + j for seed in range(20) for r in requests(50, seed=seed) for j in range(r.num_completions)]
    assert len(set(drawn)) == 20 * 50 * 4
    assert all(0 <= seed < 2**63 for seed in drawn)


def test_a_seed_depends_on_run_and_index_only():
    assert [r.seed for r in requests(3)] == [r.seed for r in requests(5)][:3]


def test_a_greedy_request_asks_for_one():
    assert [request.num_completions for request in requests(2, temperature=0.0)] == [1, 1]
