"""What a call through pluggy costs beside the bare function: `python -m nox -s bench -- hook_call`."""

from collections.abc import Callable, Generator
from statistics import median

import pluggy
import torch
from measuring import against_goal, in_turn, middle_half, new_table, show

from plugrad import BatchLossInputs, hookimpl, load
from plugrad.host.advantage import BoundAdvantage
from plugrad.host.hooks import Host
from plugrad.host.load import load_component
from plugrad.host.loss import BoundLoss
from plugrad.registry.manager import build_manager
from plugrad.registry.scan import scan

NUM_WRAPPERS = (0, 1, 2, 4)
GOAL_US = {1: 10.0}
"""By number of wrappers: core and one extension."""
CALLS = 2000
ROUNDS = 25
MICRO = 1e6


class Passing:
    """An extension that changes nothing."""

    @hookimpl(wrapper=True)
    def prepare_loss(
        self, component: BoundLoss, inputs: BatchLossInputs
    ) -> Generator[None, BatchLossInputs, BatchLossInputs]:
        """Pass the inputs on."""
        return (yield)

    @hookimpl(wrapper=True)
    def before_update(self) -> Generator[None, list[bool], list[bool]]:
        """Pass the opinions on."""
        return (yield)


def make_host() -> Host:
    """Return core's own implementation of the hooks."""
    advantage = load_component("advantage", "group_mean", {}, scan(), [])
    return Host(BoundAdvantage(advantage, advantage.create()), metrics=[])


def hooks_with(num_wrappers: int, host: Host) -> pluggy.HookRelay:
    """Return the hooks as a run with that many extensions has them."""
    passing = load_component("extension", f"{__file__}:Passing", {}, scan(), [])
    return build_manager(host, [(passing, passing.create()) for _ in range(num_wrappers)]).hook


def inputs_of_a_loss() -> BatchLossInputs:
    """Return a micro-batch; what is in it does not matter to the hooks."""
    values = torch.zeros(2, 3)
    return BatchLossInputs(
        trainer_logprobs=values, inference_logprobs=values, advantages=values, loss_mask=torch.ones(2, 3, dtype=torch.bool)
    )


def calls_of_prepare_loss() -> dict[str, Callable[[], object]]:
    """Return the bare call and the hooked ones."""
    host, loss, inputs = make_host(), load("loss", "ppo_clip").bound, inputs_of_a_loss()
    calls: dict[str, Callable[[], object]] = {"bare": lambda: host.prepare_loss(component=loss, inputs=inputs)}
    for number in NUM_WRAPPERS:
        hook = hooks_with(number, host).prepare_loss
        calls[str(number)] = lambda hook=hook: hook(component=loss, inputs=inputs)
    return calls


def calls_of_before_update() -> dict[str, Callable[[], object]]:
    """Return the bare call and the hooked ones."""
    host = make_host()
    calls: dict[str, Callable[[], object]] = {"bare": host.before_update}
    for number in NUM_WRAPPERS:
        hook = hooks_with(number, host).before_update
        calls[str(number)] = lambda hook=hook: hook(grad_norm=1.0, loss=0.0)
    return calls


def many(call: Callable[[], object]) -> Callable[[], None]:
    """Return a function that calls often enough for a clock."""

    def repeat() -> None:
        for _ in range(CALLS):
            call()

    return repeat


def measure(hook: str, calls: dict[str, Callable[[], object]]) -> None:
    """Measure and print what each number of wrappers adds to the bare call."""
    seconds = in_turn({name: many(call) for name, call in calls.items()}, rounds=ROUNDS)
    bare = seconds.pop("bare")
    table = new_table("WRAPPERS", "MEDIAN, US", "MIDDLE HALF, US", "GOAL")
    for number, hooked in seconds.items():
        more = [MICRO * (slow - fast) / CALLS for slow, fast in zip(hooked, bare, strict=True)]
        goal = against_goal(more, GOAL_US.get(int(number)), ".0f", "us")
        table.add_row(number, f"{median(more):.2f}", middle_half(more, ".2f"), goal)
    show(f"{hook}: more than the bare call, which takes {MICRO * median(bare) / CALLS:.2f} microseconds", table)


def main() -> None:
    """Show one table a hook: one that returns a result, and one that gathers opinions."""
    measure("prepare_loss", calls_of_prepare_loss())
    measure("before_update", calls_of_before_update())


if __name__ == "__main__":
    main()
