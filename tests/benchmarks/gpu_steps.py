"""What one training step is made of, for the GPU benchmark: ways to log-probs, and all weights or an adapter."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.optim import AdamW
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

from plugrad.config.tables.lora_table import LoraTable
from plugrad.policy.loading import checkpoint_activations
from plugrad.policy.logprobs import scores_from_logits
from plugrad.policy.lora import add_adapter
from plugrad.policy.policy import Policy
from plugrad.policy.scored import Wanted

PROMPT_SHARE = 4
MAX_GRAD_NORM = 1.0


@dataclass(frozen=True)
class Shape:
    """Of a Qwen3 model with tied embeddings."""

    hidden: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    intermediate: int
    vocab: int


SHAPES = {
    "0.6B": Shape(hidden=1024, layers=28, heads=16, kv_heads=8, head_dim=128, intermediate=3072, vocab=151_936),
    "4B": Shape(hidden=2560, layers=36, heads=32, kv_heads=8, head_dim=128, intermediate=9728, vocab=151_936),
}
TOY = Shape(hidden=32, layers=2, heads=2, kv_heads=1, head_dim=16, intermediate=64, vocab=300)


@dataclass(frozen=True)
class Step:
    """One training step that can be repeated: forward, loss, backward, clip, update."""

    run: Callable[[], None]
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


def fused(model: PreTrainedModel, *, compiled: bool = False) -> LogProbs:
    """Return plugrad's own log-probs and entropy, as a run takes them."""
    policy = Policy(model, temperature=1.0, compiled=compiled).train()

    def logprobs(batch: Batch) -> Tensor:
        scores: Tensor = policy(batch.input_ids, batch.attention_mask, batch.loss_mask, Wanted(entropy="value")).logprobs
        return scores[batch.loss_mask]

    return logprobs


def plain(model: PreTrainedModel) -> LogProbs:
    """Return log-probs and entropy from the model's whole logits."""
    model.train()

    def logprobs(batch: Batch) -> Tensor:
        logits = model(input_ids=batch.input_ids, attention_mask=batch.attention_mask, use_cache=False).logits[:, :-1]
        counted, targets = batch.loss_mask[:, 1:], batch.input_ids[:, 1:]
        return scores_from_logits(logits[counted], targets[counted], temperature=1.0, entropy="value")[0]

    return logprobs


WAYS: dict[str, Callable[[PreTrainedModel], LogProbs]] = {
    "fused": fused,
    "plain": plain,
    "compiled": lambda model: fused(model, compiled=True),
}


def make_step(shape: Shape, way: str, rows: int, tokens: int, device: torch.device, *, adapts: bool) -> Step:
    """Return REINFORCE's step over one micro-batch, with activations recomputed in the backward pass."""
    model = new_model(shape, device)
    num_parameters = sum(parameter.numel() for parameter in model.parameters())
    checkpoint_activations(model)
    if adapts:
        add_adapter(model, LoraTable(), None)
    logprobs, batch = WAYS[way](model), new_batch(shape, rows, tokens, device)
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = AdamW(trained, lr=1e-6, fused=device.type == "cuda")

    def run() -> None:
        loss = -(logprobs(batch) * batch.advantages[batch.loss_mask]).mean()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, MAX_GRAD_NORM)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    flops = step_flops(shape, num_parameters, rows, tokens, adapts=adapts)
    return Step(run, num_parameters, rows * tokens, flops)


def new_model(shape: Shape, device: torch.device, **options: Any) -> PreTrainedModel:
    """Return a model of this shape with random weights in bfloat16."""
    config = AutoConfig.for_model(
        "qwen3",
        hidden_size=shape.hidden,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.kv_heads,
        head_dim=shape.head_dim,
        intermediate_size=shape.intermediate,
        vocab_size=shape.vocab,
        tie_word_embeddings=True,
    )
    torch.manual_seed(0)
    with torch.device(device):
        model: Any = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16, **options)
    return model  # type: ignore[no-any-return]


def completion_start(tokens: int) -> int:
    """Return where the completion of a row begins."""
    return tokens // PROMPT_SHARE


def new_batch(shape: Shape, rows: int, tokens: int, device: torch.device) -> Batch:
    size = (rows, tokens)
    return Batch(
        input_ids=torch.randint(shape.vocab, size, device=device),
        attention_mask=torch.ones(size, dtype=torch.bool, device=device),
        loss_mask=(torch.arange(tokens, device=device) >= completion_start(tokens)).expand(size),
        advantages=torch.randn(rows, 1, device=device).expand(size),
    )


def step_flops(shape: Shape, num_parameters: int, rows: int, tokens: int, *, adapts: bool) -> float:
    """6 N for each token, and causal attention: 12 * layers * its width * (tokens / 2) for each token.

    N counts the tied embedding once: as the head. Where the head runs only on counted tokens it does less than this. Frozen
    weights have no gradient of their own: 4 N. What is recomputed does not count.
    """
    of_weights = (4.0 if adapts else 6.0) * num_parameters
    return rows * tokens * (of_weights + 6.0 * shape.layers * shape.heads * shape.head_dim * tokens)
