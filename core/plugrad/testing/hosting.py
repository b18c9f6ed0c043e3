"""The host around a component on trial: real hooks, with one extension."""

from __future__ import annotations

from typing import Any

from plugrad.contracts.advantage import AdvantageInputs, AdvantageOutputs
from plugrad.host.advantage import BoundAdvantage
from plugrad.host.hooks import Hooks, Host
from plugrad.registry.bind import Component, bind
from plugrad.registry.resolve import Source


def no_advantage(inputs: AdvantageInputs) -> AdvantageOutputs:
    """Return the rewards as they are: a host has to have an advantage."""
    return AdvantageOutputs(inputs.rewards)


def hooks_around(extension: Any, name: str = "kit") -> Hooks:
    """Return core's hooks with this extension around them."""
    source = Source("extension", f"{__name__}:{name}", name, f"{__name__}:{name}")
    component = Component(source, type(extension), {}, None, "sequence")
    advantage = bind(
        Source("advantage", f"{__name__}:no_advantage", "rewards", f"{__name__}:no_advantage"), no_advantage, {}
    )
    return Hooks(Host(BoundAdvantage(advantage, advantage.create()), []), [(component, extension)])
