"""The checks of an extension. To add one, write a promise in one of these modules; `PROMISES` collects them.

- `updates`: what happens to tokens, gradients and the update.
- `extension_values`: return values of the right type, finite, repeatable and determined by the inputs.
- `extension_steps`: what it remembers from step to step.
- `runs`: a short run with the extension.

`portable`, one level up, has the promises of every kind. The inputs are drawn by the modules of the other kinds.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from plugrad.testing.checks import Check, Promise, checks_of_promises
from plugrad.testing.components import ComponentLike, component_of
from plugrad.testing.extensions.extension_steps import RESUMES
from plugrad.testing.extensions.extension_trial import ExtensionTrial
from plugrad.testing.extensions.extension_values import RUNS, VALUES
from plugrad.testing.extensions.runs import RUN
from plugrad.testing.extensions.updates import UPDATES
from plugrad.testing.portable import PORTABLE

PROMISES: tuple[Promise[Any], ...] = (RUNS, *UPDATES, *VALUES, RESUMES, *PORTABLE, RUN)


def extension_checks(
    extension: ComponentLike,
    *,
    options: Mapping[str, Any] | None = None,
    strict: bool = False,
    example: Mapping[str, Any] | None = None,
) -> Iterator[Check]:
    """Yield a check of each promise of an extension.

    Args:
        extension: a name, `module:class`, `file.py:class`, or the class itself.
        options: its options; the rest keep their defaults.
        strict: also check what plugrad itself does not rely on; extensions have no such checks.
        example: columns of the examples behind the trial's rollouts, beside those that every example has.

    Raises:
        PlugradError: it is not found, or does not take these options.
    """
    component = component_of(extension, "extension", options)
    yield from checks_of_promises(PROMISES, component, ExtensionTrial(component), example)
