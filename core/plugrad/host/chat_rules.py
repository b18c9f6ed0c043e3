"""What an environment may write into a conversation: the same for the policy and for one that is made up."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from plugrad.contracts.environment import finite_number
from plugrad.errors import ContractError, DataError
from plugrad.shown import shown

REPLY = "assistant"
"""The role of the policy."""


def check_added(role: object, content: object) -> None:
    """Check a message of the environment.

    Raises:
        ContractError: its content is not text, or it would be the policy's.
    """
    if not isinstance(role, str) or not isinstance(content, str):
        raise ContractError(
            f"chat.add({shown(role)}, {shown(content)}): role and content of a message are strings. Images are not "
            "supported."
        )
    if role == REPLY:
        raise ContractError(
            f"chat.add({REPLY!r}, ...): only the policy writes as the {REPLY}, in chat.reply(). Earlier messages "
            "belong into policy.chat(...)."
        )


def check_text(messages: Iterable[Any], owner: str) -> None:
    """Check that messages are text: content as a list has parts, which may be images.

    Raises:
        DataError: one of them is an image, a sound or the like.
    """
    for message in messages:
        content = message.get("content") if isinstance(message, Mapping) else None
        parts = content if isinstance(content, list | tuple) else ()
        other = next((part for part in parts if not isinstance(part, Mapping) or part.get("type", "text") != "text"), None)
        if other is not None:
            raise DataError(
                f"{owner} has a message with the part {shown(other)}: plugrad trains on text alone. Images, sounds and "
                "videos are not supported. Describe them in text, or leave the example out."
            )


def check_waits(*, is_answered: bool) -> None:
    """Check that there is something to reply to.

    Raises:
        ContractError: the last message is a whole reply.
    """
    if is_answered:
        raise ContractError(
            "chat.reply() was called twice with nothing in between, and the first reply had ended. Add a message first: "
            'chat.add("user", ...).'
        )


def checked_reward(value: object, *, has_reply: bool) -> float:
    """Return the reward of a reply.

    Raises:
        ContractError: it is no finite number, or there is no reply yet.
    """
    number = finite_number(value)
    if number is None or not has_reply:
        wrong = "there is no reply yet" if not has_reply else f"{shown(value)} is no finite number"
        raise ContractError(f"chat.reward(...): {wrong}. Call it after a reply, with a number.")
    return number
