"""The losses `skyrl` and `skyrl_whole_batch`: a SkyRL policy loss from your own file or package."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, cast

from plugrad import BatchLossInputs, CallableReference, LossInputs, LossOutputs, PluginError, loss
from plugrad_compat.adapters.foreign import DividesBy, ForeignLoss, select
from plugrad_compat.adapters.metrics import Metrics
from plugrad_compat.adapters.notices import notice
from plugrad_compat.adapters.responses import Responses
from plugrad_compat.adapters.signatures import SKYRL_FUNCTION, SKYRL_METHOD, Signature, checked_signature
from plugrad_compat.adapters.tried import TriedLoss
from plugrad_compat.skyrl.configs import DEFAULTS, AlgorithmConfig
from plugrad_compat.skyrl.registering import POLICY_LOSSES

REDUCTIONS = {
    "token_mean": "token",
    "sequence_mean": "sequence",
    "seq_mean_token_sum_norm": "constant",
    "prompt_mean": "group",
}
"""The run file's `reduction` for each `loss_reduction` of SkyRL."""
Call = Callable[..., Any]


@loss(needs={"old_logprobs"})
class SkyrlLoss(TriedLoss):
    """sum_t l_t of a SkyRL policy loss, called with one sequence at a time.

    Args:
        target: `file.py:name` or `module:name` of a `PolicyLoss` class or a function, or a name that the file
            registers.
        config: the loss's config. It overrides SkyRL's defaults.
        divides_by: what its scalar was divided by: "tokens" if it is a mean, "nothing" if it is a sum.

    Reports:
        NAME: each metric that the loss returns, a mean over tokens.
    """

    def __init__(
        self, target: CallableReference, config: dict[str, Any] | None = None, divides_by: DividesBy = "tokens"
    ) -> None:
        super().__init__(partial(foreign_loss, target, config or {}, divides_by))

    def __call__(self, inputs: LossInputs) -> LossOutputs:
        """Return the sum over one sequence."""
        return self.of_sequence(inputs)


@loss(needs={"old_logprobs"}, whole_batch=True)
class SkyrlWholeBatchLoss(TriedLoss):
    """sum_t l_t of a SkyRL policy loss that mixes sequences, called with the whole batch.

    Args:
        target: `file.py:name` or `module:name` of a `PolicyLoss` class or a function, or a name that the file
            registers.
        config: the loss's config. It overrides SkyRL's defaults.
        divides_by: what its scalar was divided by: "tokens" if it is a mean, "nothing" if it is a sum.

    Reports:
        NAME: each metric that the loss returns, a mean over tokens.
    """

    def __init__(
        self, target: CallableReference, config: dict[str, Any] | None = None, divides_by: DividesBy = "tokens"
    ) -> None:
        super().__init__(partial(foreign_loss, target, config or {}, divides_by))

    def __call__(self, inputs: BatchLossInputs) -> LossOutputs:
        """Return each row's share of the batch's loss."""
        return self.of_whole_batch(inputs)


def foreign_loss(target: str, config: dict[str, Any], divides_by: DividesBy) -> ForeignLoss:
    """Find the loss and check that it has one of SkyRL's two styles.

    Raises:
        PluginError: it is not found, or has another style.
    """
    found = POLICY_LOSSES.find(target)
    whole = AlgorithmConfig(config, DEFAULTS)
    if "loss_reduction" in config:
        _say_where_the_reduction_is(target, str(config["loss_reduction"]))
    call = _call(target, found, whole)
    return ForeignLoss(target, SKYRL_FUNCTION.name, call, divides_by, Metrics(), whole, select("skyrl_whole_batch"))


@dataclass(frozen=True)
class _Method:
    """Call the class style."""

    made: Any
    signature: Signature

    def __call__(self, inputs: BatchLossInputs) -> Any:
        responses = Responses.of(inputs)
        given = {**_logprobs(responses), "masks": responses.mask}
        return self.made.compute_loss(**self.signature.taken(given))


@dataclass(frozen=True)
class _Function:
    """Call the function style."""

    found: Call
    signature: Signature
    config: AlgorithmConfig

    def __call__(self, inputs: BatchLossInputs) -> Any:
        responses = Responses.of(inputs)
        given = {**_logprobs(responses), "config": self.config, "loss_mask": responses.mask}
        return self.found(**self.signature.taken(given))


def _call(target: str, found: Any, config: AlgorithmConfig) -> Call:
    if not inspect.isclass(found):
        return _Function(found, checked_signature(target, found, SKYRL_FUNCTION), config)
    made: Any = cast(Any, found)(config)
    if not callable(getattr(made, "compute_loss", None)):
        raise _no_method(target, found)
    return _Method(made, checked_signature(f"{target}.compute_loss", made.compute_loss, SKYRL_METHOD))


def _logprobs(responses: Responses) -> dict[str, Any]:
    return {
        "log_probs": responses.of_field("trainer_logprobs"),
        "old_log_probs": responses.of_field("old_logprobs"),
        "advantages": responses.of_field("advantages"),
        "rollout_logprobs": responses.of_field("inference_logprobs"),
    }


def _no_method(target: str, found: Any) -> PluginError:
    methods = [name for name in vars(found) if not name.startswith("_")]
    return PluginError(
        f"{target!r} is a class without compute_loss(self, log_probs, old_log_probs, advantages, masks, **kwargs), which "
        f"SkyRL's class style calls. It has {', '.join(methods) or 'no methods'}."
    )


def _say_where_the_reduction_is(target: str, asked: str) -> None:
    ours = REDUCTIONS.get(asked)
    notice(
        f"{target!r}: config.loss_reduction = {asked!r} has no effect. "
        + (f'Write reduction = "{ours}" in [[loss]].' if ours else f"SkyRL's are {', '.join(REDUCTIONS)}.")
    )
