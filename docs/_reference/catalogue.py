"""The losses and advantages of core and of plugrad-policy, side by side, and what plugrad-objectives has."""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch

import plugrad
from _reference.components import load_entry
from _reference.docstrings import Docstring, docstring
from _reference.markdown import NOTHING, as_toml, table
from _reference.weights import Weights, picture, weights_of
from plugrad import AdvantageInputs, Rollout
from plugrad.contracts.markers import AdvantageFacts, LossFacts, facts_of
from plugrad.host.load import load_component
from plugrad.registry.options import REQUIRED, Option, options_of
from plugrad.registry.scan import CORE, Catalogue, Entry, Kind, scan
from plugrad.registry.signature import FACTS

PACKAGES = (CORE, "plugrad-policy")
OBJECTIVES = "plugrad-objectives"
SYSTEMS = ("ms-swift", "NeMo RL", "OpenRLHF", "prime-rl", "SkyRL", "slime", "Tinker", "Trinity-RFT", "TRL", "verl")
NAMES_A_SYSTEM = re.compile(rf"(?<![\w-])({'|'.join(map(re.escape, SYSTEMS))})(?![\w-])")
SENTENCE_END = re.compile(rf"(?<=[.?])\s+(?=[A-Z`]|{'|'.join(map(re.escape, SYSTEMS))})")
ARXIV = re.compile(r"arXiv:(\d{4}\.\d{5})")
BEGIN = '<div class="catalogue" markdown="1">'
"""Before a wide table."""
REWARDS, LENGTHS = (1.0, 0.0, 0.0, 0.0), (2, 4, 4, 6)


@dataclass(frozen=True)
class Described:
    """A component, and what its code says of it."""

    entry: Entry
    target: Any
    text: Docstring
    options: list[Option]
    needs: frozenset[str]

    @property
    def facts(self) -> Any:
        """What its marker states."""
        return facts_of(self.target, FACTS[self.entry.kind])

    @property
    def reference(self) -> str:
        """What a run file may call it, whatever else is installed."""
        return f"{self.entry.package}/{self.entry.name}"


def catalogue(which: str) -> str:
    """Return the table of `losses`, `advantages` or `objectives`.

    Raises:
        ValueError: there is no such table, or plugrad-policy is not installed.
    """
    tables = {"losses": losses, "advantages": advantages, "objectives": objectives}
    if which not in tables:
        raise ValueError(f"there is no table of {which!r}. There are {', '.join(tables)}.")
    return tables[which]()


def losses() -> str:
    """Return a row for each loss; terms that do not look at the advantage come last, and have no picture."""
    pictures = loss_pictures()
    rows = sorted(described("loss"), key=lambda found: found.entry.name not in pictures)
    columns = ("loss, and its weight by the ratio", "what it is", "defaults", "other systems")
    return _wide(table(columns, [_loss_row(found, has_picture=found.entry.name in pictures) for found in rows]))


@cache
def loss_pictures() -> Mapping[str, str]:
    """Return the picture of every loss that looks at the advantage, as SVG, by the loss's name."""
    found = {loss.entry.name: _weights(loss) for loss in described("loss")}
    return {name: picture(name, weights) for name, weights in found.items() if weights.look_at_the_advantage}


def advantages() -> str:
    """Return a row for each advantage."""
    columns = ("advantage", "what it is", "for rewards 1, 0, 0, 0", "defaults", "needs", "other systems")
    return _wide(table(columns, [_advantage_row(found) for found in described("advantage")]))


def objectives() -> str:
    """Return a row for each component of plugrad-objectives."""
    columns = ("name", "what it is", "defaults", "other systems")
    kinds: tuple[Kind, ...] = ("loss", "advantage", "metric")
    found = [each for kind in kinds for each in described(kind, (OBJECTIVES,))]
    return _wide(table(columns, [_objective_row(each) for each in found]))


def described(kind: Kind, packages: Sequence[str] = PACKAGES) -> list[Described]:
    """Return every component of one kind of some packages, core's first.

    Raises:
        ValueError: one of the packages has none, or an option has no meaning in its docstring.
    """
    found = scan()
    entries = [entry for entry in found.of_kind(kind) if entry.package in packages]
    missing = sorted(set(packages) - {entry.package for entry in entries})
    if missing:
        raise ValueError(f"{' and '.join(missing)} is not installed: pip install ./plugins/{missing[0]}, and build again.")
    return [_described(entry, found) for entry in entries]


def systems(text: Docstring) -> list[str]:
    """Return what the docstring says of other systems: its sentences that name one, and those of each option."""
    named = {"": text.rest, **{f"`{name}`: ": meaning for name, meaning in text.sections.get("Args", {}).items()}}
    sentences = {prefix: SENTENCE_END.split(" ".join(body.split())) for prefix, body in named.items()}
    found = {prefix: " ".join(filter(NAMES_A_SYSTEM.search, body)) for prefix, body in sentences.items()}
    return [prefix + said for prefix, said in found.items() if said]


