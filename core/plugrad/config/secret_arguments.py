"""Refuse secrets in a run file: it is recorded in the run folder and beside the model, and arguments show in `ps`."""

from __future__ import annotations

import re
from collections.abc import Iterable

from pydantic_core import PydanticCustomError

SECRET_NAME = re.compile(r"(^|[-_.])(api[-_]?keys?|token|password|passwd|secret|credentials?)$", re.IGNORECASE)
SECRET_VALUE = re.compile(r"\bhf_[A-Za-z0-9]{16,}|\bsk-[A-Za-z0-9_-]{16,}|://[^/\s:@]+:[^/\s@]+@|\bBearer\s+\S{8,}")
SECRET = "secret"
"""The type of the error."""
API_KEY = "--api-key"
SHORTEST = len("--ap")
"""The shortest beginning of an option that vLLM takes for --api-key."""


def refuse_secret_arguments(arguments: Iterable[str]) -> None:
    """Check that no argument of a command is a secret. The message does not repeat it.

    Raises:
        ValueError: one is.
    """
    for argument in arguments:
        option = argument.partition("=")[0]
        name = option.replace("_", "-").lower()
        if name.startswith("--") and len(name) >= SHORTEST and API_KEY.startswith(name):
            raise _refusal(option, "put the key in the environment variable that api_key_env names")
        refuse_secret(option, argument)


def refuse_secret(name: str, value: object) -> None:
    """Check that a named value is no secret.

    Raises:
        ValueError: it is one, by its name or by its form.
    """
    if (name.startswith("--") or not name.startswith("-")) and SECRET_NAME.search(name.strip()):
        raise _refusal(name, _instead(name))
    if SECRET_VALUE.search(str(value)):
        raise _refusal("an argument", _instead(str(value)))


def _instead(hint: str) -> str:
    if re.search(r"api[-_]?key", hint, re.I):
        return "put the key in the environment variable that api_key_env names"
    return "set it in the environment instead (HF_TOKEN for the Hugging Face hub), which servers and vLLM inherit"


def secret(message: str) -> PydanticCustomError:
    """Return an error of a table that does not repeat the value."""
    return PydanticCustomError(SECRET, "{message}", {"message": message})


def _refusal(what: str, instead: str) -> PydanticCustomError:
    return secret(f"{what[:60]} gives a secret, and a run file is recorded with the run and with its model: {instead}")
