"""`nemo_rl`, `nemo_rl_sequence` and `nemo_rl_whole_batch`: a NeMo RL LossFunction from your own file or package."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor

from plugrad import BatchLossInputs, CallableReference, LossInputs, LossOutputs, PluginError, loss, resolve_callable
from plugrad_compat.adapters.config import Config
from plugrad_compat.adapters.foreign import DividesBy, DividesRowsBy, ForeignLoss, select
from plugrad_compat.adapters.metrics import Are, Metrics
from plugrad_compat.adapters.probe import Probe
from plugrad_compat.adapters.signatures import NEMO_RL_LOSS, Signature, checked_signature
from plugrad_compat.adapters.tried import TriedLoss
from plugrad_compat.nemo_rl.interfaces import BaseLossFunction, BatchedDataDict

KEYS = {
    "input_ids": "input_ids",
    "prev_logprobs": "old_logprobs",
    "reference_policy_logprobs": "ref_logprobs",
    "rewards": "reward",
}
"""The plugrad need behind each data key that a loss may read."""
SELECTED_BY = {"token_level": "nemo_rl", "sequence_level": "nemo_rl_sequence"}
"""The plugrad loss for each `loss_type` of NeMo RL. They differ in the host's denominator."""
MIXING = {
    "token_level": ', or "nemo_rl_whole_batch" if it mixes sequences',
    "sequence_level": ' if each sequence has a loss of its own, "nemo_rl_pairs" if it compares the two completions of a '
    'pair, or "nemo_rl_sequence_whole_batch" if it mixes sequences otherwise',
}
"""What remains for a loss that mixes sequences."""
LOGPROBS, LOGITS = "next_token_logprobs", ("next_token_logits", "logits")
"""What a loss is called with: the one that its parameters or its `input_type` name."""
WHOLE_BATCH = "nemo_rl_whole_batch"
SEQUENCES = (
    'Select name = "nemo_rl_pairs" if it compares the two completions of a pair, else "nemo_rl_sequence_whole_batch". They '
    "pass it the sequences of all micro-batches and ranks at once."
)
BY_LOGPROBS = (
    f"Let it take log-probs: the argument {LOGPROBS}, shifted left by one as its logits are, and input_type = "
    "LossInputType.LOGPROB."
)
"""What remains for a loss of logits that mixes sequences."""
NORMALIZED: dict[str, Are] = {"tokens": "per token", "sequences": "per sequence", "none": "counts"}
"""How metrics add up, for each MetricNormalizer of NeMo RL."""


def needs_of(level: str, num_sequences: int = 1) -> Callable[[Mapping[str, Any]], frozenset[str]]:
    """Return a function from options to needs: logits if the loss takes them, and the keys that it reads in a trial."""
    found: dict[str, frozenset[str]] = {}

    def needs(options: Mapping[str, Any]) -> frozenset[str]:
        # Called at every micro-batch, but the trial runs once.
        key = repr((options["target"], options["config"]))
        if key not in found:
            found[key] = _keys_read(str(options["target"]), options["config"] or {}, level, num_sequences)
        return found[key]

    return needs


def _keys_read(target: str, config: dict[str, Any], level: str, num_sequences: int) -> frozenset[str]:
    read: set[str] = set()
    foreign = foreign_loss(target, config, level, None, read)
    try:
        foreign.call(Probe(torch.double, torch.device("cpu")).sequences(num_sequences))
    except Exception:
        # A failure here is reported by the pre-flight, where it occurs again.
        read.update(KEYS)
    logits = {"logits"} & read
    return frozenset({*logits, *(need for key, need in KEYS.items() if key in read)})


_needs_of_tokens = needs_of("token_level")


def needs_of_the_whole_batch(options: Mapping[str, Any]) -> frozenset[str]:
    """Return the needs of a loss that mixes sequences.

    Raises:
        PluginError: it takes logits.
    """
    return without_logits(_needs_of_tokens(options), options, WHOLE_BATCH)


def without_logits(needs: frozenset[str], options: Mapping[str, Any], name: str) -> frozenset[str]:
    """Return the needs.

    Raises:
        PluginError: logits are among them.
    """
    if "logits" in needs:
        raise PluginError(
            f"{options['target']!r} takes logits, and {name} calls it once per update with all sequences, whose "
            f"logits never exist at once. {BY_LOGPROBS}"
        )
    return needs


