"""What a server's weights are called: vLLM says of each token which label the weights had that sampled it."""

from __future__ import annotations

import re
import secrets
from dataclasses import dataclass

ID_BYTES = 8


@dataclass(frozen=True)
class Labels:
    """The labels of one run. A server that was restarted, or that another run writes to, carries none of them."""

    run_id: str

    @classmethod
    def fresh(cls) -> Labels:
        """Return labels that no other run has."""
        return cls(secrets.token_hex(ID_BYTES))

    def of(self, version: int) -> str:
        """Return the label of the policy's weights of that version. It salts the prefix cache too: vLLM allows no slash."""
        return f"{self.run_id}-{version}"

    @property
    def unfinished(self) -> str:
        """The label of weights that are neither the old nor the new ones."""
        return f"{self.run_id}-unfinished"

    def version_of(self, label: str) -> int | None:
        """Return the version that a label stands for, or None where it is not one of this run's."""
        run_id, _, version = label.rpartition("-")
        return int(version) if run_id == self.run_id and version.isdecimal() else None

    def cover(self, label: str, version: int) -> bool:
        """Return whether a label stands for weights of this run, of that version or a newer one."""
        found = self.version_of(label)
        return found is not None and found >= version


def is_run_id(name: str) -> bool:
    """Return whether this may be the id of a run."""
    return re.fullmatch(rf"[0-9a-f]{{{2 * ID_BYTES}}}", name) is not None
