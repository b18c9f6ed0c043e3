"""What is checked of each server before the first rollout: that it is the run's model, and lets the run direct it."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from packaging.version import InvalidVersion, Version

from plugrad.config.tables.server_table import ServerTable
from plugrad.errors import EngineError
from plugrad.rollout.engine_model import EngineModel
from plugrad.rollout.servers.api_key import denied
from plugrad.rollout.servers.command import server_commands
from plugrad.rollout.servers.reachability import FROM_SCRATCH
from plugrad.rollout.servers.server import DENIED, Server, ServerError

logger = logging.getLogger(__name__)

OLDEST = "0.32"
"""Older ones do not say of each token which weights sampled it."""
EVERY_PLUGIN = "*"
PROBE = "The quick brown fox: 12 + 345 = 357?\n\tdef f(x): return x**2  # naïve, 東京, 🙂 <b>\\frac{1}{2}</b>"
SHAPE = ("architectures", "model_type", "hidden_size", "num_hidden_layers", "num_attention_heads", "vocab_size")
"""What two models must have in common to take each other's weights."""


@dataclass(frozen=True)
class Expected:
    """The run's own model, which a server must have."""

    model: EngineModel
    table: ServerTable

    @property
    def name(self) -> str:
        """What the run's model is called."""
        return self.model.name or "built from scratch"


@dataclass(frozen=True)
class Found:
    """What a server says of itself."""

    transfer: str | None
    """The backend of vLLM's weight transfer that it was started with."""
    plugins: tuple[str, ...]
    """Of vLLM's own, that it may load: their names, or `EVERY_PLUGIN`."""


def check_server(server: Server, expected: Expected, *, is_ours: bool = False) -> Found:
    """See that a server can complete the run's prompts.

    Args:
        server: which one.
        expected: what it must have.
        is_ours: plugrad has started it, for this very model.

    Raises:
        EngineError: it cannot, with what is expected and what was found.
    """
    try:
        server.get("/health")
        _check_version(server)
        served = server.get("/v1/models")["data"][0]
        if not is_ours:
            _check_model(str(served["root"]), server, expected)
        _check_length(served["max_model_len"], server, expected)
        _check_directed(server, str(served["root"]), expected)
        _check_tokenizer(str(served["root"]), server, expected)
        return _check_configuration(server, expected)
    except ServerError as error:
        if error.status in DENIED:
            raise denied(server.address, str(error), expected.table) from error
        raise EngineError(f"the server {server.address} cannot be used: {error}. {_starting(server, expected)}") from error
    except (KeyError, IndexError, TypeError) as error:
        raise EngineError(
            f"what listens at {server.address} is no vLLM server {OLDEST} or newer: it answers otherwise ({error!r})."
        ) from error


def _check_version(server: Server) -> None:
    version = str(server.get("/version")["version"])
    try:
        is_old = Version(Version(version).base_version) < Version(OLDEST)
    except InvalidVersion:
        logger.warning(
            f"the server {server.address} has vLLM {version!r}: whether that is {OLDEST} or newer cannot be told."
        )
        return
    if is_old:
        raise EngineError(
            f"the server {server.address} has vLLM {version}, and {OLDEST} or newer is needed: an older one does not say "
            "which weights sampled a token."
        )


def _check_model(root: str, server: Server, expected: Expected) -> None:
    asked = expected.model.name
    if asked is None:
        _check_shape(root, server, expected)
    elif root != asked and not _is_same_folder(root, asked):
        raise EngineError(
            f"the server {server.address} serves the model {root!r}, and this run trains {asked!r}. "
            f"{_starting(server, expected)}"
        )


