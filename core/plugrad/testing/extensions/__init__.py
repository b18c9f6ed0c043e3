"""What every extension promises, whoever wrote it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from plugrad.testing.checks import Check, Promise
from plugrad.testing.components import ComponentLike, component_of
from plugrad.testing.extensions.extension_trial import ExtensionTrial
from plugrad.testing.extensions.extension_values import RUNS, VALUES
from plugrad.testing.extensions.runs import RUN
from plugrad.testing.extensions.updates import UPDATES
from plugrad.testing.portable import PORTABLE

PROMISES: tuple[Promise[Any], ...] = (RUNS, *UPDATES, *VALUES, *PORTABLE, RUN)


def extension_checks(
    extension: ComponentLike, *, options: Mapping[str, Any] | None = None, strict: bool = False
) -> Iterator[Check]:
    """Yield a check of each promise of an extension.

    Args:
        extension: a name, `module:class`, `file.py:class`, or the class itself.
        options: its options; the others take their defaults.
        strict: ask also for what plugrad does not rely on; of an extension there is nothing more.

    Raises:
        PlugradError: it cannot be found, or does not take these options.
    """
    component = component_of(extension, "extension", options)
    trial = ExtensionTrial(component)
    for promise in PROMISES:
        yield Check(promise, component, trial)
