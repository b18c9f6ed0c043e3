"""Labels: names that are different, for components that are used more than once."""

from __future__ import annotations

from collections.abc import Iterable


def labels_of(names: Iterable[str]) -> list[str]:
    """Return the names, numbered where they repeat: kl, kl_2."""
    labels: list[str] = []
    for name in names:
        label, number = name, 1
        while label in labels:
            number += 1
            label = f"{name}_{number}"
        labels.append(label)
    return labels
