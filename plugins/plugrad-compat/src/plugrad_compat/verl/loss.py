"""The losses `verl` and `verl_whole_batch`: a verl policy loss from your own file, or one of verl's."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from plugrad import BatchLossInputs, CallableReference, LossInputs, LossOutputs, loss
from plugrad_compat.adapters.config import Config
from plugrad_compat.adapters.foreign import DividesBy, ForeignLoss, select
from plugrad_compat.adapters.metrics import Metrics
from plugrad_compat.adapters.notices import notice
from plugrad_compat.adapters.responses import Responses
from plugrad_compat.adapters.signatures import VERL_LOSS, Signature, checked_signature
from plugrad_compat.adapters.tried import TriedLoss
from plugrad_compat.verl.configs import ActorConfig
from plugrad_compat.verl.registering import POLICY_LOSSES

TOKEN_MEAN = "token-mean"
UNIT_DENOMINATORS = {"dp_size": 1, "batch_num_tokens": 1, "global_batch_size": 1, "loss_scale_factor": 1}
"""verl's denominators over the whole batch. They are 1 here, so that the run file's `reduction` can divide."""
DEFAULTS = {
    "clip_ratio": 0.2,
    "clip_ratio_low": 0.2,
    "clip_ratio_high": 0.2,
    "clip_ratio_c": 3.0,
    "loss_agg_mode": TOKEN_MEAN,
    "loss_scale_factor": None,
    "tau_pos": 1.0,
    "tau_neg": 1.05,
    "entropy_coeff": 0,
    "use_kl_loss": False,
    "kl_loss_coef": 0.001,
    "kl_loss_type": "low_var_kl",
    "policy_loss": {
        "loss_mode": "vanilla",
        "clip_cov_ratio": 0.0002,
        "clip_cov_lb": 1.0,
        "clip_cov_ub": 5.0,
        "kl_cov_ratio": 0.0002,
        "ppo_kl_coef": 0.1,
        "dro_beta": None,
    },
    "global_batch_info": UNIT_DENOMINATORS,
}
"""Defaults of verl's `actor_rollout_ref.actor` (`verl/workers/config/actor.py`). `config` overrides them."""
REDUCTIONS = {
    TOKEN_MEAN: "token",
    "seq-mean-token-sum": "sequence_sum",
    "seq-mean-token-mean": "sequence",
    "seq-mean-token-sum-norm": "constant",
}
"""The run file's `reduction` for each `loss_agg_mode` of verl."""


@loss(needs={"old_logprobs"})
class VerlLoss(TriedLoss):
    """sum_t l_t of a verl policy loss, called with one sequence at a time.

    Args:
        target: `file.py:name` or `module:name` of the function, or a name that the file registers.
        config: the loss's config. It overrides the defaults of verl's actor.
        divides_by: what its scalar was divided by: "nothing" if it aggregates with `**config.global_batch_info`,
            "tokens" if it takes its own mean.

    Reports:
        NAME: each metric that the loss returns, a mean over tokens, without verl's prefix `actor/`.
    """

    def __init__(
        self, target: CallableReference, config: dict[str, Any] | None = None, divides_by: DividesBy = "nothing"
    ) -> None:
        super().__init__(partial(foreign_loss, target, config or {}, divides_by))

    def __call__(self, inputs: LossInputs) -> LossOutputs:
        """Return the sum over one sequence."""
        return self.of_sequence(inputs)


@loss(needs={"old_logprobs"}, whole_batch=True)
class VerlWholeBatchLoss(TriedLoss):
    """sum_t l_t of a verl policy loss that mixes sequences, called with the whole batch.

    Args:
        target: `file.py:name` or `module:name` of the function, or a name that the file registers.
        config: the loss's config. It overrides the defaults of verl's actor.
        divides_by: what its scalar was divided by: "nothing" if it aggregates with `**config.global_batch_info`,
            "tokens" if it takes its own mean.

    Reports:
        NAME: each metric that the loss returns, a mean over tokens, without verl's prefix `actor/`.
    """

    def __init__(
        self, target: CallableReference, config: dict[str, Any] | None = None, divides_by: DividesBy = "nothing"
    ) -> None:
        super().__init__(partial(foreign_loss, target, config or {}, divides_by))

    def __call__(self, inputs: BatchLossInputs) -> LossOutputs:
        """Return each row's share of the batch's loss."""
        return self.of_whole_batch(inputs)


def foreign_loss(target: str, config: dict[str, Any], divides_by: DividesBy) -> ForeignLoss:
    """Find the loss and check that it has verl's style.

    Raises:
        PluginError: it is not found, or has another style.
    """
    found = POLICY_LOSSES.find(target)
    signature = checked_signature(target, found, VERL_LOSS)
    whole = ActorConfig(config, DEFAULTS)
    # verl's own losses check that their config is an instance of verl's class.
    handed: Any = _actor_config(config) if str(found.__module__).startswith("verl.") else whole
    if "loss_agg_mode" in config:
        _say_where_the_reduction_is(target, str(config["loss_agg_mode"]))

    call = _Function(found, signature, handed)
    watched = whole if handed is whole else Config({})
    return ForeignLoss(target, VERL_LOSS.name, call, divides_by, Metrics(), watched, select("verl_whole_batch"))


@dataclass(frozen=True)
class _Function:
    """Call a loss with verl's parameter names."""

    found: Callable[..., Any]
    signature: Signature
    config: Any

    def __call__(self, inputs: BatchLossInputs) -> Any:
        responses = Responses.of(inputs)
        given = {
            "old_log_prob": responses.of_field("old_logprobs"),
            "log_prob": responses.of_field("trainer_logprobs"),
            "advantages": responses.of_field("advantages"),
            "response_mask": responses.mask,
            "loss_agg_mode": TOKEN_MEAN,
            "config": self.config,
            # In plugrad, an extension corrects for trainer-engine mismatch.
            "rollout_is_weights": None,
            "rollout_log_probs": responses.of_field("inference_logprobs"),
        }
        return self.found(**self.signature.taken(given))


def _actor_config(config: dict[str, Any]) -> Any:
    """Return verl's own actor config, with denominators of 1."""
    from verl.workers.config import ActorConfig, PolicyLossConfig

    tables = {name: PolicyLossConfig(**value) if name == "policy_loss" else value for name, value in config.items()}
    made = ActorConfig(strategy="fsdp", rollout_n=1, ppo_micro_batch_size_per_gpu=1, **tables)
    made.global_batch_info.update(UNIT_DENOMINATORS)
    return made


def _say_where_the_reduction_is(target: str, asked: str) -> None:
    ours = REDUCTIONS.get(asked)
    notice(
        f"{target!r}: config.loss_agg_mode = {asked!r} has no effect. "
        + (f'Write reduction = "{ours}" in [[loss]].' if ours else f"verl's are {', '.join(REDUCTIONS)}.")
    )
