"""Check before the first rollout that each server serves the run's model and lets the run control it."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from packaging.version import Version

from plugrad.config.tables.server_table import ServerTable
from plugrad.errors import EngineError
from plugrad.paths import read_text
from plugrad.rollout.engine_model import EngineModel
from plugrad.rollout.servers.api_key import access_denied
from plugrad.rollout.servers.command import server_commands
from plugrad.rollout.servers.reachability import FROM_SCRATCH
from plugrad.rollout.servers.server import DENIED_STATUSES, Server, ServerError, excerpt
from plugrad.shown import printable, shown

logger = logging.getLogger(__name__)

MIN_VERSION = "0.32"
"""Older versions do not report which weights sampled each token."""
EVERY_PLUGIN = "*"
PROBE_TEXT = "The quick brown fox: 12 + 345 = 357?\n\tdef f(x): return x**2  # naïve, 東京, 🙂 <b>\\frac{1}{2}</b>"
SHAPE_FIELDS = ("architectures", "model_type", "hidden_size", "num_hidden_layers", "num_attention_heads", "vocab_size")
"""The configuration fields that two models must share to load each other's weights."""


@dataclass(frozen=True)
class Requirements:
    """What a server must serve: the run's own model."""

    model: EngineModel
    table: ServerTable

    @property
    def model_name(self) -> str:
        """The name of the run's model in messages."""
        return self.model.name or "built from scratch"


@dataclass(frozen=True)
class ServerInfo:
    """What a server reports about itself."""

    transfer_backend: str | None
    """The backend of vLLM's weight transfer that it was started with."""
    vllm_plugins: tuple[str, ...]
    """vLLM's own plugins that it may load: their names, or `EVERY_PLUGIN`."""


def check_server(server: Server, required: Requirements, *, started_by_run: bool = False) -> ServerInfo:
    """Check that a server can complete the run's prompts.

    Args:
        server: the server.
        required: what it must serve.
        started_by_run: whether the run itself has started it, for this very model.

    Raises:
        EngineError: it cannot. The message says what is required and what was found.
    """
    try:
        server.get("/health")
        _check_version(server)
        served = server.get("/v1/models")["data"][0]
        if not started_by_run:
            _check_model(str(served["root"]), server, required)
        _check_max_length(served["max_model_len"], server, required)
        _check_routes(server, required)
        _check_tokenizer(str(served["root"]), server, required)
        return _check_configuration(server, required)
    except ServerError as error:
        if error.status in DENIED_STATUSES:
            raise access_denied(server.address, str(error), required.table) from error
        raise EngineError(
            f"the server {server.address} cannot be used: {error}. {_how_to_start(server, required)}"
        ) from error
    except (LookupError, TypeError, AttributeError) as error:
        raise EngineError(
            f"the service at {server.address} is not a vLLM server {MIN_VERSION} or newer: its responses have another form "
            f"({repr(error)[:200]}). Check rollout.server.addresses."
        ) from error


def _check_version(server: Server) -> None:
    version = str(server.get("/version")["version"])
    try:
        is_old = Version(Version(version).base_version) < Version(MIN_VERSION)
    except ValueError:
        logger.warning(
            f"the server {server.address} runs vLLM {excerpt(version)}, and it is unclear whether that is {MIN_VERSION} or "
            "newer."
        )
        return
    if is_old:
        raise EngineError(
            f"the server {server.address} runs vLLM {printable(version)}, and plugrad needs {MIN_VERSION} or newer: older "
            "versions do not report which weights sampled a token. Upgrade vLLM there."
        )


def _check_model(root: str, server: Server, required: Requirements) -> None:
    name = required.model.name
    if name is None:
        _check_shape(root, server, required)
    elif root != name and not _is_same_folder(root, name):
        raise EngineError(
            f"the server {server.address} serves the model {shown(root)}, and this run trains {name!r}. "
            f"{_how_to_start(server, required)}"
        )


def _check_shape(root: str, server: Server, required: Requirements) -> None:
    """Compare a model built from scratch with the server's, if the folder of the server's model is readable here."""
    try:
        theirs = json.loads(read_text(Path(root) / "config.json"))
    except (OSError, ValueError, RecursionError):
        logger.warning(
            f"the server {server.address} serves {shown(root)}, whose config.json is not readable here. If it is not this "
            "run's model, the first weight sync fails, or the first comparison of log-probs."
        )
        return
    ours = required.model.config.to_dict()
    for name in SHAPE_FIELDS:
        if name in theirs and theirs[name] != ours.get(name):
            raise EngineError(
                f"the server {server.address} serves the model {shown(root)}, whose {name} is {shown(theirs[name])}; this "
                f"run's model ({required.model_name}) has {ours.get(name)!r}. {_how_to_start(server, required)}"
            )


