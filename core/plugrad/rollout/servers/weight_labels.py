"""Labels for the weights on a server: for each token, vLLM reports the label of the weights that sampled it."""

from __future__ import annotations

import re
import secrets
from dataclasses import dataclass

ID_BYTES = 8
VERSION = re.compile("[0-9]{1,18}")
"""A number that no run exceeds."""


@dataclass(frozen=True)
class WeightLabels:
    """The labels of one run. A server that was restarted, or that another run updates, has none of them."""

    run_id: str

    @classmethod
    def fresh(cls) -> WeightLabels:
        """Return labels that no other run has."""
        return cls(secrets.token_hex(ID_BYTES))

    def label_of(self, version: int) -> str:
        """Return the label of the policy's weights of this version. It also salts the prefix cache: vLLM allows no slash."""
        return f"{self.run_id}-{version}"

    @property
    def unfinished(self) -> str:
        """The label during an update, when the weights are neither the old nor the new ones."""
        return f"{self.run_id}-unfinished"

    def version_of(self, label: str) -> int | None:
        """Return the version that a label stands for, or None if it is not one of this run's labels."""
        run_id, _, version = label.rpartition("-")
        return int(version) if run_id == self.run_id and VERSION.fullmatch(version) else None

    def is_at_least(self, label: str, version: int) -> bool:
        """Return whether a label stands for this run's weights of `version` or newer."""
        found = self.version_of(label)
        return found is not None and found >= version


def is_run_id(name: str) -> bool:
    """Return whether a name has the form of a run id."""
    return re.fullmatch(rf"[0-9a-f]{{{2 * ID_BYTES}}}", name) is not None
