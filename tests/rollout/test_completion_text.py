"""The text of a completion, and where a stop string ends it."""

import pytest

from plugrad.rollout.engine import Completion
from plugrad.rollout.texts import Texts


@pytest.fixture(scope="module")
def tokenizer(byte_tokenizer):
    return byte_tokenizer(special=["<tool_call>", "</tool_call>"])


def sampled(tokenizer, text, *, truncated=True):
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    return Completion(ids, [-0.5 * index for index in range(len(ids))], truncated, list(range(len(ids))))


@pytest.mark.parametrize(
    ("text", "kept", "skipped"),
    [
        ("<tool_call>f()</tool_call></s>", "<tool_call>f()</tool_call>", "f()"),
        ("<tool_call>f()</tool_call>", "<tool_call>f()</tool_call>", "f()"),
        ("4<|im_end|>", "4", "4"),
        ("4<pad></s><pad><pad>", "4", "4"),
        ("4<pad>2</s>", "4<pad>2", "42"),
        ("</s>", "", ""),
        ("<|im_start|>a . b !</s>", "<|im_start|>a . b !", "a . b !"),
    ],
)
def test_the_environment_sees_what_the_model_wrote(tokenizer, text, kept, skipped):
    completion, ends = sampled(tokenizer, text), frozenset(tokenizer.convert_tokens_to_ids(["</s>", "<|im_end|>"]))
    assert Texts(tokenizer, ends).completion(completion) == kept
    assert Texts(tokenizer, ends, skip_special_tokens=True).completion(completion) == skipped


@pytest.mark.parametrize(
    ("text", "stop", "kept"),
    [
        ("<answer>4</answer> and more", ["</answer>"], "<answer>4</answer>"),
        ("one\n\ntwo\n\n", ["\n\n", "two"], "one\n\n"),
        ("f()</tool_call></tool_call>", ["</tool_call>"], "f()</tool_call>"),
        ("aaab", ["aab"], "aaab"),
        ("é.", ["é"], "é"),
    ],
)
def test_a_stop_string_ends_a_completion_with_its_own_tokens(tokenizer, text, stop, kept):
    before = sampled(tokenizer, text)
    after = Texts(tokenizer, stop=stop).cut(before)
    length = len(after.ids)
    assert tokenizer.decode(after.ids) == kept
    assert not after.truncated
    assert (after.ids, after.logprobs, after.policy_versions) == (
        before.ids[:length],
        before.logprobs[:length],
        before.policy_versions[:length],
    )


@pytest.mark.parametrize("stop", [[], ["</answer>"]])
def test_without_a_stop_string_a_completion_stays(tokenizer, stop):
    completion = sampled(tokenizer, "4, I think")
    assert Texts(tokenizer, stop=stop).cut(completion) is completion


def test_a_replayed_completion_stays_whole(tokenizer):
    ids = tokenizer("4</answer>!", add_special_tokens=False)["input_ids"]
    replayed = Completion(ids, None, truncated=False, policy_versions=[0] * len(ids))
    assert Texts(tokenizer, stop=["</answer>"]).cut(replayed) is replayed
