"""What one training step is made of, for the GPU benchmark: three ways from hidden states to log-probs, one loss."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.optim import AdamW
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

from plugrad.policy.logprobs import scores_from_logits
from plugrad.policy.policy import Policy
from plugrad.policy.scored import Wanted

PROMPT_SHARE = 4
MAX_GRAD_NORM = 1.0


@dataclass(frozen=True)
class Shape:
    """Of a Qwen2 model."""

    hidden: int
    layers: int
    heads: int
    kv_heads: int
    intermediate: int
    vocab: int


@dataclass(frozen=True)
class Step:
    """One training step that can be repeated: forward, loss, backward, clip, update."""

    run: Callable[[], None]
    device: torch.device
    num_parameters: int
    num_tokens: int
    flops: float


@dataclass(frozen=True)
class Batch:
    """Sequences of one length: a prompt, and a completion whose tokens count."""

    input_ids: Tensor
    attention_mask: Tensor
    loss_mask: Tensor
    advantages: Tensor


LogProbs = Callable[[Batch], Tensor]


def fused(shape: Shape, rows: int, tokens: int, device: torch.device) -> Step:
    """Return the step with plugrad's own log-probs and entropy, as a run takes them."""
    model = _model(shape, device)
    policy = Policy(model, temperature=1.0).train()

    def logprobs(batch: Batch) -> Tensor:
        scores: Tensor = policy(batch.input_ids, batch.attention_mask, batch.loss_mask, Wanted(entropy="value")).logprobs
        return scores[batch.loss_mask]

    return _step(model, shape, rows, tokens, logprobs)


def plain(shape: Shape, rows: int, tokens: int, device: torch.device) -> Step:
    """Return the step with log-probs and entropy from the model's whole logits."""
    model = _model(shape, device).train()

    def logprobs(batch: Batch) -> Tensor:
        logits = model(input_ids=batch.input_ids, attention_mask=batch.attention_mask, use_cache=False).logits[:, :-1]
        counted, targets = batch.loss_mask[:, 1:], batch.input_ids[:, 1:]
        return scores_from_logits(logits[counted], targets[counted], temperature=1.0, entropy="value")[0]

    return _step(model, shape, rows, tokens, logprobs)


def trl(shape: Shape, rows: int, tokens: int, device: torch.device) -> Step:
    """Return the step with the log-probs and entropy that TRL's GRPOTrainer takes."""
    from trl.trainer.utils import add_fused_lm_head

    model = _model(shape, device).train()
    add_fused_lm_head(model, temperature=1.0, outputs=("log_probs", "entropy"))

    def logprobs(batch: Batch) -> Tensor:
        labels = batch.input_ids.masked_fill(~batch.loss_mask, -100)
        outputs = model(batch.input_ids, attention_mask=batch.attention_mask, labels=labels, fused_lm_head=True)
        found: Tensor = outputs.log_probs[batch.loss_mask[:, 1:]]
        return found

    return _step(model, shape, rows, tokens, logprobs)


STEPS: dict[str, Callable[[Shape, int, int, torch.device], Step]] = {"fused": fused, "plain": plain, "TRL": trl}


def _model(shape: Shape, device: torch.device) -> PreTrainedModel:
    config = AutoConfig.for_model(
        "qwen2",
        hidden_size=shape.hidden,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.kv_heads,
        intermediate_size=shape.intermediate,
        vocab_size=shape.vocab,
        tie_word_embeddings=True,
    )
    torch.manual_seed(0)
    with torch.device(device):
        model: Any = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
    return model  # type: ignore[no-any-return]


def _batch(shape: Shape, rows: int, tokens: int, device: torch.device) -> Batch:
    size = (rows, tokens)
    return Batch(
        input_ids=torch.randint(shape.vocab, size, device=device),
        attention_mask=torch.ones(size, dtype=torch.bool, device=device),
        loss_mask=(torch.arange(tokens, device=device) >= tokens // PROMPT_SHARE).expand(size),
        advantages=torch.randn(rows, 1, device=device).expand(size),
    )


def _step(model: PreTrainedModel, shape: Shape, rows: int, tokens: int, logprobs: LogProbs) -> Step:
    """Return REINFORCE's step over one micro-batch."""
    device = model.device
    batch = _batch(shape, rows, tokens, device)
    optimizer = AdamW(model.parameters(), lr=1e-6, fused=device.type == "cuda")

    def run() -> None:
        loss = -(logprobs(batch) * batch.advantages[batch.loss_mask]).mean()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), MAX_GRAD_NORM)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    num_parameters = sum(parameter.numel() for parameter in model.parameters())
    return Step(run, device, num_parameters, rows * tokens, _flops(shape, num_parameters, rows, tokens))


def _flops(shape: Shape, num_parameters: int, rows: int, tokens: int) -> float:
    """6 N for each token, and causal attention: 12 * layers * hidden * (tokens / 2) for each token.

    N counts the tied embedding once: as the head. Where the head runs only on counted tokens it does less than this.
    """
    return rows * tokens * (6.0 * num_parameters + 6.0 * shape.layers * shape.hidden * tokens)
