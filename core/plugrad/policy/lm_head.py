"""Find out by a trial run how a causal LM turns its last hidden state into logits, so no list of models is needed."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from plugrad.errors import ModelError

logger = logging.getLogger("plugrad")

LARGEST_PROBE = 100.0
"""Large enough to expose any change to the logits. Soft-capping barely changes small ones."""
RUNS_ON_CPU = ("eager", "sdpa")
UNUSUAL_DTYPES = ("float64", "float16")


@dataclass(frozen=True)
class LinearHead:
    """logits = scaling * (weight @ (hidden_scaling * hidden) + bias), or softcap * tanh(logits / softcap)."""

    hidden_scaling: float = 1.0
    """MiniCPM divides the last hidden state."""
    scaling: float = 1.0
    """Granite divides its logits, and Cohere multiplies them."""
    softcap: float | None = None
    """Gemma's `final_logit_softcapping`."""


@dataclass
class Trial:
    """The inputs of a head, its outputs, and the values that replaced them."""

    inputs: list[Tensor] = field(default_factory=list)
    outputs: list[Tensor] = field(default_factory=list)
    probes: list[Tensor] = field(default_factory=list)

    def replace_output(self, head: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        """Record a call of the head and return known values instead of its output. This is a forward hook."""
        # In the output's dtype, for models that write into it or compare dtypes.
        generator = torch.Generator().manual_seed(0)
        probe = (torch.rand(output.shape, generator=generator) * 2 - 1) * LARGEST_PROBE
        self.inputs.append(inputs[0])
        self.outputs.append(output)
        self.probes.append(probe.to(output))
        return self.probes[-1].clone()


def find_head(model: nn.Module) -> LinearHead | None:
    """Return how logits follow from the last hidden state. Warn and return None if they do not fit a `LinearHead`.

    The model runs twice on four tokens, without gradient and in evaluation mode. Its state does not change.

    Raises:
        ModelError: the model does not return logits over a vocabulary.
    """
    with torch.no_grad(), evaluating(model), runnable_attention(model):
        head, why = _try_head(model)
    if head is None:
        logger.warning(
            "%s: %s. Falling back to its full logits, so memory grows with tokens x vocabulary.", _name(model), why
        )
    return head


def backbone(model: nn.Module) -> nn.Module:
    """Return the model without its head."""
    return getattr(model, "base_model", model)


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Switch every module to evaluation mode, then restore its mode."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode


@contextmanager
def attention(model: Any, implementation: str) -> Iterator[None]:
    """Switch a Transformers model to another attention implementation, then restore its own."""
    own = model.config._attn_implementation
    if own == implementation:
        yield
        return
    model.set_attn_implementation(implementation)
    try:
        yield
    finally:
        model.set_attn_implementation(own)


@contextmanager
def runnable_attention(model: nn.Module) -> Iterator[None]:
    """Use `eager` attention if the model is on a CPU and its own attention needs an accelerator. Every model has `eager`."""
    own = getattr(getattr(model, "config", None), "_attn_implementation", None)
    with ExitStack() as stack:
        if own not in (None, *RUNS_ON_CPU) and device_of(model).type == "cpu":
            stack.enter_context(attention(model, "eager"))
        yield


def device_of(model: nn.Module) -> torch.device:
    """Return the device of the model's first parameter."""
    return next(model.parameters()).device


def _try_head(model: nn.Module) -> tuple[LinearHead | None, str]:
    head, trial = _output_embeddings(model), Trial()
    ids = torch.arange(4, device=device_of(model)).unsqueeze(0)
    with ExitStack() as stack:
        if head is not None:
            stack.callback(head.register_forward_hook(trial.replace_output).remove)
        logits = _logits(model, ids)
    if any(bool(output.isnan().any()) for output in (*trial.outputs, *([] if trial.outputs else [logits]))):
        raise ModelError(
            f"{_name(model)} returns NaN for four tokens of its vocabulary, although its weights are finite. A value in its "
            "configuration is no model's, such as a NaN or an infinite number: compare it with that of a published model."
        )
    if head is None or len(trial.inputs) != 1:
        return None, "its logits do not come from the module that it names as its head"
    if not _is_linear(head, trial):
        return None, f"its head, {type(head).__name__}, is not a matrix product"
    hidden_scaling = _hidden_scaling(model, ids, trial.inputs[0])
    if hidden_scaling is None:
        return None, f"the input of its head is not the last hidden state of its {type(backbone(model)).__name__}"
    scaling, softcap = _factor(trial.probes[0], logits), _softcap(model, trial.probes[0], logits)
    if scaling is None and softcap is None:
        return None, "it changes its logits by neither a scaling nor the soft-capping of its configuration"
    return LinearHead(hidden_scaling, 1.0 if scaling is None else scaling, softcap), ""


def _output_embeddings(model: nn.Module) -> nn.Module | None:
    get = getattr(model, "get_output_embeddings", None)
    return get() if get is not None else None


def _logits(model: nn.Module, ids: Int[Tensor, "1 4"]) -> Float[Tensor, "1 4 vocab"]:
    advice = "Use a causal LM, as loaded by transformers.AutoModelForCausalLM."
    try:
        output = model(input_ids=ids, attention_mask=torch.ones_like(ids), use_cache=False)
    except Exception as error:
        found = f"{type(error).__name__}: {error}".split("\n", maxsplit=1)[0]
        raise ModelError(
            f"{_name(model)} cannot run on input_ids and attention_mask: {found} {_advice_on_failure(model) or advice}"
        ) from error
    logits = getattr(output, "logits", None)
    if not isinstance(logits, Tensor):
        raise ModelError(f"{_name(model)} returns no logits, but {_contents(output)}. {advice}")
    if logits.ndim != 3 or logits.shape[1] != ids.shape[1] or logits.shape[2] < vocab_size(model):
        raise ModelError(
            f"{_name(model)} returns logits of shape {list(logits.shape)} for 4 tokens of a vocabulary of "
            f"{vocab_size(model)}, not one score per next token. {advice}"
        )
    return logits


def _advice_on_failure(model: nn.Module) -> str:
    """Return what may help a model that is a causal LM and fails nevertheless."""
    if type(model).__name__ not in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.values():
        return ""
    dtype = str(next(model.parameters()).dtype).removeprefix("torch.")
    unusual = f'Its code may not support {dtype}: try model.dtype = "float32". ' if dtype in UNUSUAL_DTYPES else ""
    return f"{unusual}The sizes in its configuration may not fit together: compare them with those of a published model."


def _contents(output: Any) -> str:
    return ", ".join(output) if hasattr(output, "keys") else f"a {type(output).__name__}"


def vocab_size(model: Any) -> int:
    """Return the number of columns of the model's logits, or 0 if its configuration does not say."""
    return getattr(_text_config(model), "vocab_size", 0) or 0


def _is_linear(head: nn.Module, trial: Trial) -> bool:
    weight = getattr(head, "weight", None)
    inputs, output = trial.inputs[0], trial.outputs[0]
    if (
        not isinstance(weight, Tensor)
        or weight.shape != (output.shape[-1], inputs.shape[-1])
        or weight.dtype != inputs.dtype
    ):
        return False
    # Quantised heads and adapters also have a weight, but use it differently.
    return _close(output, nn.functional.linear(inputs, weight, getattr(head, "bias", None)), size=float(output.abs().max()))


def _hidden_scaling(model: nn.Module, ids: Tensor, given: Tensor) -> float | None:
    without_head = backbone(model)
    if without_head is model:
        return None
    found = without_head(input_ids=ids, attention_mask=torch.ones_like(ids), use_cache=False)[0]
    return _factor(found, given, size=float(given.abs().max())) if isinstance(found, Tensor) else None


def _softcap(model: Any, probe: Tensor, logits: Tensor) -> float | None:
    cap = getattr(_text_config(model), "final_logit_softcapping", None)
    if not cap or probe.shape != logits.shape:
        return None
    return float(cap) if _close(logits, cap * torch.tanh(probe / cap)) else None


def _factor(values: Tensor, product: Tensor, size: float = 0.0) -> float | None:
    """Return the constant factor between two tensors, or None if there is none."""
    if values.shape != product.shape:
        return None
    if _close(product, values, size):
        return 1.0
    one, other = values.double().flatten(), product.double().flatten()
    factor = float(one @ other / (one @ one))
    return factor if factor and _close(product, factor * values, size) else None


def _close(found: Tensor, wanted: Tensor, size: float = 0.0) -> bool:
    """Whether two tensors agree up to the rounding of a few operations on values of about `size`, if given."""
    rounding = 4 * max(torch.finfo(tensor.dtype).eps for tensor in (found, wanted))
    return torch.allclose(found.double(), wanted.double(), rtol=rounding, atol=rounding * size)


def _text_config(model: Any) -> Any:
    config: Any = getattr(model, "config", None)
    return config.get_text_config() if hasattr(config, "get_text_config") else config


def _name(model: nn.Module) -> str:
    return type(model).__name__
