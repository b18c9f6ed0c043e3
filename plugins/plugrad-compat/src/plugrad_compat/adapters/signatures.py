"""Signatures: check that a function has the selected style, and if not, suggest the style that it resembles."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

from plugrad import PluginError


@dataclass(frozen=True)
class Style:
    """How a system calls its users' functions."""

    name: str
    """The style with an article, as used in messages."""
    selected_by: str
    """The run-file line that selects this style."""
    parameters: tuple[str, ...]
    """Every parameter that the system may pass."""
    required: tuple[str, ...] = ()
    """Parameters without which a function has another style."""

    def likeness(self, names: Collection[str]) -> float:
        """Return the share of `names` that this style knows."""
        return len(set(names) & set(self.parameters)) / max(len(names), 1)


SKYRL_FUNCTION = Style(
    "a SkyRL policy loss",
    '[loss] name = "skyrl"',
    ("log_probs", "old_log_probs", "advantages", "config", "loss_mask", "rollout_logprobs"),
    ("log_probs", "old_log_probs", "advantages"),
)
SKYRL_METHOD = Style(
    "a SkyRL PolicyLoss.compute_loss",
    '[loss] name = "skyrl"',
    ("log_probs", "old_log_probs", "advantages", "masks", "rollout_logprobs"),
    ("log_probs", "old_log_probs", "advantages", "masks"),
)
SKYRL_ADVANTAGE = Style(
    "a SkyRL advantage estimator",
    '[advantage] name = "skyrl"',
    ("token_level_rewards", "response_mask", "index", "gamma", "lambd", "grpo_norm_by_std", "config"),
    ("token_level_rewards", "response_mask"),
)
VERL_LOSS = Style(
    "a verl policy loss",
    '[loss] name = "verl"',
    (
        "old_log_prob", "log_prob", "advantages", "response_mask", "loss_agg_mode", "config", "rollout_is_weights",
        "rollout_log_probs",
    ),
    ("old_log_prob", "log_prob", "advantages", "response_mask"),
)  # fmt: skip
VERL_ADVANTAGE = Style(
    "a verl advantage estimator",
    '[advantage] name = "verl"',
    ("token_level_rewards", "response_mask", "index", "config", "reward_baselines", "norm_adv_by_std_in_grpo"),
    ("token_level_rewards", "response_mask"),
)
NEMO_RL_LOSS = Style(
    "a NeMo RL LossFunction",
    '[loss] name = "nemo_rl"',
    ("next_token_logits", "next_token_logprobs", "logits", "data", "global_valid_seqs", "global_valid_toks"),
    ("data", "global_valid_seqs", "global_valid_toks"),
)
TRL_REWARD = Style(
    "a TRL reward function",
    '[environment] name = "trl"',
    ("prompts", "completions", "completion_ids", "trainer_state", "log_extra", "log_metric"),
)
PRIME_RL_LOSS = Style("a prime-rl loss", '[loss] name = "prime_rl"', ("inputs",), ("inputs",))
STYLES = (SKYRL_FUNCTION, SKYRL_METHOD, SKYRL_ADVANTAGE, VERL_LOSS, VERL_ADVANTAGE, NEMO_RL_LOSS, TRL_REWARD, PRIME_RL_LOSS)
LIKE = 0.5
"""The share of known parameters from which a function resembles a style."""


@dataclass(frozen=True)
class Signature:
    """The parameters of a function, without `self`."""

    names: tuple[str, ...]
    needed: tuple[str, ...]
    """Parameters without a default."""
    takes_any: bool
    """Whether it takes **kwargs."""

    @classmethod
    def of(cls, call: Callable[..., Any]) -> Signature:
        """Read the signature of a function or bound method."""
        parameters = inspect.signature(call).parameters.values()
        named = [p for p in parameters if p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL) and p.name != "self"]
        return cls(
            tuple(p.name for p in named),
            tuple(p.name for p in named if p.default is p.empty),
            any(p.kind is p.VAR_KEYWORD for p in parameters),
        )

    def taken(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """Return the entries of `given` that the function accepts."""
        return {name: value for name, value in given.items() if self.takes_any or name in self.names}


def checked_signature(target: str, call: Callable[..., Any], style: Style, more: Collection[str] = ()) -> Signature:
    """Return the signature of a function of this style. `more` names parameters that the user has set.

    Raises:
        PluginError: the function has a parameter that the style does not pass, or lacks a required one. The message
            suggests the style that it resembles.
    """
    if inspect.isclass(call):
        method = getattr(call, "compute_loss", vars(call).get("__call__"))
        looks = _advice(Signature.of(method), style) if method else ""
        raise PluginError(f"{target!r} is a class, but {style.name} is a function. {looks}".strip())
    signature = Signature.of(call)
    foreign = [name for name in signature.needed if name not in style.parameters and name not in more]
    lacking = [name for name in style.required if name not in signature.names and not signature.takes_any]
    if foreign or lacking:
        raise PluginError(f"{target!r} is not {style.name}: {_what(foreign, lacking)}. {_advice(signature, style)}")
    return signature


def _what(foreign: list[str], lacking: list[str]) -> str:
    parts = [f"it asks for {_quoted(foreign)}, which that style does not pass"] if foreign else []
    parts += [f"it does not take {_quoted(lacking)}"] if lacking else []
    return ", and ".join(parts)


def _advice(signature: Signature, style: Style) -> str:
    likest = max(STYLES, key=lambda other: other.likeness(signature.names))
    if likest.name != style.name and likest.likeness(signature.names) > max(LIKE, style.likeness(signature.names)):
        neither = [name for name in signature.needed if name not in likest.parameters]
        if neither:
            return f"It looks like {likest.name}, which does not receive {_quoted(neither)} either."
        return f"It looks like {likest.name}: select it with {likest.selected_by}."
    return f"{style.name[0].upper()}{style.name[1:]} takes {', '.join(style.parameters)}."


def _quoted(names: list[str]) -> str:
    return ", ".join(map(repr, names))
