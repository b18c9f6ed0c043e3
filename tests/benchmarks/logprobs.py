"""What log-probs and entropy without logits cost beside the matrix products they need: `python -m nox -s bench -- logprobs`.

The head is of the size of Qwen2.5-0.5B's. Times are medians over rounds in which all candidates are called in turn. Memory
is the peak resident set (VmHWM) of a fresh process for each candidate, less what was resident before and the gradients.
"""

import subprocess
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Callable
from pathlib import Path
from statistics import median

import torch
from measuring import against_goal, in_turn, middle_half, new_table, show
from torch import Tensor

from plugrad.policy.blocks import EntropyMode
from plugrad.policy.logprobs import scores_from_logits, token_scores

STATUS = Path("/proc/self/status")
NUM_PRODUCTS = {"fused": 4, "fused, entropy": 4, "fused, frozen head": 2, "fused, frozen head, entropy": 3}
"""Products the size of the logits that a candidate is compared with."""
GOAL_TIMES_PRODUCTS = 1.25
GOAL_ENTROPY_PERCENT = 10.0
GOAL_MEMORY = 0.1
"""Of the plain path's."""


class Problem:
    """Hidden states, a head and targets."""

    def __init__(self, arguments: Namespace, *, frozen: bool) -> None:
        generator = torch.Generator().manual_seed(0)
        self.hidden = torch.randn(arguments.tokens, arguments.hidden, generator=generator).requires_grad_()
        self.weight = torch.randn(arguments.vocab, arguments.hidden, generator=generator).mul_(0.03)
        self.weight.requires_grad_(not frozen)
        self.targets = torch.randint(arguments.vocab, (arguments.tokens,), generator=generator)

    def gradients(self, *, fused: bool, entropy: EntropyMode) -> tuple[Tensor, ...]:
        """Run forward and backward pass."""
        if fused:
            scores = token_scores(self.hidden, self.weight, None, self.targets, temperature=1.0, entropy=entropy)
        else:
            logits = self.hidden @ self.weight.T
            scores = scores_from_logits(logits, self.targets, temperature=1.0, entropy=entropy)
        totals = [values.sum() for values in scores if values is not None]
        return torch.autograd.grad(totals, [t for t in (self.hidden, self.weight) if t.requires_grad])


def candidate(label: str, arguments: Namespace) -> Callable[[], tuple[Tensor, ...]]:
    """Return the call that a label such as "fused, frozen head, entropy" names."""
    problem = Problem(arguments, frozen="frozen" in label)
    entropy: EntropyMode = "gradient" if "entropy" in label else "none"
    return lambda: problem.gradients(fused=label.startswith("fused"), entropy=entropy)


def products(arguments: Namespace) -> dict[str, Callable[[], object]]:
    """Return two, three and four matrix products as the gradients need them, into memory that is there already."""
    problem = Problem(arguments, frozen=True)
    hidden, weight = problem.hidden.detach(), problem.weight
    logits = hidden @ weight.T
    by_hidden, by_weight = torch.empty_like(hidden), torch.empty_like(weight)

    def forward() -> None:
        torch.mm(hidden, weight.T, out=logits)

    def to_hidden() -> None:
        torch.mm(logits, weight, out=by_hidden)

    def to_weight() -> None:
        torch.mm(logits.T, hidden, out=by_weight)

    parts = {2: [forward, to_hidden], 3: [forward, to_hidden, to_hidden], 4: [forward, forward, to_hidden, to_weight]}
    return {f"{number} products": lambda calls=calls: [call() for call in calls] for number, calls in parts.items()}


def peak_bytes() -> int:
    """Return the most memory that was ever resident in this process."""
    line = next(line for line in STATUS.read_text().splitlines() if line.startswith("VmHWM"))
    return 1024 * int(line.split()[1])


def memory_of(label: str, arguments: Namespace) -> int:
    """Return the bytes that a candidate needs beside its inputs and gradients; for a process of its own."""
    candidate(label, Namespace(tokens=2, hidden=2, vocab=4))()
    call = candidate(label, arguments)
    before = peak_bytes()
    gradients = call()
    return peak_bytes() - before - sum(gradient.nbytes for gradient in gradients)


def measured_memory(label: str, arguments: Namespace) -> int:
    """Return `memory_of` in a fresh process."""
    sizes = [f"--{name}={getattr(arguments, name)}" for name in ("tokens", "hidden", "vocab")]
    command = [sys.executable, __file__, f"--memory-of={label}", *sizes]
    return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def show_memory(arguments: Namespace) -> None:
    """Show the memory of the plain and of the fused path."""
    table = new_table("PATH", "MEMORY, MB", "OF THE PLAIN PATH", "GOAL")
    for suffix in ("", ", entropy", ", frozen head", ", frozen head, entropy"):
        plain, fused = (measured_memory(path + suffix, arguments) for path in ("plain", "fused"))
        table.add_row(f"plain{suffix}", f"{plain / 1e6:.0f}", "1", "")
        share = fused / plain
        table.add_row(
            f"fused{suffix}", f"{fused / 1e6:.0f}", f"{share:.3f}", against_goal([share], GOAL_MEMORY, ".1f", "of it")
        )
    show("Peak memory beside inputs, weights and gradients", table)


def show_times(arguments: Namespace) -> None:
    """Show the time of each candidate beside its matrix products."""
    labels = ["plain", "plain, entropy", *NUM_PRODUCTS]
    calls: dict[str, Callable[[], object]] = {label: candidate(label, arguments) for label in labels}
    seconds = in_turn({**products(arguments), **calls}, rounds=arguments.rounds)
    table = new_table("FORWARD AND BACKWARD", "S", "MIDDLE HALF", "TIMES PRODUCTS", "GOAL")
    for label, own in seconds.items():
        row = [label, f"{median(own):.3f}", middle_half(own, ".3f")]
        if label in NUM_PRODUCTS:
            reference = seconds[f"{NUM_PRODUCTS[label]} products"]
            ratios = [one / other for one, other in zip(own, reference, strict=True)]
            row += [f"{median(ratios):.2f}", against_goal(ratios, GOAL_TIMES_PRODUCTS, ".2f", f"x {NUM_PRODUCTS[label]}")]
        table.add_row(*row)
    show(f"{arguments.tokens} tokens, hidden size {arguments.hidden}, vocabulary {arguments.vocab}, float32", table)
    show_entropy(seconds)


def show_entropy(seconds: dict[str, list[float]]) -> None:
    """Show by how much the entropy with its gradient makes it longer."""
    table = new_table("ENTROPY", "LONGER, %", "MIDDLE HALF", "GOAL")
    pairs = zip(seconds["fused, entropy"], seconds["fused"], strict=True)
    longer = [100 * (one / other - 1) for one, other in pairs]
    goal = against_goal(longer, GOAL_ENTROPY_PERCENT, ".0f", "%")
    table.add_row("with gradient, trained head", f"{median(longer):+.1f}", middle_half(longer, "+.1f"), goal)
    show("What the entropy costs", table)


def main() -> None:
    """Show memory and times, or print the memory of one path."""
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--tokens", type=int, default=1024)
    parser.add_argument("--hidden", type=int, default=896)
    parser.add_argument("--vocab", type=int, default=151_936)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--memory-of")
    arguments = parser.parse_args()
    if arguments.memory_of:
        sys.stdout.write(f"{memory_of(arguments.memory_of, arguments)}\n")
        return
    if STATUS.exists():
        show_memory(arguments)
    show_times(arguments)


if __name__ == "__main__":
    main()
