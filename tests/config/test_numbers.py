"""Every number of every table: finite, and within what the parts of a run can hold."""

import math
import types
import typing
from typing import Annotated

import pytest

from plugrad import RunFile, RunFileError
from plugrad.config.rank_shares import check_shares
from plugrad.config.tables.table import Table

TABLES = {"model": {"name": "a/model"}, "environment": {"name": "arithmetic"}}
HARMLESS = {
    *((key, value) for key in ("optimizer.max_grad_norm", "rollout.parity_bound") for value in (math.inf, 1e300)),
    # In effect 0, which these keys may be.
    *((key, 1e-300) for key in ("loss.weight", "optimizer.betas", "optimizer.weight_decay", "evaluation.stop_at_reward")),
    *((key, 1e-300) for key in ("loss.optimizer.weight_decay", "optimizer.groups.weight_decay", "optimizer.warmup_ratio")),
    ("model.lora.dropout", 1e-300),
    ("evaluation.pass_reward", 1e-300),
    # A checkpoint after every step.
    ("checkpoint.every_minutes", 1e-300),
}


def types_in(annotation):
    """Return the plain types in an annotation: those of a union, of a list, or below an annotation."""
    origin, args = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is Annotated:
        return types_in(args[0])
    if origin in (typing.Union, types.UnionType, list):
        return {each for arg in args for each in types_in(arg)}
    return {annotation}


def numbers_of(table, path=()):
    """Yield every key that holds a number, with its type, in this table and those below it."""
    for name, field in table.model_fields.items():
        for found in types_in(field.annotation):
            if isinstance(found, type) and issubclass(found, Table):
                yield from numbers_of(found, (*path, name))
            elif found in (int, float):
                yield ".".join((*path, name)), found


NUMBERS = dict(numbers_of(RunFile))


def with_value(key, value):
    *tables, name = key.split(".")
    given = {name: value}
    for table in reversed(tables):
        named = {"loss": {"name": "a"}, "groups": {"match": "*"}}.get(table, {})
        given = {table: {**named, **given}}
    merged = {**TABLES, **given}
    return RunFile(**merged)


def test_the_keys_with_numbers_are_found():
    assert {"seed", "optimizer.lr", "loss.weight", "rollout.server.retries", "evaluation.stop_at_reward"} <= NUMBERS.keys()
    assert len(NUMBERS) > 25


def bad_values():
    for key, kind in sorted(NUMBERS.items()):
        floats = [math.inf, -math.inf, math.nan, 1e300, -1e300, 1e-300]
        values = floats if kind is float else [2**63, -(2**63), 10**30]
        yield from ((key, value) for value in values if (key, value) not in HARMLESS)


@pytest.mark.parametrize(("key", "value"), list(bad_values()))
def test_a_number_that_a_run_cannot_use_is_refused(key, value):
    given = [value, 0.5] if key == "optimizer.betas" else value
    with pytest.raises(RunFileError, match=key):
        with_value(key, given)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("seed", -1),
        ("seed", 2**32),
        ("preflight_timeout_s", 1e300),
        ("rollout.server.timeout_s", 1e10),
        ("rollout.server.num_servers", 10**6),
        ("rollout.temperature", 1e-30),
        ("rollout.temperature", 1e30),
        ("rollout.prompts_per_step", 10**9),
        ("rollout.rollouts_per_example", 10**9),
    ],
)
def test_a_number_out_of_range_is_refused(key, value):
    with pytest.raises(RunFileError, match=key.rpartition(".")[2]):
        with_value(key, value)


@pytest.mark.parametrize(
    ("key", "value"), [("seed", 2**32 - 1), ("optimizer.max_grad_norm", math.inf), ("loss.weight", -1.0)]
)
def test_numbers_at_the_edge_are_taken(key, value):
    with_value(key, value)


def test_the_shares_of_very_many_prompts_are_proposed_at_once():
    # 9,999,991 is a prime, so the search for another number of processes would try them all.
    run_file = RunFile(**TABLES, rollout={"prompts_per_step": 9_999_991, "rollouts_per_example": 1})
    with pytest.raises(RunFileError, match="to 9999990 or 9999992, or train with 1 process"):
        check_shares(run_file, 2)
