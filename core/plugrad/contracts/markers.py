"""Markers: facts that an author states about a plugin. They register nothing and import no torch."""

from __future__ import annotations

import sys
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal, TypeVar, get_args, overload

from plugrad.contracts.needs import ALWAYS_GIVEN, KNOWN_NEEDS, TeacherDivergence
from plugrad.contracts.wrong_needs import passes_wrong, wrong_divergence
from plugrad.errors import PluginError, did_you_mean, with_article
from plugrad.shown import shown

Plugin = TypeVar("Plugin", bound=Callable[..., Any])
Options = Mapping[str, Any]
Need = str | TeacherDivergence
Needs = Collection[Need] | Callable[[Options], Collection[Need]]
Decided = bool | Callable[[Options], bool]
CheckExample = Callable[[Mapping[str, Any], Options], object]
Reduction = Literal["token", "sequence", "sequence_sum", "constant", "group"]

REDUCTIONS: tuple[str, ...] = get_args(Reduction)
FACTS_ATTRIBUTE = "__plugrad_facts__"

DIVERGENCE = "teacher_divergence"

CallableReference = Annotated[str, "plugrad: a reference to a callable"]
"""Annotation of an option whose value is `module:function` or `file.py:function`. plugrad looks the file up beside the run
file and records its absolute path. `plugrad.resolve_callable` turns the value into the function."""


@dataclass(frozen=True)
class LossFacts:
    """What `@loss` states. The defaults apply to a function without the marker."""

    needs: Needs = frozenset()
    reduction: Reduction = "token"
    policy_gradient: bool | None = None
    cut_dependent: bool = False
    sums_tokens: bool = True
    whole_batch: bool = False
    passes: int = 1
    min_rollouts_per_example: int = 1
    replayed: Decided = False
    check_example: CheckExample | None = None

    @property
    def mixes_sequences(self) -> bool:
        """Whether the loss of a sequence depends on others."""
        return self.cut_dependent or self.whole_batch


@dataclass(frozen=True)
class AdvantageFacts:
    """What `@advantage` states."""

    min_rollouts_per_example: int = 1
    needs: Needs = frozenset()
    mixes_groups: bool = False
    order_dependent: bool = False
    signal_from_equal_rewards: bool = False
    opposes_rewards: bool = False


@dataclass(frozen=True)
class MetricFacts:
    """What `@metric` states."""

    needs: Needs = frozenset()
    evaluation: bool = True


Facts = LossFacts | AdvantageFacts | MetricFacts


MARKERS: dict[type, str] = {LossFacts: "@loss", AdvantageFacts: "@advantage", MetricFacts: "@metric"}


@overload
def loss(plugin: Plugin, /) -> Plugin: ...
@overload
def loss(
    *,
    needs: Needs = ...,
    reduction: Reduction = ...,
    policy_gradient: bool | None = ...,
    cut_dependent: bool = ...,
    sums_tokens: bool = ...,
    whole_batch: bool = ...,
    passes: int = ...,
    min_rollouts_per_example: int = ...,
    replayed: Decided = ...,
    check_example: CheckExample | None = ...,
) -> Callable[[Plugin], Plugin]: ...
def loss(
    plugin: Plugin | None = None,
    /,
    *,
    needs: Needs = frozenset(),
    reduction: Reduction = "token",
    policy_gradient: bool | None = None,
    cut_dependent: bool = False,
    sums_tokens: bool = True,
    whole_batch: bool = False,
    passes: int = 1,
    min_rollouts_per_example: int = 1,
    replayed: Decided = False,
    check_example: CheckExample | None = None,
) -> Plugin | Callable[[Plugin], Plugin]:
    """State facts about a loss. `@loss` alone is `@loss()`.

    Args:
        needs: the optional fields of `LossInputs` that the loss reads, or a function from its bound options to them.
        reduction: the reduction of its paper. A run file may choose another.
        policy_gradient: the loss raises the log-prob of a token with a positive advantage, and has no gradient where the
            advantage is zero. Left out: the second part is not promised. False: neither is the first, and `plugrad check`
            does not test the sign.
        cut_dependent: the loss mixes the rows of a micro-batch, so its value depends on how the batch is cut. Write
            `whole_batch` instead, unless it needs logits or hidden states, which exist for one micro-batch at a time, or
            draws random numbers for each micro-batch.
        sums_tokens: the loss of a sequence is a sum over its tokens, as the reductions expect. False: it is a value of the
            sequence as a whole, such as a mean.
        whole_batch: the loss mixes sequences, and is called once per update with those of all micro-batches and ranks. The
            update is then exact at any cut, for one more forward pass without gradient. It takes `BatchLossInputs`.
        passes: with the need `again`, the number of passes through the policy with gradient: the first, and one for each
            call of `inputs.again`. They are in memory together, so that a micro-batch holds as many tokens less.
        min_rollouts_per_example: the minimum number of rollouts per example. It is checked before a model loads.
        replayed: the loss tells completions apart by their place among an example's `references`, so the engine must replay
            them: sampled ones have no order. True, or a function from its bound options to True or False.
        check_example: a function of an example and the bound options that raises where the loss cannot use the example. It
            is called before a model loads, with every example that the loss counts.

    Raises:
        PluginError: an unknown need or reduction, both `cut_dependent` and `whole_batch`, `passes` that do not fit the
            needs, or it marks no function or class.
    """
    of_examples = (min_rollouts_per_example, replayed, check_example)
    facts = LossFacts(needs, reduction, policy_gradient, cut_dependent, sums_tokens, whole_batch, passes, *of_examples)
    return _mark(_usable(facts), plugin)