def _is_same_folder(one: str, other: str) -> bool:
    # Not Path.is_dir(): it raises where a text is too long for a path.
    if not (os.path.isdir(one) and os.path.isdir(other)):
        return False
    return Path(one).resolve() == Path(other).resolve()


def _check_max_length(found: int, server: Server, required: Requirements) -> None:
    if found < required.model.max_tokens:
        raise EngineError(
            f"the server {server.address} accepts sequences of {found} tokens, and this run's have up to "
            f"{required.model.max_tokens}. Start it with --max-model-len {required.model.max_tokens}, or lower "
            "rollout.max_new_tokens."
        )


def _check_routes(server: Server, required: Requirements) -> None:
    """Check that the server has the routes that update its weights, and those that take and return tokens."""
    try:
        server.get("/is_paused")
    except ServerError as error:
        if error.status != 404:
            raise
        raise EngineError(
            f"the server {server.address} cannot receive weights: it was started without VLLM_SERVER_DEV_MODE=1. "
            f"{_how_to_start(server, required)}"
        ) from error
    try:
        server.post("/inference/v1/generate", {})
    except ServerError as error:
        if error.status in (400, 422):
            return
        if error.status == 404 or (error.status == 403 and "--enable-scale-out" in str(error)):
            raise EngineError(
                f"the server {server.address} does not accept token ids: it was started without --enable-scale-out. "
                f"{_how_to_start(server, required)}"
            ) from error
        raise


def _check_tokenizer(root: str, server: Server, required: Requirements) -> None:
    ours = list(required.model.tokenizer(PROBE_TEXT, add_special_tokens=False)["input_ids"])
    try:
        theirs = server.post("/tokenize", {"prompt": PROBE_TEXT, "add_special_tokens": False})["tokens"]
    except ServerError as error:
        if error.status not in (404, 501):
            raise
        logger.warning(f"the server {server.address} has no tokenizer to compare with this run's.")
        return
    if theirs != ours:
        raise EngineError(
            f"the tokenizer of the server {server.address} (model {shown(root)}) is not this run's (model "
            f"{required.model_name!r}): for the same text it returns {_first_difference(theirs, ours)}. "
            f"{_how_to_start(server, required)}"
        )


def _first_difference(theirs: list[int], ours: list[int]) -> str:
    index = next((i for i, pair in enumerate(zip(theirs, ours, strict=False)) if pair[0] != pair[1]), None)
    if index is None:
        return f"{len(theirs)} tokens where the run's returns {len(ours)}"
    return f"the token {shown(theirs[index])} where the run's returns {ours[index]}"


def _check_configuration(server: Server, required: Requirements) -> ServerInfo:
    info = server.get("/server_info", config_format="json")
    model, transfer = info["vllm_config"]["model_config"], info["vllm_config"].get("weight_transfer_config")
    if model["logprobs_mode"] != "processed_logprobs":
        raise EngineError(
            f"the server {server.address} returns {printable(model['logprobs_mode'])}: not the log-probs of the "
            "distribution that it samples from. It needs --logprobs-mode processed_logprobs. "
            f"{_how_to_start(server, required)}"
        )
    dtype = str(model["dtype"]).removeprefix("torch.")
    if dtype != (ours := required.model.dtype_name):
        logger.warning(
            f"the server {server.address} computes in {dtype}, and this run in {ours}: their log-probs differ by rounding."
        )
    return ServerInfo(_backend_of(transfer), _plugins_of(info["vllm_env"].get("VLLM_PLUGINS"), server))


def _plugins_of(listed: Sequence[str] | None, server: Server) -> tuple[str, ...]:
    if listed is None:
        logger.warning(
            f"the server {server.address} was started without VLLM_PLUGINS, so every installed vLLM plugin runs inside it. "
            "Start it with the variable set to the plugins that you want, or to an empty string."
        )
        return (EVERY_PLUGIN,)
    return tuple(name for name in listed if name)


def _backend_of(transfer: Mapping[str, Any] | None) -> str | None:
    return None if transfer is None else str(transfer["backend"])


def _how_to_start(server: Server, required: Requirements) -> str:
    """Return how to start a server that this run can use."""
    if required.model.name is None:
        return FROM_SCRATCH
    [command] = server_commands(
        [server.address],
        required.model.name,
        # Without the key, which may be the problem.
        required.table.model_copy(update={"api_key_env": None}),
        dtype=required.model.dtype_name,
        max_model_len=required.model.max_tokens,
        is_cpu=False,
        trust_remote_code=required.model.trust_remote_code,
    )
    return f"Start it with `plugrad serve`, or with:\n    {command}"
