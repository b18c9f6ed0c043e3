"""Agents that reach the policy over an OpenAI-compatible address: their rollouts hold the tokens that were sampled."""

import asyncio
import json
import subprocess
import sys
from dataclasses import replace

import httpx
import openai
import pytest

from plugrad.host.environment import BoundEnvironment
from plugrad.rollout.engine import Sampling
from plugrad.rollout.texts import Texts
from plugrad.rollout.transformers_engine import TransformersEngine
from plugrad.rollout.turns.player import PlayLimits
from plugrad.testing import tiny_model
from plugrad.trainer.batch.playing import Playing

QUESTION = {"role": "user", "content": "2+2?"}
TOOL = {
    "type": "function",
    "function": {"name": "add", "description": "", "parameters": {"type": "object", "properties": {}}},
}


class Agents:
    """An environment whose agents run in threads, as those of others do."""

    def __init__(self, act):
        self.act = act

    async def play(self, example, policy):
        return await asyncio.to_thread(self.act, policy.base_url)


@pytest.fixture(scope="module")
def playing(byte_tokenizer):
    """Let agents act with a policy, so many at once."""
    template = (
        "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    )
    tokenizer = byte_tokenizer(chat_template=template)
    model = tiny_model(vocab_size=len(tokenizer))
    texts = Texts(tokenizer, frozenset({tokenizer.eos_token_id}))
    engine = TransformersEngine(model, tokenizer, 64)

    def play(act, *, num=3, texts=texts, **limits):
        bound = {"max_new_tokens": 5, "max_turns": 8, "longest_row": 512, "seconds": 60.0} | limits
        environment = BoundEnvironment("the environment", Agents(act))
        sampling = Sampling(num_completions=num, max_new_tokens=5, temperature=1.0, seed=0)
        playing = Playing(engine, environment, texts, PlayLimits(**bound))
        [group] = playing.sample([{"example_id": 0, "prompt": [QUESTION]}], sampling)
        return group

    play.texts = texts
    return play


def replies_of(rollout):
    return [
        rollout["completion_ids"][turn["start"] : turn["stop"]] for turn in rollout["turns"] if turn["stop"] > turn["start"]
    ]


def test_a_client_of_openai_goes_on_with_the_tokens_that_were_sampled(playing):
    heard = []

    def act(base_url):
        with openai.OpenAI(base_url=base_url, api_key="unused") as client:
            messages = [QUESTION]
            for word in ("no", "really?"):
                answer = client.chat.completions.create(model="policy", messages=messages)
                said = answer.choices[0].message
                heard.append((said.content, answer.usage.completion_tokens, answer.choices[0].finish_reason))
                messages += [said, {"role": "user", "content": word}]
            return float(client.models.list().data[0].id == "policy")

    group = playing(act)
    for rollout in group:
        [segment] = rollout["segments"]
        assert len(replies_of(rollout)) == 2
        shown = playing.texts.visible(segment["ids"])
        assert shown.count("<|im_start|>user") == 2
        assert rollout["reward"] == 1.0
    sampled = {
        (turn["text"], turn["stop"] - turn["start"])
        for rollout in group
        for turn in rollout["turns"]
        if turn["role"] == "assistant"
    }
    assert {(text, num) for text, num, _ in heard} == sampled
    assert {reason for *_, reason in heard} <= {"stop", "length"}


def test_what_an_agent_rewrites_is_another_row(playing):
    def act(base_url):
        with openai.OpenAI(base_url=base_url, api_key="unused") as client:
            client.chat.completions.create(model="policy", messages=[QUESTION])
            changed = {"role": "assistant", "content": "I said something else."}
            client.chat.completions.create(model="policy", messages=[QUESTION, changed, {"role": "user", "content": "so?"}])
        return 0.0

    for rollout in playing(act):
        assert len(rollout["segments"]) == 2
        assert sum(sum(segment["sampled"]) for segment in rollout["segments"]) == len(rollout["completion_ids"])


def test_streams_texts_and_tools(playing):
    def act(base_url):
        with openai.OpenAI(base_url=base_url, api_key="unused") as client:
            stream = client.chat.completions.create(model="policy", messages=[QUESTION], stream=True, tools=[TOOL])
            streamed = "".join(chunk.choices[0].delta.content or "" for chunk in stream)
            text = client.completions.create(model="policy", prompt="2+2=", max_tokens=3)
            more = client.completions.create(model="policy", prompt=f"2+2={text.choices[0].text} and", max_tokens=3)
            return {"reward": float(text.usage.completion_tokens <= 3), "long": float(len(streamed) + len(more.choices))}

    for rollout in playing(act):
        assert rollout["reward"] == 1.0
        assert len(rollout["segments"]) == 2
        assert rollout["metrics"]["turns"] == 3


def test_many_agents_at_once_do_not_hear_each_other(playing):
    def act(base_url):
        name = base_url.split("/")[3][:8]
        with openai.OpenAI(base_url=base_url, api_key="unused") as client:
            client.chat.completions.create(model="policy", messages=[{"role": "user", "content": name}])
        return float(int.from_bytes(name.encode(), "big") % 1009)

    group = playing(act, num=64)
    for rollout in group:
        name = rollout["prompt"].split("user\n")[1][:8]
        assert rollout["reward"] == int.from_bytes(name.encode(), "big") % 1009
    assert len({rollout["prompt"] for rollout in group}) == 64


KILLED = """
import sys, openai
with openai.OpenAI(base_url=sys.argv[1], api_key="unused") as client:
    client.chat.completions.create(model="policy", messages=[{"role": "user", "content": sys.argv[2]}])
    print("one reply", flush=True)
    sys.stdin.read()
"""


def test_among_64_agents_one_is_killed_one_sends_garbage_and_one_streams(playing):
    places = iter(range(64))

    def act(base_url):
        place = next(places)
        messages = [{"role": "user", "content": f"agent {place:02d}"}]
        if place == 0:
            command = [sys.executable, "-c", KILLED, base_url, messages[0]["content"]]
            with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as agent:
                assert agent.stdout.readline() == "one reply\n"
                agent.kill()
            raise RuntimeError(f"the agent ended with {agent.returncode}")
        if place == 1:
            assert httpx.post(base_url + "/chat/completions", content=b"\xff{" * 1000, timeout=60).status_code == 400
        with openai.OpenAI(base_url=base_url, api_key="unused") as client:
            for _ in range(2):
                found = client.chat.completions.create(model="policy", messages=messages, stream=place == 2)
                said = "".join(part.choices[0].delta.content or "" for part in found) if place == 2 else None
                answer = {"role": "assistant", "content": said} if place == 2 else found.choices[0].message
                messages += [answer, {"role": "user", "content": f"still {place:02d}"}]
        return float(place)

    group = playing(act, num=64)
    failed = [rollout for rollout in group if rollout["metrics"]["failed"]]
    assert len(failed) == 1
    assert "the agent ended with -9" in failed[0]["info"]["failed"]
    whole = [rollout for rollout in group if not rollout["metrics"]["failed"]]
    assert sorted(rollout["reward"] for rollout in whole) == list(range(1, 64))
    for rollout in whole:
        [segment] = rollout["segments"]
        place = f"{rollout['reward']:02.0f}"
        shown = playing.texts.visible([id for id, own in zip(segment["ids"], segment["sampled"], strict=True) if not own])
        assert (f"agent {place}" in shown, f"still {place}" in shown) == (True, True)
        assert len(replies_of(rollout)) == 2


@pytest.mark.parametrize(
    ("path", "content", "status", "told"),
    [
        ("/chat/completions", b"{", 400, "not JSON"),
        ("/chat/completions", b"[" * 100_000, 400, "nested too deeply"),
        ("/chat/completions", b"[]", 400, "no JSON object"),
        ("/chat/completions", b"{}", 400, "a list of messages"),
        ("/chat/completions", json.dumps({"messages": [{"role": 1}]}).encode(), 400, "must have a role"),
        ("/chat/completions", json.dumps({"messages": [QUESTION], "n": 2}).encode(), 400, "gets one reply"),
        ("/chat/completions", json.dumps({"messages": [QUESTION], "max_tokens": 0}).encode(), 400, "max_tokens"),
        (
            "/chat/completions",
            json.dumps({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}).encode(),
            400,
            "images are not supported",
        ),
        ("/completions", b"{}", 400, "prompt must be a text"),
        ("/../other/v1/models", b"", 404, ""),
    ],
)
def test_garbage_is_refused_and_the_play_goes_on(playing, path, content, status, told):
    def act(base_url):
        found = httpx.post(base_url + path, content=content)
        assert (found.status_code, told in found.text) == (status, True), found.text
        with openai.OpenAI(base_url=base_url, api_key="unused") as client:
            client.chat.completions.create(model="policy", messages=[QUESTION])
        return 1.0

    assert [len(replies_of(rollout)) for rollout in playing(act, num=1)] == [1]


def test_messages_without_a_chat_template_are_told_to_be_of_the_request(playing, byte_tokenizer):
    told = r"the prompt of a request to policy.base_url is a list of chat messages, but .* has no chat template"

    def act(base_url):
        with openai.OpenAI(base_url=base_url, api_key="unused") as client:
            with pytest.raises(openai.BadRequestError, match=told):
                client.chat.completions.create(model="policy", messages=[QUESTION])
            return float(bool(client.completions.create(model="policy", prompt="2+2?")))

    [rollout] = playing(act, num=1, texts=replace(playing.texts, tokenizer=byte_tokenizer()))
    assert rollout["reward"] == 1


def test_nobody_reaches_the_policy_when_the_play_is_over(playing):
    addresses = []

    def act(base_url):
        addresses.append(base_url)
        if len(addresses) == 2:
            others = httpx.post(addresses[0] + "/chat/completions", json={"messages": [QUESTION]})
            assert others.status_code in (200, 404)
        return 0.0

    playing(act, num=2)
    with pytest.raises(httpx.ConnectError):
        httpx.get(addresses[0] + "/models")


def test_a_rollout_at_its_limit_says_so(playing):
    def act(base_url):
        with openai.OpenAI(base_url=base_url, api_key="unused") as client:
            client.chat.completions.create(model="policy", messages=[QUESTION])
            with pytest.raises(openai.BadRequestError, match="has reached its limit"):
                client.chat.completions.create(model="policy", messages=[{"role": "user", "content": "more"}])
        return 1.0

    [rollout] = playing(act, num=1, max_turns=1)
    assert rollout["reward"] == 1.0
    assert rollout["truncated"]