def _check_shape(root: str, server: Server, expected: Expected) -> None:
    """Compare a model that was built from scratch with the one of a server, if its folder can be read here."""
    try:
        theirs = json.loads((Path(root) / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        logger.warning(
            f"the server {server.address} serves {root!r}, whose config.json cannot be read here: whether it is this run's "
            "model shows when it is given the weights, and when log-probs are compared."
        )
        return
    ours = expected.model.config.to_dict()
    for name in SHAPE:
        if name in theirs and theirs[name] != ours.get(name):
            raise EngineError(
                f"the server {server.address} serves the model {root!r}, whose {name} is {theirs[name]!r}; this run's model "
                f"({expected.name}) has {ours.get(name)!r}. {_starting(server, expected)}"
            )


def _is_same_folder(one: str, other: str) -> bool:
    first, second = Path(one), Path(other)
    return first.is_dir() and second.is_dir() and first.resolve() == second.resolve()


def _check_length(found: int, server: Server, expected: Expected) -> None:
    if found < expected.model.max_tokens:
        raise EngineError(
            f"the server {server.address} takes sequences of {found} tokens, and this run's have up to "
            f"{expected.model.max_tokens}. Start it with --max-model-len {expected.model.max_tokens}, or lower "
            "rollout.max_new_tokens."
        )


def _check_directed(server: Server, root: str, expected: Expected) -> None:
    """See that the server has the routes that give it weights, and those that take and return tokens."""
    try:
        server.get("/is_paused")
    except ServerError as error:
        if error.status != 404:
            raise
        raise EngineError(
            f"the server {server.address} cannot be given weights: it was started without VLLM_SERVER_DEV_MODE=1. "
            f"{_starting(server, expected)}"
        ) from error
    try:
        server.post("/inference/v1/generate", {})
    except ServerError as error:
        if error.status in (400, 422):
            return
        if error.status == 404 or (error.status == 403 and "--enable-scale-out" in str(error)):
            raise EngineError(
                f"the server {server.address} takes no tokens: it was started without --enable-scale-out. "
                f"{_starting(server, expected)}"
            ) from error
        raise


def _check_tokenizer(root: str, server: Server, expected: Expected) -> None:
    ours = list(expected.model.tokenizer(PROBE, add_special_tokens=False)["input_ids"])
    try:
        theirs = server.post("/tokenize", {"prompt": PROBE, "add_special_tokens": False})["tokens"]
    except ServerError as error:
        if error.status not in (404, 501):
            raise
        logger.warning(f"the server {server.address} has no tokenizer to compare with the run's.")
        return
    if theirs != ours:
        raise EngineError(
            f"the tokenizer of the server {server.address} (model {root!r}) is not this run's (model {expected.name!r}): it "
            f"makes {_first_difference(theirs, ours)} of the same text. {_starting(server, expected)}"
        )


def _first_difference(theirs: list[int], ours: list[int]) -> str:
    place = next((i for i, pair in enumerate(zip(theirs, ours, strict=False)) if pair[0] != pair[1]), None)
    if place is None:
        return f"{len(theirs)} tokens where the run's makes {len(ours)}"
    return f"the token {theirs[place]} where the run's makes {ours[place]}"


def _check_configuration(server: Server, expected: Expected) -> Found:
    said = server.get("/server_info", config_format="json")
    model, transfer = said["vllm_config"]["model_config"], said["vllm_config"].get("weight_transfer_config")
    if model["logprobs_mode"] != "processed_logprobs":
        raise EngineError(
            f"the server {server.address} returns {model['logprobs_mode']}: not the log-probs of the distribution that it "
            f"samples from. Start it with --logprobs-mode processed_logprobs. {_starting(server, expected)}"
        )
    dtype = str(model["dtype"]).removeprefix("torch.")
    if dtype != (ours := expected.model.dtype_name):
        logger.warning(
            f"the server {server.address} computes in {dtype}, and this run in {ours}: their log-probs differ by rounding."
        )
    return Found(_backend_of(transfer), _plugins_of(said["vllm_env"].get("VLLM_PLUGINS"), server))


def _plugins_of(listed: Sequence[str] | None, server: Server) -> tuple[str, ...]:
    if listed is None:
        logger.warning(
            f"the server {server.address} was started without VLLM_PLUGINS: every plugin of vLLM's that any package brings "
            "runs inside it. Set the variable to their names where it is started, or to nothing."
        )
        return (EVERY_PLUGIN,)
    return tuple(name for name in listed if name)


def _backend_of(transfer: Mapping[str, Any] | None) -> str | None:
    return None if transfer is None else str(transfer["backend"])


def _starting(server: Server, expected: Expected) -> str:
    """Say how a server is started that this run can use."""
    if expected.model.name is None:
        return FROM_SCRATCH
    [command] = server_commands(
        [server.address],
        expected.model.name,
        # Without the key: it may be what is wrong.
        expected.table.model_copy(update={"api_key_env": None}),
        dtype=expected.model.dtype_name,
        max_model_len=expected.model.max_tokens,
        is_cpu=False,
    )
    return f"`plugrad serve` starts it as this run needs it, or:\n    {command}"