def _usable(facts: LossFacts) -> LossFacts:
    """Return the facts of a loss with its needs as a set.

    Raises:
        PluginError: they do not fit together.
    """
    if facts.cut_dependent and facts.whole_batch:
        raise PluginError(
            "@loss(cut_dependent=True, whole_batch=True): a loss that sees the whole batch does not depend on the cut. "
            f"Drop cut_dependent.{_author()}"
        )
    if facts.reduction not in REDUCTIONS:
        raise PluginError(
            f"@loss(reduction={facts.reduction!r}): unknown reduction.{did_you_mean(str(facts.reduction), REDUCTIONS)} "
            f"Write one of {', '.join(REDUCTIONS)}.{_author()}"
        )
    known = _checked("loss", facts.needs, KNOWN_NEEDS["loss"])
    wrong = passes_wrong(facts.passes, None if callable(known) else known, whole_batch=facts.whole_batch)
    if wrong:
        raise PluginError(f"@loss({wrong}{_author()}")
    return replace(facts, needs=known)


@overload
def advantage(plugin: Plugin, /) -> Plugin: ...
@overload
def advantage(
    *,
    min_rollouts_per_example: int = ...,
    needs: Needs = ...,
    mixes_groups: bool = ...,
    order_dependent: bool = ...,
    signal_from_equal_rewards: bool = ...,
    opposes_rewards: bool = ...,
) -> Callable[[Plugin], Plugin]: ...
def advantage(
    plugin: Plugin | None = None,
    /,
    *,
    min_rollouts_per_example: int = 1,
    needs: Needs = frozenset(),
    mixes_groups: bool = False,
    order_dependent: bool = False,
    signal_from_equal_rewards: bool = False,
    opposes_rewards: bool = False,
) -> Plugin | Callable[[Plugin], Plugin]:
    """State facts about an advantage. `@advantage` alone is `@advantage()`.

    Args:
        min_rollouts_per_example: the minimum number of rollouts per example. It is checked before a model loads.
        needs: the optional fields of `AdvantageInputs` that it reads, or a function from its bound options to them.
        mixes_groups: a group's advantages depend on the other groups, for example through a normalisation over the batch.
        order_dependent: the order of rollouts and examples matters, for example to a running mean.
        signal_from_equal_rewards: a group of equal rewards may have non-zero advantages, for example if the baseline is not
            the group's mean.
        opposes_rewards: a rollout with a higher reward may have a lower advantage, for example if rewards are costs.

    Raises:
        PluginError: an unknown need, or it marks no function or class.
    """
    known = _checked("advantage", needs, KNOWN_NEEDS["advantage"])
    facts = AdvantageFacts(
        min_rollouts_per_example, known, mixes_groups, order_dependent, signal_from_equal_rewards, opposes_rewards
    )
    return _mark(facts, plugin)


