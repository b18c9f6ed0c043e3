"""What calling a loss once a sequence costs beside one call for the batch: `python -m nox -s bench -- sequence_adapter`."""

from collections.abc import Callable
from pathlib import Path
from statistics import median

import ppo_clip_styles
import torch
from measuring import in_turn, middle_half, new_table, show
from torch import Tensor

from plugrad import BatchLossInputs, LoadedLoss, load

BATCH_SIZES = (64, 512)
PROMPT = 8
LEAST_COUNTED, MOST_COUNTED = 8, 32
ROUNDS = 15
MILLI = 1e3
LOSSES = {"batch form": "in_batch_form", **ppo_clip_styles.STYLES}


def draw_inputs(num_sequences: int) -> BatchLossInputs:
    """Return prompts and completions of unequal length, padded at the right."""
    generator = torch.Generator().manual_seed(0)
    shape = (num_sequences, PROMPT + MOST_COUNTED)
    logprobs = -torch.rand(shape, generator=generator)
    ends = PROMPT + torch.randint(LEAST_COUNTED, MOST_COUNTED + 1, (num_sequences, 1), generator=generator)
    positions = torch.arange(shape[1])
    return BatchLossInputs(
        trainer_logprobs=(logprobs + 0.2 * torch.randn(shape, generator=generator)).requires_grad_(),
        inference_logprobs=logprobs,
        advantages=torch.randn(num_sequences, 1, generator=generator).expand(shape),
        loss_mask=(positions >= PROMPT) & (positions < ends),
    )


def gradient(loss: LoadedLoss, inputs: BatchLossInputs) -> Tensor:
    """Return the gradient of the summed loss: one forward and one backward pass, down to the log-probs."""
    found = loss(inputs).loss
    total = found.sum() if found.ndim == 1 else torch.where(inputs.loss_mask, found, 0.0).sum()
    return torch.autograd.grad(total, inputs.trainer_logprobs)[0]


def load_losses() -> dict[str, LoadedLoss]:
    """Return the loss in every form."""
    file = Path(ppo_clip_styles.__file__)
    return {label: load("loss", f"{file}:{function}") for label, function in LOSSES.items()}


def check_that_they_agree(losses: dict[str, LoadedLoss], inputs: BatchLossInputs) -> None:
    """Raise unless every form has the gradient of the batch form: else their times could not be compared."""
    expected = gradient(losses["batch form"], inputs)
    for loss in losses.values():
        torch.testing.assert_close(gradient(loss, inputs), expected)


def calls(losses: dict[str, LoadedLoss], inputs: BatchLossInputs) -> dict[str, Callable[[], object]]:
    """Return the forward pass, and forward and backward pass, of every form."""
    timed: dict[str, Callable[[], object]] = {}
    for label, loss in losses.items():
        timed[f"{label}: forward"] = lambda loss=loss: loss(inputs)
        timed[label] = lambda loss=loss: gradient(loss, inputs)
    return timed


def main() -> None:
    """Show one table a batch size."""
    torch.set_num_threads(1)
    losses = load_losses()
    for num_sequences in BATCH_SIZES:
        inputs = draw_inputs(num_sequences)
        check_that_they_agree(losses, inputs)
        seconds = in_turn(calls(losses, inputs), rounds=ROUNDS)
        table = new_table("PPO-CLIP", "FORWARD, MS", "AND BACKWARD, MS", "MIDDLE HALF", "TIMES BATCH FORM", "US A SEQUENCE")
        for label in losses:
            whole = median(seconds[label])
            table.add_row(
                label,
                f"{MILLI * median(seconds[f'{label}: forward']):.2f}",
                f"{MILLI * whole:.2f}",
                middle_half(seconds[label], ".2f", MILLI),
                f"{whole / median(seconds['batch form']):.1f}",
                f"{1e6 * whole / num_sequences:.0f}",
            )
        show(f"{num_sequences} sequences of {LEAST_COUNTED} to {MOST_COUNTED} counted tokens after {PROMPT}", table)


if __name__ == "__main__":
    main()
