"""The groups of parameters that an optimizer updates, each with its rates: of the policy, its critic and the losses."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn
from torch.nn import Parameter

from plugrad.config.run_file import RunFile
from plugrad.config.tables.optimizer_table import OptimizerTable
from plugrad.config.tables.own_optimizer_table import OwnOptimizerTable
from plugrad.config.tables.parameter_group_table import ParameterGroupTable
from plugrad.errors import RunFileError
from plugrad.host.loss import BoundLoss
from plugrad.host.trained_module import key_of
from plugrad.policy.policy import Policy
from plugrad.registry.wording import some_of
from plugrad.shown import shown


@dataclass(frozen=True)
class Rates:
    """How the parameters of a group are updated."""

    lr: float
    weight_decay: float


@dataclass(frozen=True)
class ParameterGroup:
    """Parameters with the same rates."""

    parameters: list[Parameter]
    rates: Rates
    of_layers: bool = False
    """Whether they are matrices inside of the policy's layers, and the optimizer has them apart."""

    def for_optimizer(self, *, decays: bool) -> dict[str, Any]:
        """Return the group as PyTorch has it."""
        decay = {"weight_decay": self.rates.weight_decay} if decays else {}
        return {"params": self.parameters, "lr": self.rates.lr, **decay}


def parameter_groups(
    policy: Policy, run_file: RunFile, losses: Sequence[BoundLoss], *, matrices_apart: bool = False
) -> list[ParameterGroup]:
    """Return the groups: those of the policy, the rates of `[optimizer]` first; then of its critic, and of each loss.

    Raises:
        RunFileError: one of `[[optimizer.groups]]` has no parameters.
    """
    table = run_file.optimizer
    rates = _rates_of_policy(policy.model, table)
    apart = _matrices_of_layers(policy.model) if matrices_apart else set()
    of_policy = _sorted_out(rates, apart, first=Rates(table.lr, table.weight_decay))
    return [*of_policy, *_of_critic(policy, run_file), *_of_losses(policy, table, losses)]


def _rates_of_policy(model: nn.Module, table: OptimizerTable) -> dict[Parameter, Rates]:
    names = _names(model)
    chosen = {parameter: _chosen(of_it, table.groups) for parameter, of_it in names.items()}
    for place, group in enumerate(table.groups):
        if place not in chosen.values():
            raise _no_parameters(place, group, names)
    spared = _spared(model) if table.no_decay else set()
    return {
        parameter: _rates(table, None if place is None else table.groups[place], is_spared=parameter in spared)
        for parameter, place in chosen.items()
    }


def _of_critic(policy: Policy, run_file: RunFile) -> Iterator[ParameterGroup]:
    critic, table = policy.critic, run_file.optimizer
    if critic is None:
        return
    lr = (run_file.critic and run_file.critic.lr) or table.lr
    spared = _spared(critic) if table.no_decay else set()
    rates = {p: Rates(lr, 0.0 if p in spared else table.weight_decay) for p in _trained(critic.parameters())}
    yield from _sorted_out(rates, apart=set(), first=Rates(lr, table.weight_decay))


def _of_losses(policy: Policy, table: OptimizerTable, losses: Sequence[BoundLoss]) -> Iterator[ParameterGroup]:
    for loss in losses:
        if loss.trains:
            of_loss = loss.optimizer or OwnOptimizerTable()
            own = _trained(policy.trained[key_of(loss.label)].parameters())
            yield ParameterGroup(own, Rates(of_loss.lr or table.lr, of_loss.weight_decay))


def _sorted_out(rates: Mapping[Parameter, Rates], apart: Collection[Parameter], first: Rates) -> list[ParameterGroup]:
    """Return the parameters in groups. The rate of the first group is the one that a run records."""
    groups: dict[tuple[Rates, bool], list[Parameter]] = {}
    for parameter, its in rates.items():
        groups.setdefault((its, parameter in apart), []).append(parameter)
    found = [ParameterGroup(parameters, its, of_layers) for (its, of_layers), parameters in groups.items()]
    return sorted(found, key=lambda group: group.rates != first)


def _rates(table: OptimizerTable, group: ParameterGroupTable | None, *, is_spared: bool) -> Rates:
    decay = 0.0 if is_spared else table.weight_decay
    if group is None:
        return Rates(table.lr, decay)
    return Rates(group.lr or table.lr, decay if group.weight_decay is None else group.weight_decay)


def _names(model: nn.Module) -> dict[Parameter, list[str]]:
    """Return the trainable parameters with all their names: a tied weight has two."""
    names: dict[Parameter, list[str]] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        if parameter.requires_grad:
            names.setdefault(parameter, []).append(name)
    return names


def _chosen(names: Sequence[str], groups: Sequence[ParameterGroupTable]) -> int | None:
    return next((place for place, group in enumerate(groups) if any(map(group.pattern.search, names))), None)


def _no_parameters(place: int, group: ParameterGroupTable, names: Mapping[Parameter, Sequence[str]]) -> RunFileError:
    asked = f"optimizer.groups.{place}: match = {shown(group.match)}"
    if any(map(group.pattern.search, (name for of_it in names.values() for name in of_it))):
        return RunFileError(
            f"{asked} has no parameters: groups before it match them all, and the first that matches counts."
        )
    listed = some_of([of_it[0] for of_it in names.values()], most=12)
    return RunFileError(f"{asked} matches none of the policy's trainable parameters: {listed}.")


def _spared(module: nn.Module) -> set[Parameter]:
    """Return what no weight decay is usual for: vectors, which are biases and the weights of norms, and embeddings."""
    return {p for p in module.parameters() if p.dim() < 2} | _embeddings(module)


def _matrices_of_layers(model: nn.Module) -> set[Parameter]:
    outputs = getattr(model, "get_output_embeddings", lambda: None)()
    outside = _embeddings(model) | set(() if outputs is None else outputs.parameters())
    return {parameter for parameter in model.parameters() if parameter.dim() == 2 and parameter not in outside}


def _embeddings(module: nn.Module) -> set[Parameter]:
    return {p for each in module.modules() if isinstance(each, nn.Embedding) for p in each.parameters()}


def _trained(parameters: Iterable[Parameter]) -> list[Parameter]:
    return [parameter for parameter in parameters if parameter.requires_grad]
