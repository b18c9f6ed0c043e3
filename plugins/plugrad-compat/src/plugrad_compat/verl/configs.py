"""The configs of verl's losses and estimators: two classes, since verl's own code asserts that it got the right one."""

from __future__ import annotations

from plugrad_compat.adapters.config import Config


class ActorConfig(Config):
    """A loss's config: the run file's values over the defaults of verl's actor."""


class AlgoConfig(Config):
    """An estimator's config: the run file's values over the defaults of verl's algorithm."""
