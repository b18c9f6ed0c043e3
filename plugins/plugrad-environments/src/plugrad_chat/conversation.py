"""The conversation that the harness leads: messages to the policy, its tool calls to the servers of the task."""

from __future__ import annotations

import json
import ssl
from collections.abc import Mapping
from contextlib import AsyncExitStack
from functools import cache
from typing import Any

import httpx
from verifiers import v1 as vf
from verifiers.v1.dialects.chat import message_to_wire
from verifiers.v1.harnesses.utils.mcp import call_mcp, connect_mcp

ENDED = "rollout_ended"
"""What plugrad's endpoint says of a rollout that has reached a limit."""


class ChatHarness(vf.Harness[vf.HarnessConfig]):
    """Ask the policy, call the tools that it asks for, and end with a reply that asks for none.

    verifiers' own `null` does the same in a process for each rollout, which uv prepares.
    """

    APPENDS_SYSTEM_PROMPT = True
    SUPPORTS_MCP = True
    SUPPORTS_RESUME = True
    EXECUTES_CODE = False
    NEEDS_CONTAINER = False

    async def launch(
        self,
        ctx: vf.ModelContext,
        trace: vf.Trace[Any, Any],
        runtime: vf.Runtime,
        endpoint: str,
        secret: str,
        mcp_urls: dict[str, str],
        data: vf.TaskData,
    ) -> vf.ProgramResult:
        """Lead the conversation to its end."""
        servers = {name: {"url": url, "timeout": self.config.tool_timeout} for name, url in mcp_urls.items()}
        async with AsyncExitStack() as stack:
            tools = await _Tools.of(servers, set(self.config.disabled_tools or ()), stack)
            client = await stack.enter_async_context(httpx.AsyncClient(timeout=None, verify=_trusted()))
            asks = _Asks(client, f"{endpoint}/chat/completions", secret, ctx.model, tools.schemas)
            await _converse(asks, tools, self._beginning(data))
        return vf.ProgramResult(0, "", "")

    def _beginning(self, data: vf.TaskData) -> list[dict[str, Any]]:
        system, prompt = self.resolve_prompt(data)
        messages = [{"role": "system", "content": system}] if system else []
        if isinstance(prompt, str):
            return [*messages, {"role": "user", "content": prompt}]
        return [*messages, *(message_to_wire(message) for message in prompt or ())]


@cache
def _trusted() -> ssl.SSLContext:
    """Return the certificates. To read them takes longer than the rest of a rollout."""
    return httpx.create_ssl_context()


async def _converse(asks: _Asks, tools: _Tools, messages: list[dict[str, Any]]) -> None:
    while (reply := await asks.reply(messages)) is not None:
        messages.append(reply)
        if not reply.get("tool_calls"):
            return
        for call in reply["tool_calls"]:
            told = await tools.answer(call["function"])
            messages.append({"role": "tool", "tool_call_id": call["id"], "name": call["function"]["name"], "content": told})


class _Asks:
    """Asks the policy for its next message."""

    def __init__(self, client: httpx.AsyncClient, url: str, secret: str, model: str, schemas: list[dict[str, Any]]) -> None:
        self._client, self._url, self._model = client, url, model
        self._headers = {"Authorization": f"Bearer {secret}"}
        self._with_tools = {"tools": schemas} if schemas else {}

    async def reply(self, messages: list[dict[str, Any]]) -> dict[str, Any] | None:
        """Return the message, or None if the rollout has reached a limit."""
        body = {"model": self._model, "messages": messages, **self._with_tools}
        answer = await self._client.post(self._url, headers=self._headers, json=body)
        if answer.status_code == httpx.codes.BAD_REQUEST and ENDED in answer.text:
            return None
        answer.raise_for_status()
        message = answer.json()["choices"][0]["message"]
        return {name: value for name, value in message.items() if value is not None}


class _Tools:
    """The tools of a task, behind their servers."""

    def __init__(self, schemas: list[dict[str, Any]], places: Mapping[str, Any], servers: Mapping[str, Any]) -> None:
        self.schemas, self._places, self._servers = schemas, dict(places), dict(servers)

    @classmethod
    async def of(cls, servers: Mapping[str, Any], disabled: set[str], stack: AsyncExitStack) -> _Tools:
        """Connect to the servers."""
        if not servers:
            return cls([], {}, {})
        schemas, places, connected = await connect_mcp({"mcpServers": dict(servers)}, stack)
        kept = [schema for schema in schemas if schema["function"]["name"] not in disabled]
        return cls(kept, {name: place for name, place in places.items() if name not in disabled}, connected)

    async def answer(self, call: Mapping[str, Any]) -> Any:
        """Return what a tool says. What is wrong with a call is told to the policy."""
        name = call["name"]
        if name not in self._places:
            return f"error: there is no tool {name!r}. There are {', '.join(self._places) or 'none'}."
        try:
            arguments = json.loads(call["arguments"] or "{}")
        except (ValueError, RecursionError) as error:
            return f"error: the arguments are no JSON: {error}"
        if not isinstance(arguments, dict):
            return "error: the arguments are no JSON object."
        return await call_mcp(self._servers, self._places, name, arguments)
