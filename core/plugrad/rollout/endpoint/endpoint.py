"""The endpoint: a server on the loopback address, in the event loop of the plays."""

from __future__ import annotations

import asyncio
import secrets
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from plugrad.contracts.turns import PlayEnded
from plugrad.errors import PlugradError
from plugrad.json_text import parse_json
from plugrad.rollout.endpoint.conversations import Conversations
from plugrad.rollout.endpoint.wire import (
    Asked,
    RefusedRequestError,
    chat_answer,
    error_answer,
    message_of,
    models_answer,
    read_messages,
    streamed,
    text_answer,
)
from plugrad.rollout.packages import require
from plugrad.rollout.turns.player import PolicyPlayer

HOST = "127.0.0.1"
BACKLOG = 1024
MOST_BYTES = 32 * 2**20
"""Of a request."""


class Endpoint:
    """Serves the policy to the agents of a batch. Each play has an address of its own, which nobody can guess."""

    def __init__(self) -> None:
        """Prepare. Nothing listens before the first address is asked for."""
        self._plays: dict[str, Conversations] = {}
        self._server: Any = None
        self._serving: asyncio.Task[None] | None = None
        self._port = 0

    def address_of(self, player: PolicyPlayer) -> str:
        """Return the address of a play, for a client's `base_url`. Call it in the event loop of the plays."""
        if self._server is None:
            self._listen()
        key = secrets.token_urlsafe(24)
        self._plays[key] = Conversations(player)
        player.at_end.append(lambda: self._plays.pop(key, None))
        return f"http://{HOST}:{self._port}/{key}/v1"

    async def close(self) -> None:
        """Stop listening, and drop what is open."""
        if self._server is not None and self._serving is not None:
            self._plays.clear()
            self._server.should_exit = self._server.force_exit = True
            await self._serving

    def _listen(self) -> None:
        require("agent", ["uvicorn", "starlette"])
        import uvicorn

        class Server(uvicorn.Server):
            @contextmanager
            def capture_signals(self) -> Iterator[None]:
                """Leave signals to the run."""
                yield

        opened = socket.create_server((HOST, 0), backlog=BACKLOG)
        self._port = opened.getsockname()[1]
        config = uvicorn.Config(self._application(), log_config=None, lifespan="off", access_log=False)
        self._server = Server(config)
        self._serving = asyncio.get_running_loop().create_task(self._server.serve(sockets=[opened]))

    def _application(self) -> Any:
        from starlette.applications import Starlette
        from starlette.routing import Route

        return Starlette(
            routes=[
                Route("/{key}/v1/models", self._models, methods=["GET"]),
                Route("/{key}/v1/chat/completions", self._chat, methods=["POST"]),
                Route("/{key}/v1/completions", self._completions, methods=["POST"]),
            ]
        )

    async def _models(self, request: Any) -> Any:
        from starlette.responses import JSONResponse

        known = request.path_params["key"] in self._plays
        return JSONResponse(models_answer() if known else _OVER, status_code=200 if known else 404)

    async def _chat(self, request: Any) -> Any:
        async def reply(conversations: Conversations, body: Mapping[str, Any], asked: Asked) -> dict[str, Any]:
            tools = body.get("tools") or []
            known = conversations.of_messages(read_messages(body), tools)
            given = await known.chat.reply(max_new_tokens=asked.max_new_tokens, stop=asked.stop)
            message = message_of(given)
            known.messages.append(message)
            return chat_answer(message, given, known.chat.num_prompt_tokens)

        return await self._answered(request, reply)

    async def _completions(self, request: Any) -> Any:
        async def reply(conversations: Conversations, body: Mapping[str, Any], asked: Asked) -> dict[str, Any]:
            prompt = body.get("prompt")
            if not isinstance(prompt, str) or not prompt:
                raise RefusedRequestError("prompt must be a text that is not empty.")
            known = conversations.of_text(prompt)
            given = await known.chat.reply(max_new_tokens=asked.max_new_tokens, stop=asked.stop)
            known.text = f"{prompt}{given.text}"
            return text_answer(given, known.chat.num_prompt_tokens)

        return await self._answered(request, reply)

    async def _answered(self, request: Any, reply: Any) -> Any:
        from starlette.responses import JSONResponse, Response

        conversations = self._plays.get(request.path_params["key"])
        if conversations is None:
            return JSONResponse(_OVER, status_code=404)
        try:
            body = await _read(request)
            asked = Asked.of(body)
            answer = await reply(conversations, body, asked)
        except RefusedRequestError as error:
            return JSONResponse(error_answer(str(error)), status_code=400)
        except PlayEnded:
            return JSONResponse(error_answer("the rollout has reached its limit.", "rollout_ended"), status_code=400)
        except PlugradError as error:
            return JSONResponse(error_answer(str(error)), status_code=400)
        if asked.streams:
            return Response("".join(streamed(answer)), media_type="text/event-stream")
        return JSONResponse(answer)


_OVER = error_answer("there is no such play, or it is over.", "not_found")


async def _read(request: Any) -> dict[str, Any]:
    parts, size = [], 0
    async for part in request.stream():
        size += len(part)
        if size > MOST_BYTES:
            raise RefusedRequestError(f"the request has more than {MOST_BYTES:,} bytes.")
        parts.append(part)
    try:
        body = parse_json(b"".join(parts), "the request")
    except ValueError as error:
        raise RefusedRequestError(str(error)) from None
    if not isinstance(body, dict):
        raise RefusedRequestError("the request is no JSON object.")
    return body
