"""What each loss of plugrad-policy costs beside core's `ppo_clip`: `python tests/benchmarks/catalogue.py`."""

from collections.abc import Callable, Mapping
from importlib import import_module
from pkgutil import iter_modules
from statistics import median

import torch
from measuring import against_goal, in_turn, middle_half, new_table, show
from torch import Tensor

from plugrad import BatchLossInputs, LoadedLoss, load

NUM_SEQUENCES = 512
LONGEST = 512
MEDIAN_LENGTH, SPREAD = 100.0, 0.6
"""Of the lengths: log-normal, the spread is that of their logarithm."""
ROUNDS = 41
MICRO = 1e6
GOAL = 3.0
"""Times `ppo_clip`."""
PACKAGE = "plugrad_policy.losses"
BASELINE = "ppo_clip (core)"


def draw_inputs() -> BatchLossInputs:
    """Return completions of log-normal length, padded at the right, from a policy that has moved a little."""
    generator = torch.Generator().manual_seed(0)
    normal = torch.randn(NUM_SEQUENCES, 1, generator=generator)
    lengths = (MEDIAN_LENGTH * (SPREAD * normal).exp()).clamp(1, LONGEST).long()
    shape = (NUM_SEQUENCES, int(lengths.max()))

    def moved(logprobs: Tensor) -> Tensor:
        return logprobs + 0.1 * torch.randn(shape, generator=generator)

    logprobs = -torch.rand(shape, generator=generator) - 0.5
    return BatchLossInputs(
        trainer_logprobs=moved(logprobs).requires_grad_(),
        inference_logprobs=logprobs,
        teacher_logprobs=moved(logprobs),
        advantages=torch.randn(NUM_SEQUENCES, 1, generator=generator).expand(shape),
        loss_mask=torch.arange(shape[1]) < lengths,
        old_logprobs=moved(logprobs),
        ref_logprobs=moved(logprobs),
        entropy=torch.rand(shape, generator=generator).requires_grad_(),
    )


def load_losses() -> dict[str, LoadedLoss]:
    """Return core's loss, and every loss of the package with its defaults: a module with a function of its own name."""
    package = import_module(PACKAGE)
    names = [module.name for module in iter_modules(package.__path__)]
    losses = [name for name in names if hasattr(import_module(f"{PACKAGE}.{name}"), name)]
    return {BASELINE: load("loss", "ppo_clip")} | {name: load("loss", f"{PACKAGE}.{name}:{name}") for name in losses}


def calls(losses: Mapping[str, LoadedLoss], inputs: BatchLossInputs) -> dict[str, Callable[[], object]]:
    """Return the forward and backward pass of each, down to the log-probs or the entropy."""
    assert inputs.entropy is not None
    leaves = [inputs.trainer_logprobs, inputs.entropy]

    def gradient(loss: LoadedLoss) -> object:
        total = torch.where(inputs.loss_mask, loss(inputs).loss, 0.0).sum()
        return torch.autograd.grad(total, leaves, allow_unused=True)

    return {name: lambda loss=loss: gradient(loss) for name, loss in losses.items()}


def main() -> None:
    """Show one table."""
    torch.set_num_threads(1)
    inputs = draw_inputs()
    seconds = in_turn(calls(load_losses(), inputs), rounds=ROUNDS, warm_up=2)
    table = new_table("LOSS", "FORWARD AND BACKWARD, US", "MIDDLE HALF", "TIMES PPO_CLIP", "GOAL")
    for name, taken in sorted(seconds.items(), key=lambda item: median(item[1])):
        ratios = [each / beside for each, beside in zip(taken, seconds[BASELINE], strict=True)]
        row = f"{MICRO * median(taken):.0f}", middle_half(taken, ".0f", MICRO), f"{median(ratios):.2f}"
        table.add_row(name, *row, against_goal(ratios, GOAL, ".0f", "times"))
    tokens = int(inputs.loss_mask.sum())
    show(f"{NUM_SEQUENCES} sequences of log-normal length, {tokens} tokens in {inputs.loss_mask.numel()} slots", table)


if __name__ == "__main__":
    main()
