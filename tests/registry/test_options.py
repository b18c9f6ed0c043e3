"""Options are checked against the signature before anything runs."""

import logging
import math
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from pydantic import Field

from plugrad import CallableReference, LossInputs, OptionError, PluginError
from plugrad.registry.bind import bind
from plugrad.registry.resolve import Source, resolve
from plugrad.registry.scan import scan


def gspo(inputs: LossInputs, clip_low: float = 3e-4, clip_high: float = 4e-4):
    return clip_low, clip_high


def source(name="gspo", kind="loss"):
    return Source(kind, f"mine:{name}", name, f"mine:{name}")


def options_of(target, given, folders=()):
    return dict(bind(source(target.__name__), target, given, folders).options)


def test_given_options_and_defaults_are_bound():
    component = bind(source(), gspo, {"clip_high": 5e-4})
    assert component.options == {"clip_low": 3e-4, "clip_high": 5e-4}
    assert component.create()(None) == (3e-4, 5e-4)


def test_an_unknown_option_is_refused_with_a_suggestion():
    with pytest.raises(OptionError) as caught:
        bind(source(), gspo, {"clip_hgih": 5e-4})
    assert str(caught.value) == (
        "[loss] 'gspo' (mine) has no option 'clip_hgih'. Did you mean 'clip_high'? "
        "It takes clip_low=0.0003, clip_high=0.0004."
    )


def test_a_component_without_options_takes_none():
    def bare(inputs): ...

    with pytest.raises(OptionError, match=r"^\[loss\] 'bare' \(mine\) has no option 'x'\. It takes no options\.$"):
        options_of(bare, {"x": 1})


def test_the_inputs_are_no_option():
    with pytest.raises(OptionError, match=r"'gspo' \(mine\) has no option 'inputs'"):
        bind(source(), gspo, {"inputs": 1})


def test_a_missing_option_is_named_with_its_type():
    def clipped(inputs, clip: float, low: Literal["a", "b"], high=1.0): ...

    with pytest.raises(OptionError) as caught:
        bind(source("clipped", "advantage"), clipped, {})
    assert str(caught.value) == (
        "[advantage] 'clipped' (mine) needs the option clip (required, float), low (required, Literal['a', 'b']). "
        "Set it with --set, or in a run file under [advantage.kwargs]."
    )


@pytest.mark.parametrize(
    ("annotation", "value"),
    [
        (float, "0.1"),
        (float, True),
        (int, True),
        (int, 2.0),
        (int, "2"),
        (bool, 1),
        (str, 1),
        (float | None, "none"),
        (list[int], [1, "2"]),
        (tuple[int, int], [1, 2, 3]),
        (Literal["token", "sequence"], "tokens"),
        (dict[str, float], {"a": "b"}),
    ],
)
def test_a_mistyped_option_is_refused(annotation, value):
    def mistyped(inputs, option: annotation): ...

    with pytest.raises(OptionError) as caught:
        options_of(mistyped, {"option": value})
    assert str(caught.value).startswith(f"[loss] 'mistyped' (mine): the option 'option' is {value!r}, which is not ")


@pytest.mark.parametrize(
    ("annotation", "value", "reason"),
    [
        (Annotated[float, Field(ge=0)], -0.1, "It should be greater than or equal to 0"),
        (Annotated[float, Field(gt=0)] | None, -1, "It should be greater than 0"),
        (Annotated[int, Field(lt=3)], 3, "It should be less than 3"),
        (Annotated[list[int], Field(min_length=1)], [], "List should have at least 1 item after validation, not 0"),
    ],
)
def test_a_value_beyond_its_limits_is_not_called_another_type(annotation, value, reason):
    def limited(inputs, option: annotation): ...

    with pytest.raises(OptionError) as caught:
        options_of(limited, {"option": value})
    assert str(caught.value) == f"[loss] 'limited' (mine): the option 'option' is {value!r}. {reason}."


