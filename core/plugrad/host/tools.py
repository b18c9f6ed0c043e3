"""Tools: plain Python functions that the policy calls."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from plugrad.contracts.turns import ToolCall
from plugrad.errors import ContractError
from plugrad.shown import text_of

Tool = Callable[..., Any]


@dataclass(frozen=True)
class Tools:
    """The tools of a conversation."""

    functions: Mapping[str, Tool]
    schemas: Sequence[dict[str, Any]]
    """As a chat template gets them."""

    @classmethod
    def of(cls, functions: Sequence[Tool]) -> Tools:
        """Make schemas of functions, which Transformers reads from their annotations and docstrings.

        Raises:
            ContractError: a function has no docstring, or an argument no annotation or description.
        """
        if not functions:
            return cls({}, [])
        # Transformers is large, and the host works without it.
        from transformers.utils.chat_template_utils import get_json_schema

        schemas = []
        for function in functions:
            try:
                schemas.append(get_json_schema(function))
            except Exception as error:
                name = getattr(function, "__name__", text_of(function))
                raise ContractError(
                    f"the tool {name} cannot be described to a model: {error} A tool is a function with annotated arguments "
                    "and a docstring with a line for each under 'Args:'."
                ) from error
        return cls({function.__name__: function for function in functions}, schemas)

    async def answer(self, call: ToolCall) -> tuple[str, bool]:
        """Call a tool; return what the policy is told, and whether it worked."""
        if call.error is not None:
            return f"error: {call.error}", False
        function = self.functions.get(call.name)
        if function is None:
            known = ", ".join(self.functions) or "none"
            return f"error: there is no tool {call.name!r}. The tools: {known}", False
        try:
            inspect.signature(function).bind(**call.arguments)
        except TypeError as error:
            return f"error: {call.name}: {error}", False
        try:
            found = function(**call.arguments)
            found = await found if inspect.isawaitable(found) else found
        # What a policy makes of a tool is its own doing: it is told, and may do better.
        except Exception as error:
            return f"error: {type(error).__name__}: {error}", False
        return found if isinstance(found, str) else _as_text(found), True


def _as_text(value: object) -> str:
    try:
        return json.dumps(value, ensure_ascii=False)
    except (TypeError, ValueError):
        return text_of(value)
