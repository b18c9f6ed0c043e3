"""What the ranks of a run must have in common: what decides the result, and not where it lies on each host."""

import copy

import pytest

from plugrad.host.environment import BoundEnvironment
from plugrad.host.select import select
from plugrad.registry.provenance import record
from plugrad.trainer.ranks.agreement import identity


@pytest.fixture
def resolved(run_file):
    """The record of a run and its environment."""
    selection = select(run_file())
    return record(selection.components()), BoundEnvironment.create(selection.environment)


def changed(resolved, change):
    plugins, environment = resolved
    other = copy.deepcopy(plugins)
    change(other)
    assert other != plugins
    return identity(other, environment) != identity(plugins, environment)


@pytest.mark.parametrize(
    "change",
    [
        lambda plugins: plugins["components"][0].update(location="/another/host/site-packages"),
        lambda plugins: plugins["components"][0].update(origin={"url": "file:///another/host"}),
        lambda plugins: plugins.update(origin={"url": "file:///another/host"}),
        lambda plugins: plugins["versions"].update(python="3.11.99"),
        lambda plugins: plugins["versions"].update(vllm="0.99"),
    ],
)
def test_where_things_lie_may_differ(resolved, change):
    assert not changed(resolved, change)


@pytest.mark.parametrize(
    "change",
    [
        lambda plugins: plugins["components"][0].update(sha256="0" * 64),
        lambda plugins: plugins["components"][0].update(version="0.0.1"),
        lambda plugins: plugins["components"][0]["options"].update(num_eval=1),
        lambda plugins: plugins["components"].pop(),
        lambda plugins: plugins["versions"].update(torch="0.1"),
    ],
)
def test_what_decides_the_result_may_not(resolved, change):
    assert changed(resolved, change)