@loss(needs=_needs_of_tokens)
class NemoRlLoss(TriedLoss):
    """sum_t l_t of a NeMo RL loss with LossType.TOKEN_LEVEL, called with one sequence at a time.

    Args:
        target: `file.py:name` or `module:name` of an instance, or of a class that is created with `config`.
        config: NeMo RL's `loss_function.params`.
        divides_by: what its scalar was divided by besides `global_valid_toks`: "tokens" if it takes its own mean.

    Reports:
        NAME: each metric that the loss returns, with the same divisor as the loss.
    """

    def __init__(
        self, target: CallableReference, config: dict[str, Any] | None = None, divides_by: DividesBy = "nothing"
    ) -> None:
        super().__init__(partial(foreign_loss, target, config or {}, "token_level", divides_by))

    def __call__(self, inputs: LossInputs) -> LossOutputs:
        """Return the sum over one sequence."""
        return self.of_sequence(inputs)


@loss(needs=needs_of("sequence_level"), reduction="sequence_sum")
class NemoRlSequenceLoss(TriedLoss):
    """l_s of a NeMo RL loss with LossType.SEQUENCE_LEVEL, called with one sequence at a time.

    Args:
        target: `file.py:name` or `module:name` of an instance, or of a class that is created with `config`.
        config: NeMo RL's `loss_function.params`.

    Reports:
        NAME: each metric that the loss returns, a mean over sequences.
    """

    def __init__(self, target: CallableReference, config: dict[str, Any] | None = None) -> None:
        super().__init__(partial(foreign_loss, target, config or {}, "sequence_level", None))

    def __call__(self, inputs: LossInputs) -> LossOutputs:
        """Return the loss of one sequence."""
        return self.of_sequence(inputs)


@loss(needs=needs_of_the_whole_batch, whole_batch=True)
class NemoRlWholeBatchLoss(TriedLoss):
    """sum_t l_t of a NeMo RL loss with LossType.TOKEN_LEVEL that mixes sequences, called with the whole batch.

    Args:
        target: `file.py:name` or `module:name` of an instance, or of a class that is created with `config`.
        config: NeMo RL's `loss_function.params`.
        divides_by: what its scalar was divided by besides `global_valid_toks`: "tokens" if it takes its own mean.

    Reports:
        NAME: each metric that the loss returns, with the same divisor as the loss.
    """

    def __init__(
        self, target: CallableReference, config: dict[str, Any] | None = None, divides_by: DividesBy = "nothing"
    ) -> None:
        super().__init__(partial(foreign_loss, target, config or {}, "token_level", divides_by))

    def __call__(self, inputs: BatchLossInputs) -> LossOutputs:
        """Return each row's share of the batch's loss."""
        return self.of_whole_batch(inputs)


def foreign_loss(
    target: str,
    config: dict[str, Any],
    level: str,
    divides_by: DividesBy | DividesRowsBy | None,
    read: set[str] | None = None,
) -> ForeignLoss:
    """Find and create the loss, and check its level. The data keys that it reads are added to `read`.

    Raises:
        PluginError: it is not found, or has another style or the other level.
    """
    found = resolve_callable(target)
    whole = Config(config)
    made = created(found, whole)
    if isinstance(made, BaseLossFunction):
        raise PluginError(
            f"{target!r} is a BaseLossFunction, whose forward names what it takes. Select name = "
            '"nemo_rl_forward" if it takes logits, else "nemo_rl_forward_whole_batch".'
        )
    signature = checked_signature(target, made, NEMO_RL_LOSS)
    _check_level(target, made, level)

    call = _Call(made, signature, _called_with(target, made, signature), set() if read is None else read)
    way_to_mix = _way_to_mix(level, call.called_with)
    return ForeignLoss(target, NEMO_RL_LOSS.name, call, divides_by, _metrics(made, divides_by, level), whole, way_to_mix)


def _way_to_mix(level: str, called_with: str) -> str:
    way = select(WHOLE_BATCH) if level == "token_level" else SEQUENCES
    return f"{BY_LOGPROBS} {way}" if called_with in LOGITS else way


