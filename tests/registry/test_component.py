"""Component: a fresh instance whenever asked, and what its author stated."""

from typing import TYPE_CHECKING

import pytest

import plugrad
from plugrad import BatchLossInputs, DataError, LossInputs, OptionError, PluginError, advantage, loss
from plugrad.registry.bind import bind
from plugrad.registry.resolve import Source, load, resolve
from plugrad.registry.scan import scan


class Counting:
    """A loss with state."""

    def __init__(self, start: int = 0, step: int = 1):
        self.count, self.step = start, step

    def __call__(self, inputs):
        self.count += self.step
        return self.count


def bound(target, kind="loss", **options):
    name = getattr(target, "__name__", "it")
    return bind(Source(kind, f"mine:{name}", name, f"mine:{name}"), target, options)


def test_a_class_is_made_anew_each_time():
    component = bound(Counting, start=10)
    first, second = component.create(), component.create()
    assert (first(None), first(None), second(None)) == (11, 12, 11)


def test_the_options_of_a_class_are_its_constructors():
    assert bound(Counting, step=3).options == {"start": 0, "step": 3}
    with pytest.raises(OptionError, match=r"'Counting' \(mine\) has no option 'strat'\. Did you mean 'start'\?"):
        bound(Counting, strat=1)


def test_options_of_a_class_are_checked_by_type():
    with pytest.raises(OptionError, match="the option 'start' is '1', which is not int"):
        bound(Counting, start="1")


def test_a_constructor_that_raises_is_the_plugins_failure():
    class Picky:
        def __init__(self, size: int = 1):
            raise OSError("no such device")

        def __call__(self, inputs): ...

    with pytest.raises(
        PluginError, match=r"the loss 'Picky' \(mine\) cannot be created with size=3: OSError: no such device"
    ) as caught:
        bound(Picky, size=3).create()
    assert isinstance(caught.value.__cause__, OSError)


def test_an_error_that_the_constructor_raises_on_purpose_is_not_wrapped():
    class Refusing:
        def __init__(self):
            raise DataError("there is no such file")

        def __call__(self, inputs): ...

    with pytest.raises(DataError, match=r"^there is no such file$"):
        bound(Refusing).create()


def test_an_environment_may_be_made_by_a_function():
    def make(digits: int = 2):
        return ["environment", digits]

    component = bound(make, kind="environment", digits=3)
    assert component.create() == ["environment", 3]
    assert component.create() is not component.create()


@pytest.mark.parametrize("target", [lambda: None, lambda *, inputs: None, lambda **inputs: None])
def test_a_function_without_inputs_is_refused(target):
    with pytest.raises(PluginError, match=r"takes no inputs\. The first parameter of an advantage is its inputs"):
        bound(target, kind="advantage")


def test_a_class_that_cannot_be_called_is_refused():
    class Silent: ...

    with pytest.raises(PluginError, match=r"the metric 'Silent' \(mine\) is a class without `__call__\(self, inputs\)`"):
        bound(Silent, kind="metric")


def test_a_class_whose_call_takes_no_inputs_is_refused():
    class Deaf:
        def __call__(self): ...

    with pytest.raises(PluginError, match=r"the loss 'Deaf' .* takes no inputs"):
        bound(Deaf)


def test_what_has_no_signature_is_refused():
    with pytest.raises(PluginError, match="has no readable signature"):
        bound(dict)


def by_name(inputs: "BatchLossInputs"): ...


def by_module(inputs: "plugrad.BatchLossInputs"): ...


def by_class(inputs: BatchLossInputs): ...


class Callable:
    def __call__(self, inputs: "BatchLossInputs"): ...


if TYPE_CHECKING:
    from plugrad import BatchLossInputs as Unresolvable


def unresolved(inputs: "BatchLossInputs", other: "Unresolvable" = None): ...


def quoted_twice(inputs: "'BatchLossInputs'", other: "Unresolvable" = None): ...


@pytest.mark.parametrize("target", [by_name, by_module, by_class, Callable, Callable(), unresolved, quoted_twice])
def test_a_loss_annotated_with_the_batch_takes_the_batch(target):
    assert bound(target).form == "batch"


def test_any_other_loss_takes_a_sequence():
    def annotated(inputs: LossInputs): ...

    assert bound(annotated).form == "sequence"
    assert bound(Counting).form == "sequence"
    assert bound(lambda inputs, other=BatchLossInputs: None).form == "sequence"


def test_facts_and_needs_are_those_of_the_marker():
    @loss(needs=lambda options: {"entropy"} if options["weight"] else set(), reduction="sequence")
    def regularised(inputs, weight: float = 0.0): ...

    assert bound(regularised).facts.reduction == "sequence"
    assert bound(regularised).needs == frozenset()
    assert bound(regularised, weight=0.1).needs == {"entropy"}


def test_only_losses_and_metrics_have_needs():
    assert bound(lambda inputs: None, kind="advantage").needs == frozenset()
    assert bound(Counting, kind="extension").facts is None


def test_the_marker_of_another_kind_is_refused():
    marked = advantage(min_rollouts_per_example=2)(lambda inputs: None)
    with pytest.raises(PluginError, match="marked with @advantage but used where @loss is expected"):
        bound(marked)


def test_needs_that_raise_are_reported_with_their_owner(tmp_path):
    (tmp_path / "mine.py").write_text(
        "from plugrad import loss\n@loss(needs=lambda options: options['nothing'])\ndef mine(inputs):\n    ...\n"
    )
    source = resolve("loss", "mine.py:mine", scan(), [tmp_path])
    with pytest.raises(PluginError, match=r"the loss 'mine' \(.*mine.py\) cannot tell what it needs: .*KeyError: 'nothing'"):
        _ = bind(source, load(source), {}).needs
