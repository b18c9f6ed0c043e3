"""Bind: join a component and its checked options."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Literal

from plugrad.contracts.markers import Facts, divergence_of, facts_of, needs_of
from plugrad.contracts.needs import TeacherDivergence
from plugrad.errors import PluginError
from plugrad.registry.blame import Blamed, told
from plugrad.registry.option_forms import forms_of
from plugrad.registry.options import check_options
from plugrad.registry.resolve import Source
from plugrad.registry.signature import FACTS, form_of, is_constructed
from plugrad.secret_texts import shown_unless_secret


@dataclass(frozen=True)
class Component:
    """A component with its options bound. It holds no state: `create` makes a fresh instance."""

    source: Source
    target: Callable[..., Any]
    options: Mapping[str, Any]
    """Every option that the component names, defaults included."""
    facts: Facts | None
    form: Literal["sequence", "batch"]
    """For a loss: whether it takes one sequence or a micro-batch."""
    given: Mapping[str, Any] = field(default_factory=dict)
    """The options that were written, as they were written."""
    folders: Sequence[Path] = ()
    """Where options that name files were looked up."""
    code: Any = None
    """What its source is read of, where that is not `target`."""

    @cached_property
    def forms(self) -> Mapping[str, Any]:
        """The options that a resolved run file names, as TOML holds them. It leaves out defaults that TOML cannot hold.

        Raises:
            OptionError: no run file could repeat an option that was given. A loop of one's own can use it all the same.
        """
        with Blamed(str(self), self._not_usable):
            return forms_of(self.source, self.target, self.options, self.given, self.folders)

    @property
    def kind(self) -> str:
        """One of the five kinds, such as `loss`."""
        return self.source.kind

    @property
    def name(self) -> str:
        """The name under which its metrics are reported."""
        return self.source.name

    @property
    def needs(self) -> frozenset[str]:
        """The optional inputs that it needs with these options."""
        if self.facts is None:
            return frozenset()
        with Blamed(str(self), self._needs_unknown):
            return needs_of(self.facts, self.options)

    @property
    def divergence(self) -> TeacherDivergence | None:
        """The divergence from the teacher that it needs with these options."""
        if self.facts is None:
            return None
        with Blamed(str(self), self._needs_unknown):
            return divergence_of(self.facts, self.options)

    def __str__(self) -> str:
        return str(self.source)

    def create(self) -> Any:
        """Make what is called: a fresh instance of a class, or the function with its options bound.

        Raises:
            PluginError: the constructor raises.
        """
        if not is_constructed(self.source, self.target):
            return partial(self.target, **self.options)
        with Blamed(str(self), self._not_created):
            return self.target(**self.options)

    def _not_usable(self, error: BaseException) -> PluginError:
        return PluginError(f"{self} cannot be used: reading its signature raised {told(error)}")

    def _needs_unknown(self, error: BaseException) -> PluginError:
        return PluginError(f"{self} cannot tell what it needs: its `needs` function raised {told(error)}")

    def _not_created(self, error: BaseException) -> PluginError:
        options = ", ".join(f"{name}={shown_unless_secret(name, value)}" for name, value in self.options.items())
        return PluginError(f"{self} cannot be created with {options or 'its defaults'}: {told(error)}")


def bind(source: Source, target: Any, options: Mapping[str, Any], folders: Sequence[Path] = ()) -> Component:
    """Check `options` against the signature of `target` and bind them, defaults included.

    Options annotated `Path` or `CallableReference` are looked up in `folders` and become absolute.

    Raises:
        OptionError: an option is unknown, missing, or of the wrong type.
        PluginError: the signature is not one that a plugin can have.
    """
    with Blamed(
        str(source), lambda error: PluginError(f"{source} cannot be used: reading its signature raised {told(error)}")
    ):
        bound = check_options(source, target, options, folders)
        facts = facts_of(target, FACTS[source.kind]) if source.kind in FACTS else None
        return Component(source, target, bound, facts, form_of(source, target), dict(options), folders)