@dataclass(frozen=True)
class _Call:
    """Call a loss with NeMo RL's parameter names."""

    made: Callable[..., Any]
    signature: Signature
    called_with: str
    read: set[str]

    def __call__(self, inputs: BatchLossInputs) -> Any:
        one = torch.ones((), dtype=inputs.trainer_logprobs.dtype, device=inputs.trainer_logprobs.device)
        self.read.update({"logits"} if self.called_with in LOGITS else ())
        given = {
            self.called_with: _shifted(inputs) if self.called_with in LOGITS else inputs.trainer_logprobs[:, 1:],
            "data": BatchedDataDict(data_of(inputs), self.read),
            "global_valid_seqs": one,
            "global_valid_toks": one,
        }
        return self.made(**self.signature.taken(given))


def _called_with(target: str, made: Any, signature: Signature) -> str:
    """Return the name of the argument that the loss computes from."""
    stated = getattr(made, "input_type", None)
    by_type = {None: (*LOGITS, LOGPROBS), "logit": LOGITS, "logprob": (LOGPROBS,)}
    # NeMo RL's own enumeration is another class with the same values.
    kind = getattr(stated, "value", stated)
    if kind not in by_type:
        raise PluginError(
            f"{target!r} states the input_type {stated!r}. plugrad supports LossInputType.LOGIT and LossInputType.LOGPROB."
        )
    named = [name for name in by_type[kind] if name in signature.names]
    if not named and not (kind and signature.takes_any):
        raise PluginError(f"{target!r} is not {NEMO_RL_LOSS.name}: it takes none of {', '.join(map(repr, by_type[kind]))}.")
    return named[0] if named else by_type[kind][-1]


def _metrics(made: Any, divides_by: DividesBy | DividesRowsBy | None, level: str) -> Metrics:
    """Return how the metrics add up: like the loss, unless the loss states otherwise for a metric."""
    undivided: Are = "per token" if level == "token_level" else "per sequence"
    own: Are = "means" if divides_by in ("tokens", "sequences") else undivided
    stated = getattr(made, "metric_normalizations", None) or {}
    by_name = {name: NORMALIZED.get(str(getattr(said, "value", said)), own) for name, said in stated.items()}
    return Metrics(own, by_name)


def data_of(inputs: BatchLossInputs) -> dict[str, Tensor]:
    """Return the documented keys: per token `[batch, seq]`, per sequence `[batch]`."""
    log_probs = inputs.trainer_logprobs
    data = {
        "input_lengths": inputs.loss_mask.shape[1] - inputs.loss_mask.flip(1).to(torch.uint8).argmax(dim=1),
        "token_mask": inputs.loss_mask.to(log_probs),
        "sample_mask": inputs.loss_mask.any(dim=1).to(log_probs),
        "advantages": inputs.advantages,
        "generation_logprobs": inputs.inference_logprobs,
    }
    asked_for = {key: getattr(inputs, need) for key, need in KEYS.items()}
    return data | {key: value for key, value in asked_for.items() if value is not None}


def _shifted(inputs: BatchLossInputs) -> Tensor:
    """Return logits in NeMo RL's layout: position t predicts token t + 1, and the last position predicts nothing."""
    assert inputs.logits is not None
    return torch.cat([inputs.logits[:, 1:], torch.zeros_like(inputs.logits[:, :1])], dim=1)


def created(found: Callable[..., Any], config: Config) -> Callable[..., Any]:
    """Return the instance of a class, created with the config if it takes one; anything else is returned as it is."""
    if not inspect.isclass(found):
        return found
    # A Protocol's own constructor takes (*args, **kwargs), but rejects them.
    takes_config, make = bool(Signature.of(found).names), cast(Any, found)
    made: Callable[..., Any] = make(config) if takes_config else make()
    return made


def _check_level(target: str, made: Callable[..., Any], level: str) -> None:
    stated = getattr(made, "loss_type", None)
    # NeMo RL's own enumeration is another class with the same values.
    found = getattr(stated, "value", stated)
    if found not in SELECTED_BY:
        raise PluginError(
            f"{target!r} has the loss_type {stated!r}. A NeMo RL LossFunction states LossType.TOKEN_LEVEL or "
            "LossType.SEQUENCE_LEVEL, which decides what its sums are divided by."
        )
    if found != level:
        raise PluginError(
            f"{target!r} states LossType.{found.upper()}, but is selected as {level.upper()}. It would get another "
            f'denominator. Write name = "{SELECTED_BY[found]}"{MIXING[found]}.'
        )
