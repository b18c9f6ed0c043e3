"""Refuse secrets in a run file: it is recorded in the run folder and beside the model, and arguments show in `ps`."""

from __future__ import annotations

import re
import shlex
from typing import Any

from pydantic_core import PydanticCustomError

from plugrad.secret_texts import find_secret, find_secret_argument
from plugrad.shown import printable

SECRET = "secret"
"""The type of the error."""
API_KEY = "--api-key"
SHORTEST = len("--ap")
"""The shortest beginning of an option that vLLM takes for --api-key."""
IN_ARGUMENTS = "set it in the environment instead (HF_TOKEN for the Hugging Face hub), which servers and vLLM inherit"
OF_SERVERS = "put the key in the environment variable that api_key_env names"


def refuse_secret_arguments(arguments: Any) -> None:
    """Check that no argument of a command is a secret. The message does not repeat it.

    Args:
        arguments: a list of texts; one text is split, and what is neither is left to others.

    Raises:
        ValueError: one is.
    """
    listed = [argument for argument in _listed(arguments) if isinstance(argument, str)]
    for option in (argument.partition("=")[0] for argument in listed):
        name = option.replace("_", "-").lower()
        if name.startswith("--") and len(name) >= SHORTEST and API_KEY.startswith(name):
            raise _refusal(option, OF_SERVERS)
    found = find_secret_argument(listed)
    if found is not None:
        raise _refusal(found or "an argument", OF_SERVERS if re.search(r"api[-_]?key", found, re.I) else IN_ARGUMENTS)


def refuse_secret(name: str, value: Any, instead: str) -> None:
    """Check that a named value of a run file is no secret and holds none.

    Args:
        instead: what to do with it.

    Raises:
        ValueError: it is one, by its name or by its form.
    """
    found = find_secret(name, value)
    if found is not None:
        raise _refusal(found, instead)


def _listed(arguments: Any) -> list[Any]:
    if not isinstance(arguments, str):
        return arguments if isinstance(arguments, list) else []
    try:
        return shlex.split(arguments)
    except ValueError:
        return arguments.split()


def _refusal(what: str, instead: str) -> PydanticCustomError:
    message = f"{printable(what, 60)} gives a secret, and a run file is recorded with the run and with its model: {instead}"
    return PydanticCustomError(SECRET, "{message}", {"message": message})