def _described(entry: Entry, found: Catalogue) -> Described:
    source, target = load_entry(entry, found)
    options = options_of(source, target)
    if any(option.default is REQUIRED for option in options):
        # Without its options nothing can be bound, nor a function of them be asked.
        stated = facts_of(target, FACTS[entry.kind]).needs
        needs = frozenset[str]() if callable(stated) else frozenset(map(str, stated))
    else:
        needs = load_component(entry.kind, f"{entry.package}/{entry.name}", {}, found, []).needs
    return Described(entry, target, docstring(target), options, needs)


def _weights(found: Described) -> Weights:
    facts = found.facts
    assert isinstance(facts, LossFacts)
    return weights_of(plugrad.load("loss", found.reference), mixes_sequences=facts.mixes_sequences)


def _loss_row(found: Described, *, has_picture: bool) -> Sequence[str]:
    name, drawn = found.entry.name, ""
    if has_picture:
        drawn = f"<br>![{name}: the weight of a token by its ratio](pictures/losses/{name}.svg)"
    return _name(found) + drawn, f"{_what(found)}<br>{_facts(found)}", _defaults(found), _systems(found)


def _objective_row(found: Described) -> Sequence[str]:
    what = f"{_what(found)}<br>{_facts(found)}" if found.entry.kind == "loss" else _what(found)
    return f"`{found.entry.name}`<br><small>{found.entry.kind}</small>", what, _defaults(found), _systems(found)


def _facts(found: Described) -> str:
    needs = ", ".join(f"`{need}`" for need in sorted(found.needs)) or "nothing more"
    by_options = " by default; some options need more" if callable(found.facts.needs) else ""
    mixes = " It sees the whole batch." if found.facts.whole_batch else ""
    cut = " It depends on the cut." if found.facts.cut_dependent else ""
    return f"Needs {needs}{by_options}. Reduction: `{found.facts.reduction}`.{mixes}{cut}"


def _advantage_row(found: Described) -> Sequence[str]:
    facts = found.facts
    assert isinstance(facts, AdvantageFacts)
    fewest = facts.min_rollouts_per_example
    needs = NOTHING if fewest == 1 else f"{fewest} rollouts of an example"
    return _name(found), _what(found), _example(found), _defaults(found), needs, _systems(found)


def _wide(markdown: str) -> str:
    return f"{BEGIN}\n\n{markdown}\n\n</div>"


def _name(found: Described) -> str:
    return f"`{found.entry.name}`<br><small>{found.entry.package}</small>"


def _what(found: Described) -> str:
    return f"{_linked(_module_summary(found.target))}<br>{_formula(found.text.summary)}"


def _module_summary(target: Any) -> str:
    """Return the first paragraph of the docstring of the component's file, which names its paper."""
    text = inspect.getdoc(sys.modules[target.__module__]) or ""
    return " ".join(text.split("\n\n")[0].split())


def _linked(text: str) -> str:
    return ARXIV.sub(r"[arXiv:\1](https://arxiv.org/abs/\1)", text)


def _formula(text: str) -> str:
    return f"`{' '.join(text.replace('`', '').split())}`"


def _defaults(found: Described) -> str:
    values = [(o.name, "required" if o.default is REQUIRED else as_toml(o.default)) for o in found.options]
    return "<br>".join(f"`{name}` {value}" for name, value in values) or NOTHING


def _systems(found: Described) -> str:
    return "<br>".join(_linked(sentence) for sentence in systems(found.text)) or NOTHING


def _example(found: Described) -> str:
    """Return the advantages of one group, of which one rollout was rewarded."""
    group = [_rollout(reward, length) for reward, length in zip(REWARDS, LENGTHS, strict=True)]
    inputs = AdvantageInputs(rollouts=[group], greedy_rewards=torch.zeros(1, dtype=torch.double))
    made = load_component("advantage", found.reference, {}, scan(), []).create()
    values = [float(torch.as_tensor(of_rollout).mean()) for of_rollout in made(inputs).advantages[0]]
    return ", ".join(f"{value:.3g}".replace("-", "&minus;") for value in values)


def _rollout(reward: float, length: int) -> Rollout:
    return Rollout(
        prompt="",
        completion="",
        prompt_ids=[0],
        completion_ids=[0] * length,
        inference_logprobs=[0.0] * length,
        reward=reward,
        reward_components={"reward": reward},
        truncated=False,
        example={},
        metrics={},
        policy_versions=[0] * length,
    )