def test_the_reason_is_given():
    def chosen(inputs, ratio: Literal["token", "sequence"] = "token", low: Annotated[float, Field(ge=0)] = 0.0): ...

    with pytest.raises(OptionError, match=r"which is not Literal\['token', 'sequence'\] .*should be 'token' or 'sequence'"):
        options_of(chosen, {"ratio": "tokens"})
    with pytest.raises(OptionError, match="should be greater than or equal to 0"):
        options_of(chosen, {"low": -1.0})


@pytest.mark.parametrize(
    ("annotation", "value", "bound"),
    [
        (float, 1, 1.0),
        (float, math.inf, math.inf),
        (tuple[float, float], [1, 2], (1.0, 2.0)),
        (set[str], ["a", "a"], {"a"}),
        (Literal["token", "sequence"], "token", "token"),
        (Any, {"any": [1]}, {"any": [1]}),
    ],
)
def test_what_toml_and_python_can_say_is_accepted(annotation, value, bound):
    def accepting(inputs, option: annotation): ...

    found = options_of(accepting, {"option": value})["option"]
    assert found == bound
    assert type(found) is type(bound)


def test_an_option_without_annotation_is_not_checked():
    def loose(inputs, option="x"): ...

    assert options_of(loose, {"option": 3}) == {"option": 3}


def test_paths_and_references_become_absolute(write, tmp_path):
    def reading(inputs, path: Path, reward: CallableReference, other: Path | None = None): ...

    data, rewards = write("data.jsonl", ""), write("rewards.py", "")
    given = {"path": "data.jsonl", "reward": "rewards.py:score", "other": "data.jsonl"}
    assert options_of(reading, given, [tmp_path / "none", tmp_path]) == {
        "path": data,
        "reward": f"{rewards}:score",
        "other": data,
    }


def test_a_list_of_references_becomes_absolute_one_by_one(write, tmp_path):
    def scored(
        inputs, rewards: CallableReference | list[CallableReference], more: list[CallableReference] | None = None
    ): ...

    rewards = write("rewards.py", "")
    given = {"rewards": ["rewards.py:one", "math:sqrt"], "more": ["rewards.py:two"]}
    assert options_of(scored, given, [tmp_path]) == {
        "rewards": [f"{rewards}:one", "math:sqrt"],
        "more": [f"{rewards}:two"],
    }
    assert options_of(scored, {"rewards": "rewards.py:one"}, [tmp_path])["rewards"] == f"{rewards}:one"
    with pytest.raises(OptionError, match=r"'rewards' is 3, which is not module:function .* \| list of module:function"):
        options_of(scored, {"rewards": 3})


def test_paths_and_references_that_are_not_there_stay(tmp_path):
    def writing(inputs, path: Path, reward: CallableReference): ...

    found = options_of(writing, {"path": "new.jsonl", "reward": "math:sqrt"}, [tmp_path])
    assert found == {"path": Path("new.jsonl"), "reward": "math:sqrt"}


def test_a_missing_reference_says_what_it_is():
    def scored(inputs, reward: CallableReference): ...

    with pytest.raises(OptionError, match=r"reward \(required, module:function or file\.py:function\)"):
        options_of(scored, {})


def test_a_published_component_names_its_options(install):
    install("plugrad-alice", {"plugrad.losses": {"zigzag": "zigzag_loss:zigzag"}})

    def zigzag(inputs, clip=0.1, **kwargs): ...

    with pytest.raises(PluginError, match=r"\(plugrad-alice 1\.0\) takes \*\*kwargs, so a misspelt option would be lost"):
        bind(resolve("loss", "zigzag", scan()), zigzag, {})


def test_ones_own_function_may_take_anything_with_a_notice(caplog):
    def loose(inputs, clip: float = 0.1, **rest):
        return clip, rest

    with caplog.at_level(logging.WARNING, "plugrad"):
        component = bind(source("loose"), loose, {"clpi": 0.2})
    assert "the loss 'loose' (mine) takes **rest: its options cannot be checked." in caplog.messages
    assert component.create()(None) == (0.1, {"clpi": 0.2})
    with pytest.raises(OptionError, match="'clip' is 'x', which is not float"):
        bind(source("loose"), loose, {"clip": "x"})
