"""What a divergence from a teacher costs beside its matrix products: `python -m nox -s bench -- teacher_divergence`.

Log-probs and one divergence, forward and backward pass, for a student and a teacher of twice its width. Times are medians
over rounds in which all candidates are called in turn. Memory is the peak resident set (VmHWM) of a fresh process for each
candidate, less what was resident before and the gradients.
"""

import subprocess
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Callable
from statistics import median

import torch
from logprobs import STATUS, peak_bytes
from measuring import against_goal, in_turn, middle_half, new_table, show
from torch import Tensor

from plugrad import TeacherDivergence
from plugrad.policy.divergences import LogitSource, compared_scores, compared_scores_from_logits

KINDS = {"forward": "2 sweeps", "reverse": "2 sweeps", "jsd": "3 sweeps"}
"""The matrix products that each kind needs. A sweep forms the logits of both models."""
GOAL_TIMES_PRODUCTS = {"forward": 1.25}
GOAL_MEMORY = {"forward": 0.1}
"""Of the dense path's."""


class Problem:
    """A student with its targets, and a teacher."""

    def __init__(self, arguments: Namespace) -> None:
        generator = torch.Generator().manual_seed(0)
        tokens, vocab = arguments.tokens, arguments.vocab
        self.hidden = torch.randn(tokens, arguments.hidden, generator=generator).requires_grad_()
        self.weight = torch.randn(vocab, arguments.hidden, generator=generator).mul_(0.03).requires_grad_()
        self.targets = torch.randint(vocab, (tokens,), generator=generator)
        teacher_hidden = torch.randn(tokens, arguments.teacher_hidden, generator=generator)
        teacher_weight = torch.randn(vocab, arguments.teacher_hidden, generator=generator).mul_(0.03)
        self.teacher = LogitSource(teacher_hidden, teacher_weight)

    def gradients(self, kind: str, *, fused: bool) -> tuple[Tensor, ...]:
        """Run forward and backward pass."""
        asked = [TeacherDivergence(kind)]  # type: ignore[arg-type]
        if fused:
            scores = compared_scores(
                self.hidden, self.weight, None, self.targets, self.teacher, asked, temperature=1.0, entropy="none"
            )
        else:
            logits, teacher_logits = self.hidden @ self.weight.T, self.teacher.hidden @ self.teacher.weight.T
            scores = compared_scores_from_logits(
                logits, self.targets, teacher_logits, asked, temperature=1.0, entropy="none"
            )
        return torch.autograd.grad(scores.logprobs.sum() + scores.divergences[0].sum(), [self.hidden, self.weight])


def candidate(label: str, arguments: Namespace) -> Callable[[], tuple[Tensor, ...]]:
    """Return the call that a label such as "fused, forward" names."""
    problem = Problem(arguments)
    path, kind = label.split(", ")
    return lambda: problem.gradients(kind, fused=path == "fused")


def products(arguments: Namespace) -> dict[str, Callable[[], object]]:
    """Return the matrix products of two and three sweeps and of the gradients, into memory that is there already."""
    problem = Problem(arguments)
    hidden, weight, teacher = problem.hidden.detach(), problem.weight.detach(), problem.teacher
    logits = hidden @ weight.T
    by_hidden, by_weight = torch.empty_like(hidden), torch.empty_like(weight)

    def run(num_sweeps: int) -> None:
        for _ in range(num_sweeps):
            torch.mm(teacher.hidden, teacher.weight.T, out=logits)
            torch.mm(hidden, weight.T, out=logits)
        torch.mm(logits, weight, out=by_hidden)
        torch.mm(logits.T, hidden, out=by_weight)

    return {f"{number} sweeps": lambda number=number: run(number) for number in (2, 3)}


def memory_of(label: str, arguments: Namespace) -> int:
    """Return the bytes that a candidate needs beside its inputs and gradients; for a process of its own."""
    candidate(label, Namespace(tokens=2, hidden=2, teacher_hidden=2, vocab=4))()
    call = candidate(label, arguments)
    before = peak_bytes()
    gradients = call()
    return peak_bytes() - before - sum(gradient.nbytes for gradient in gradients)


def measured_memory(label: str, arguments: Namespace) -> int:
    """Return `memory_of` in a fresh process."""
    names = ("tokens", "hidden", "teacher_hidden", "vocab")
    sizes = [f"--{name.replace('_', '-')}={getattr(arguments, name)}" for name in names]
    command = [sys.executable, __file__, f"--memory-of={label}", *sizes]
    return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def show_memory(arguments: Namespace) -> None:
    """Show the memory of the dense and of the fused path."""
    table = new_table("PATH", "MEMORY, MB", "OF THE DENSE PATH", "GOAL")
    for kind in KINDS:
        dense, fused = (measured_memory(f"{path}, {kind}", arguments) for path in ("dense", "fused"))
        share = fused / dense
        table.add_row(f"dense, {kind}", f"{dense / 1e6:.0f}", "1", "")
        goal = against_goal([share], GOAL_MEMORY.get(kind), ".1f", "of it")
        table.add_row(f"fused, {kind}", f"{fused / 1e6:.0f}", f"{share:.3f}", goal)
    show("Peak memory beside inputs, weights and gradients", table)


def show_times(arguments: Namespace) -> None:
    """Show the time of each candidate beside its matrix products."""
    labels = [f"{path}, {kind}" for kind in KINDS for path in ("dense", "fused")]
    calls: dict[str, Callable[[], object]] = {label: candidate(label, arguments) for label in labels}
    seconds = in_turn({**products(arguments), **calls}, rounds=arguments.rounds)
    table = new_table("FORWARD AND BACKWARD", "S", "MIDDLE HALF", "TIMES PRODUCTS", "GOAL")
    for label, own in seconds.items():
        row = [label, f"{median(own):.3f}", middle_half(own, ".3f")]
        kind = label.removeprefix("fused, ")
        if kind in KINDS:
            ratios = [one / other for one, other in zip(own, seconds[KINDS[kind]], strict=True)]
            goal = against_goal(ratios, GOAL_TIMES_PRODUCTS.get(kind), ".2f", f"x {KINDS[kind]}")
            row += [f"{median(ratios):.2f}", goal]
        table.add_row(*row)
    sizes = f"hidden sizes {arguments.hidden} and {arguments.teacher_hidden}, vocabulary {arguments.vocab}"
    show(f"{arguments.tokens} tokens, {sizes}, float32", table)


def main() -> None:
    """Show memory and times, or print the memory of one path."""
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--tokens", type=int, default=512)
    parser.add_argument("--hidden", type=int, default=512)
    parser.add_argument("--teacher-hidden", type=int, default=1024)
    parser.add_argument("--vocab", type=int, default=65_536)
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
