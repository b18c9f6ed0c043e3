"""What is no answer to what was asked is refused, and says what is wrong with it."""

import json
from copy import deepcopy

import pytest

from plugrad.rollout.engine import Completion, Prompt, Sampling
from plugrad.rollout.servers.request import requests_for
from plugrad.rollout.servers.response import BadAnswer, ForeignWeights, read_answer
from plugrad.rollout.servers.weight_labels import Labels

LABELS = Labels("run")
[ASKED] = requests_for([Prompt("p", [7], {})], Sampling(2, 3, 1.0, 0), stops=frozenset({2}), vocab_size=10)


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


def read(answer, oldest=3):
    return read_answer(json.dumps(answer).encode(), ASKED, LABELS, oldest)


def test_an_answer_is_read():
    assert read(GOOD) == [
        Completion([4, 2], [-1.0, -0.5], False, [3, 3]),
        Completion([5, 6, 7], [-1.25, -1.5, -1.75], True, [3, 4, 4]),
    ]


def test_completions_are_put_in_order():
    assert read({"choices": GOOD["choices"][::-1]}) == read(GOOD)


def changed(*path, to):
    answer = deepcopy(GOOD)
    place = answer["choices"]
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = to
    return answer


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        ({"choices": GOOD["choices"][:1]}, r"completions \[0\] where \[0, 1\]"),
        ({"choices": [*GOOD["choices"], choice(2, [2], "stop", ("run-3", 0, 1))]}, r"\[0, 1, 2\] where \[0, 1\]"),
        (changed(1, "index", to=0), r"completions \[0, 0\]"),
        (changed(0, "token_ids", to=[]), "token_ids"),
        (changed(0, "token_ids", to=[4, 10]), "the token 10: the vocabulary has 10"),
        (changed(0, "token_ids", to=[-1, 2]), "the token -1"),
        (changed(0, "token_ids", to=[3, 2]), "log-probs are of others"),
        (changed(0, "logprobs", to=None), "logprobs"),
        (changed(0, "logprobs", "content", to=[]), "2 tokens, and its 0 log-probs"),
        (changed(0, "logprobs", "content", 0, "logprob", to=None), "logprob"),
        (changed(0, "logprobs", "content", 0, "logprob", to=float("nan")), "logprob"),
        (changed(0, "logprobs", "content", 0, "logprob", to=-9999.0), "are not numbers"),
        (changed(0, "logprobs", "content", 0, "logprob", to=0.5), "the log-prob 0.5"),
        (changed(0, "finish_reason", to="abort"), None),
        (changed(1, "finish_reason", to="abort"), r"ends \(abort\) after 3 of 3"),
        (changed(0, "weight_versions", to=None), "weight_versions"),
        (changed(0, "weight_versions", to=[]), "says of 0 which weights"),
        (changed(1, "weight_versions", 1, "start", to=2), "does not say of each token once"),
        (changed(1, "weight_versions", 1, "end", to=4), "says of 4"),
        ({"error": "x"}, "choices: Field required"),
        ([], "no answer to what was asked"),
    ],
)
def test_another_answer_is_refused(answer, says):
    if says is None:
        # It ends with a token that ends it, whatever the reason is called.
        assert read(answer) == read(GOOD)
        return
    with pytest.raises(BadAnswer, match=says):
        read(answer)


def test_too_long_and_cut_off_completions_are_refused():
    long = choice(0, [4, 4, 4, 2], "stop", ("run-3", 0, 4))
    with pytest.raises(BadAnswer, match="4 tokens where 3 were the most"):
        read({"choices": [long, GOOD["choices"][1]]})
    goes_on = choice(0, [2, 4], "length", ("run-3", 0, 2))
    with pytest.raises(BadAnswer, match="goes on after a token that ends it"):
        read({"choices": [goes_on, GOOD["choices"][1]]})
    short = choice(0, [4, 4], "length", ("run-3", 0, 2))
    with pytest.raises(BadAnswer, match=r"ends \(length\) after 2 of 3 tokens"):
        read({"choices": [short, GOOD["choices"][1]]})


@pytest.mark.parametrize("content", [b"", b"rubbish", b"\xff\xfe", json.dumps(GOOD).encode()[:-20]])
def test_what_is_not_json_is_refused(content):
    with pytest.raises(BadAnswer, match="no answer to what was asked"):
        read_answer(content, ASKED, LABELS, 3)


@pytest.mark.parametrize("label", ["default", "other-3", "run-unfinished", "run", ""])
def test_weights_of_nobody_knows_whom_are_refused(label):
    with pytest.raises(ForeignWeights, match=f"{label!r}, which this run did not give it"):
        read(changed(0, "weight_versions", 0, "version", to=label))


def test_old_weights_are_refused():
    with pytest.raises(ForeignWeights, match="version 3, where 4 is the run's"):
        read(GOOD, oldest=4)