@overload
def metric(plugin: Plugin, /) -> Plugin: ...
@overload
def metric(*, needs: Needs = ..., evaluation: bool = ...) -> Callable[[Plugin], Plugin]: ...
def metric(
    plugin: Plugin | None = None, /, *, needs: Needs = frozenset(), evaluation: bool = True
) -> Plugin | Callable[[Plugin], Plugin]:
    """State facts about a metric. `@metric` alone is `@metric()`.

    Args:
        needs: the optional fields of `MetricInputs` that the metric reads, or a function from its bound options to them.
        evaluation: False: it says nothing about held-out completions, and does not run on them.

    Raises:
        PluginError: an unknown need, or it marks no function or class.
    """
    return _mark(MetricFacts(_checked("metric", needs, KNOWN_NEEDS["metric"]), evaluation), plugin)


def facts_of(target: object, default: Facts) -> Facts:
    """Return what the marker on `target` states, or `default`."""
    facts = getattr(target, FACTS_ATTRIBUTE, default)
    if not isinstance(facts, type(default)):
        raise PluginError(
            f"{getattr(target, '__name__', target)!r} is marked with {MARKERS[type(facts)]} but used where "
            f"{MARKERS[type(default)]} is expected: name it under the table of its own kind, or correct its marker."
        )
    return facts


def needs_of(facts: Facts, options: Options) -> frozenset[str]:
    """Return the fields that are needed with these bound options."""
    return frozenset(need if isinstance(need, str) else DIVERGENCE for need in _asked(facts, options))


def divergence_of(facts: Facts, options: Options) -> TeacherDivergence | None:
    """Return the divergence from the teacher that is needed with these bound options."""
    return next((need for need in _asked(facts, options) if isinstance(need, TeacherDivergence)), None)


def _asked(facts: Facts, options: Options) -> frozenset[Need]:
    kind = MARKERS[type(facts)].removeprefix("@")
    if not callable(facts.needs):
        return frozenset(facts.needs)
    code = getattr(facts.needs, "__code__", None)
    where = f" See {code.co_filename}, line {code.co_firstlineno}." if code else ""
    return frozenset(_checked(kind, facts.needs(options), KNOWN_NEEDS[kind], where))  # type: ignore[arg-type]


def _author() -> str:
    """Return file and line of the code that uses a marker: what is wrong there is its author's."""
    frame = sys._getframe(1)
    while frame.f_back and frame.f_code.co_filename == __file__:
        frame = frame.f_back
    return f" See {frame.f_code.co_filename}, line {frame.f_lineno}."


def _mark(facts: Facts, plugin: Plugin | None) -> Plugin | Callable[[Plugin], Plugin]:
    marker = MARKERS[type(facts)]
    if plugin is not None and not callable(plugin):
        raise PluginError(f"{marker}({shown(plugin)}) marks no function or class. Write {marker}(needs=...).{_author()}")

    def mark(target: Plugin) -> Plugin:
        setattr(target, FACTS_ATTRIBUTE, facts)
        return target

    return mark if plugin is None else mark(plugin)


def _checked(kind: str, needs: Needs, known: frozenset[str], where: str = "") -> Needs:
    if callable(needs):
        return needs
    asked: set[Need] = {needs} if isinstance(needs, str | TeacherDivergence) else set(needs)
    divergences = [need for need in asked if isinstance(need, TeacherDivergence)]
    if DIVERGENCE in asked or len(divergences) > (kind == "loss"):
        raise PluginError(wrong_divergence(kind, divergences) + (where or _author()))
    for need in sorted(map(str, asked - known - set(divergences))):
        names = sorted(known - ALWAYS_GIVEN - {DIVERGENCE})
        divergence = " or a TeacherDivergence" if DIVERGENCE in known else ""
        raise PluginError(
            f"@{kind}(needs={{{need!r}}}): unknown need.{did_you_mean(need, known)} "
            f"{with_article(kind).capitalize()} may need {', '.join(names)}{divergence}.{where or _author()}"
        )
    return frozenset(asked)
