"""The checks of a component of any kind, and the pytest decorator that runs them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar

from plugrad.errors import PluginError
from plugrad.registry.scan import Kind, known_kind
from plugrad.testing.advantages import advantage_checks
from plugrad.testing.checks import Check, reject_unknown
from plugrad.testing.components import ComponentLike, component_of, kind_of
from plugrad.testing.environments import environment_checks
from plugrad.testing.extensions import extension_checks
from plugrad.testing.losses import loss_checks
from plugrad.testing.metrics import metric_checks

Test = TypeVar("Test", bound=Callable[..., object])

CHECKS: dict[Kind, Callable[..., Iterator[Check]]] = {
    "loss": loss_checks,
    "advantage": advantage_checks,
    "metric": metric_checks,
    "environment": environment_checks,
    "extension": extension_checks,
}


def checks_of(
    component: ComponentLike,
    *,
    kind: Kind | None = None,
    options: Mapping[str, Any] | None = None,
    strict: bool = False,
    example: Mapping[str, Any] | None = None,
) -> list[Check]:
    """Return the checks of a component. The first one checks that it runs at all.

    Args:
        component: a name, `module:function`, `file.py:function`, or the function or class itself.
        kind: by default, that of the installed plugin with this name, or found from its marker or first parameter.
        options: its options; the rest keep their defaults.
        strict: also check what plugrad itself does not rely on.
        example: columns of the examples behind the trial's rollouts, beside those that every example has.

    Raises:
        PlugradError: it is not found, does not import, does not take these options, or could be several kinds.
    """
    kind = kind_of(component) if kind is None else known_kind(kind)
    return list(CHECKS[kind](component_of(component, kind, options), strict=strict, example=example))


def conformance(
    component: ComponentLike,
    *,
    kind: Kind | None = None,
    options: Mapping[str, Any] | None = None,
    strict: bool = False,
    example: Mapping[str, Any] | None = None,
    expected_failures: Mapping[str, str] | None = None,
) -> Callable[[Test], Test]:
    """Parametrize a pytest test with the checks of a component. The test takes one argument, `check`.

    ::

        @conformance("my_idea", kind="loss")
        def test_it_keeps_the_promises_of_a_loss(check):
            check()

    An expected failure must fail. If its check passes, the test fails, so that the declaration gets removed.

    Args:
        component: a name, `module:function`, `file.py:function`, or the function or class itself.
        kind: by default, found from the component.
        options: its options; the rest keep their defaults.
        strict: also check what plugrad itself does not rely on.
        example: columns of the examples behind the trial's rollouts, beside those that every example has.
        expected_failures: reasons by check name.

    Raises:
        PlugradError: it is not found, does not take these options, or an expected failure names no check.
    """
    try:
        import pytest
    except ImportError as error:
        raise PluginError("conformance() needs pytest, which is missing. Install it, or run `plugrad check`.") from error
    expected = expected_failures or {}
    checks = checks_of(component, kind=kind, options=options, strict=strict, example=example)
    reject_unknown(expected, checks)

    def parameter(check: Check) -> Any:
        reason = expected.get(check.name)
        marks = [pytest.mark.xfail(reason=reason, strict=True, raises=AssertionError)] if reason is not None else []
        return pytest.param(check, id=check.name, marks=marks)

    return pytest.mark.parametrize("check", [parameter(check) for check in checks])
