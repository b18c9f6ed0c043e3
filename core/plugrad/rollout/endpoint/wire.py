"""Requests and answers as OpenAI's API has them (platform.openai.com/docs/api-reference)."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

from plugrad.contracts.turns import Reply
from plugrad.shown import shown

MODEL = "policy"


class RefusedRequestError(Exception):
    """A request that the endpoint does not take. Says why."""


@dataclass(frozen=True)
class Asked:
    """What a request asks for, beside its messages."""

    max_new_tokens: int | None
    stop: Sequence[str]
    streams: bool

    @classmethod
    def of(cls, body: Mapping[str, Any]) -> Asked:
        """Read the options of a request.

        What would sample from another distribution than the one that is trained is refused, but for `temperature` and the
        like, which clients send without being asked: the run's are used.

        Raises:
            RefusedRequestError: it asks for several choices, or for a format of its own.
        """
        if body.get("n") not in (None, 1):
            raise RefusedRequestError(f"n = {shown(body['n'])}: a request gets one reply. Send several requests.")
        if (body.get("response_format") or {"type": "text"}) != {"type": "text"}:
            raise RefusedRequestError("response_format: replies are sampled freely, and not forced into a format.")
        if body.get("tool_choice") not in (None, "auto", "none"):
            raise RefusedRequestError("tool_choice: the policy chooses by itself.")
        stop = body.get("stop") or []
        most = body.get("max_completion_tokens", body.get("max_tokens"))
        if most is not None and (not isinstance(most, int) or most < 1):
            raise RefusedRequestError(f"max_tokens = {shown(most)}: it must be a whole number above 0.")
        return cls(most, [stop] if isinstance(stop, str) else list(stop), bool(body.get("stream")))


def read_messages(body: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the messages of a request, with their parts of text joined.

    Raises:
        RefusedRequestError: there are none, or one is not text.
    """
    messages = body.get("messages")
    if not isinstance(messages, list) or not messages or not all(isinstance(each, dict) for each in messages):
        raise RefusedRequestError(f"messages is {shown(messages)}: it must be a list of messages.")
    return [_message(message) for message in messages]


def _message(message: Mapping[str, Any]) -> dict[str, Any]:
    content = message.get("content")
    if isinstance(content, list):
        other = next((part for part in content if not isinstance(part, dict) or part.get("type") != "text"), None)
        if other is not None:
            raise RefusedRequestError(f"a message has the part {shown(other)}: messages are text; images are not supported.")
        content = "".join(str(part["text"]) for part in content)
    if not isinstance(message.get("role"), str) or not isinstance(content, str | None):
        raise RefusedRequestError(f"a message is {shown(message)}: it must have a role, and text as content.")
    kept = {name: value for name, value in message.items() if value is not None}
    return {**kept, "role": message["role"], "content": content}


def message_of(reply: Reply) -> dict[str, Any]:
    """Return a reply as a message. Where it uses tools, its whole text stays the content, so that no token is lost."""
    if not reply.tool_calls:
        return {"role": "assistant", "content": reply.text}
    calls = [
        {
            "id": f"call_{uuid4().hex[:16]}",
            "type": "function",
            "function": {"name": call.name, "arguments": json.dumps(dict(call.arguments))},
        }
        for call in reply.tool_calls
        if call.error is None
    ]
    return {"role": "assistant", "content": reply.text, **({"tool_calls": calls} if calls else {})}


def chat_answer(message: Mapping[str, Any], reply: Reply, num_prompt: int) -> dict[str, Any]:
    """Return the answer to a request for a message."""
    reason = "length" if reply.truncated else "tool_calls" if "tool_calls" in message else "stop"
    choice = {"index": 0, "message": dict(message), "finish_reason": reason, "logprobs": None}
    return _answer("chat.completion", choice, reply, num_prompt)


def text_answer(reply: Reply, num_prompt: int) -> dict[str, Any]:
    """Return the answer to a request for a text."""
    reason = "length" if reply.truncated else "stop"
    choice = {"index": 0, "text": reply.text, "finish_reason": reason, "logprobs": None}
    return _answer("text_completion", choice, reply, num_prompt)


def streamed(answer: Mapping[str, Any]) -> Iterator[str]:
    """Yield an answer as the events of a stream: the whole reply, and its end."""
    [choice] = answer["choices"]
    common = {name: answer[name] for name in ("id", "created", "model")}
    if answer["object"] == "text_completion":
        events = [{**common, "object": "text_completion", "choices": [choice]}]
    else:
        delta = dict(choice["message"])
        if "tool_calls" in delta:
            delta["tool_calls"] = [{"index": place, **call} for place, call in enumerate(delta["tool_calls"])]
        parts = [(delta, None), ({}, choice["finish_reason"])]
        events = [
            {**common, "object": "chat.completion.chunk", "choices": [{"index": 0, "delta": part, "finish_reason": reason}]}
            for part, reason in parts
        ]
    for event in events:
        yield f"data: {json.dumps(event)}\n\n"
    yield "data: [DONE]\n\n"


def error_answer(message: str, kind: str = "invalid_request_error") -> dict[str, Any]:
    """Return an error as clients read it."""
    return {"error": {"message": message, "type": kind, "param": None, "code": None}}


def models_answer() -> dict[str, Any]:
    """Return the list of models: the policy."""
    return {"object": "list", "data": [{"id": MODEL, "object": "model", "created": 0, "owned_by": "plugrad"}]}


def _answer(kind: str, choice: Mapping[str, Any], reply: Reply, num_prompt: int) -> dict[str, Any]:
    return {
        "id": f"reply-{uuid4().hex}",
        "object": kind,
        "created": int(time.time()),
        "model": MODEL,
        "choices": [choice],
        "usage": {
            "prompt_tokens": num_prompt,
            "completion_tokens": reply.num_tokens,
            "total_tokens": num_prompt + reply.num_tokens,
        },
    }
