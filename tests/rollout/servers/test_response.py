"""A response that does not match its request is rejected, with the reason."""

import json
from copy import deepcopy

import pytest

from plugrad.rollout.engine import Completion, Prompt, Sampling
from plugrad.rollout.servers.request import requests_for
from plugrad.rollout.servers.response import InvalidResponse, NotYetSent, WrongWeights, parse_response
from plugrad.rollout.servers.weight_labels import WeightLabels

LABELS = WeightLabels("run")
[REQUEST] = requests_for([Prompt("p", [7], {})], Sampling(2, 3, 1.0, 0), stops=frozenset({2}), vocab_size=10)


def choice(index, ids, reason, *spans):
    return {
        "index": index,
        "finish_reason": reason,
        "token_ids": ids,
        "weight_versions": [{"version": label, "start": start, "end": end} for label, start, end in spans],
        "logprobs": {"content": [{"token_id": token, "logprob": -0.25 * token} for token in ids]},
    }


GOOD = {
    "choices": [
        choice(0, [4, 2], "stop", ("run-3", 0, 2)),
        choice(1, [5, 6, 7], "length", ("run-3", 0, 1), ("run-4", 1, 3)),
    ]
}


def parse(response, oldest=3, newest=4):
    return parse_response(json.dumps(response).encode(), REQUEST, LABELS, oldest, newest)


def test_a_response_is_parsed():
    assert parse(GOOD) == [
        Completion([4, 2], [-1.0, -0.5], False, [3, 3]),
        Completion([5, 6, 7], [-1.25, -1.5, -1.75], True, [3, 4, 4]),
    ]


def test_completions_are_put_in_order():
    assert parse({"choices": GOOD["choices"][::-1]}) == parse(GOOD)


def changed(*path, to):
    response = deepcopy(GOOD)
    value = response["choices"]
    for key in path[:-1]:
        value = value[key]
    value[path[-1]] = to
    return response


@pytest.mark.parametrize(
    ("response", "says"),
    [
        ({"choices": GOOD["choices"][:1]}, r"completions \[0\] instead of \[0, 1\]"),
        ({"choices": [*GOOD["choices"], choice(2, [2], "stop", ("run-3", 0, 1))]}, r"\[0, 1, 2\] instead of \[0, 1\]"),
        (changed(1, "index", to=0), r"completions \[0, 0\]"),
        (changed(0, "token_ids", to=[]), "token_ids"),
        (changed(0, "token_ids", to=[4, 10]), "the token 10, outside the vocabulary of 10"),
        (changed(0, "token_ids", to=[-1, 2]), "the token -1"),
        (changed(0, "token_ids", to=[3, 2]), "log-probs are for others"),
        (changed(0, "logprobs", to=None), "logprobs"),
        (changed(0, "logprobs", "content", to=[]), "2 tokens, but its 0 log-probs"),
        (changed(0, "logprobs", "content", 0, "logprob", to=None), "logprob"),
        (changed(0, "logprobs", "content", 0, "logprob", to=float("nan")), "logprob"),
        (
            changed(0, "logprobs", "content", 0, "logprob", to=-9999.0),
            "impossible log-prob -9999.0: are the server's logits finite",
        ),
        (changed(0, "logprobs", "content", 0, "logprob", to=0.5), "the impossible log-prob 0.5"),
        (changed(0, "finish_reason", to="abort"), None),
        (changed(1, "finish_reason", to="abort"), r"ends \(abort\) after 3 of 3"),
        (changed(1, "finish_reason", to="a\x1b[31m" * 50_000), r"ends \(a\\x1b"),
        (changed(0, "weight_versions", to=None), "weight_versions"),
        (changed(0, "weight_versions", to=[]), "2 tokens, but weight versions for 0"),
        (changed(1, "weight_versions", 1, "start", to=2), "weight versions with gaps or overlaps"),
        (changed(1, "weight_versions", 1, "end", to=4), "weight versions for 4"),
        ({"error": "x"}, "choices: Field required"),
        ([], "not a valid response"),
    ],
)
def test_another_response_is_rejected(response, says):
    if says is None:
        # It ends with a stop token, whatever the finish reason.
        assert parse(response) == parse(GOOD)
        return
    with pytest.raises(InvalidResponse, match=says) as caught:
        parse(response)
    assert len(str(caught.value)) < 600


def test_too_long_and_cut_off_completions_are_rejected():
    long = choice(0, [4, 4, 4, 2], "stop", ("run-3", 0, 4))
    with pytest.raises(InvalidResponse, match="4 tokens, more than the limit of 3"):
        parse({"choices": [long, GOOD["choices"][1]]})
    goes_on = choice(0, [2, 4], "length", ("run-3", 0, 2))
    with pytest.raises(InvalidResponse, match="continues after a stop token"):
        parse({"choices": [goes_on, GOOD["choices"][1]]})
    short = choice(0, [4, 4], "length", ("run-3", 0, 2))
    with pytest.raises(InvalidResponse, match=r"ends \(length\) after 2 of 3 tokens without a stop token"):
        parse({"choices": [short, GOOD["choices"][1]]})


@pytest.mark.parametrize("content", [b"", b"rubbish", b"\xff\xfe", json.dumps(GOOD).encode()[:-20]])
def test_what_is_not_json_is_rejected(content):
    with pytest.raises(InvalidResponse, match="not a valid response"):
        parse_response(content, REQUEST, LABELS, 3, 4)


@pytest.mark.parametrize("label", ["default", "other-3", "run-unfinished", "run", ""])
def test_weights_of_another_origin_are_rejected(label):
    with pytest.raises(WrongWeights, match=f"{label!r}, which this run did not send"):
        parse(changed(0, "weight_versions", 0, "version", to=label))


def test_weights_that_were_not_sent_yet_are_rejected():
    with pytest.raises(NotYetSent, match="version 4, and this run has sent none newer than 3"):
        parse(GOOD, newest=3)
    with pytest.raises(NotYetSent, match=f"version {10**17}, "):
        parse(changed(0, "weight_versions", 0, "version", to=f"run-{10**17}"))


def test_old_weights_are_rejected():
    with pytest.raises(WrongWeights, match="version 3, and this run is at version 4"):
        parse(GOOD, oldest=4)
