"""What verl hands losses and estimators as config: two classes, since its own code asserts that it got the right one."""

from __future__ import annotations

from plugrad_compat.adapters.config import Config


class ActorConfig(Config):
    """A loss's config: what the run file says, above the defaults of verl's actor."""


class AlgoConfig(Config):
    """An estimator's config: what the run file says, above the defaults of verl's algorithm."""
