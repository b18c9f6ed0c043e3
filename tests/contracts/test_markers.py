"""Markers: facts about a plugin, checked where they are stated."""

import pytest

from plugrad import PluginError, advantage, loss, metric
from plugrad.contracts.markers import FACTS_ATTRIBUTE, AdvantageFacts, LossFacts, MetricFacts, facts_of, needs_of


def plain(inputs):
    return inputs


def test_a_marker_states_facts_and_returns_the_function_itself():
    def far(inputs):
        return inputs

    marked = loss(needs={"ref_logprobs"}, reduction="sequence", policy_gradient=True, cut_dependent=True)(far)
    assert marked is far
    assert facts_of(far, LossFacts()) == LossFacts(frozenset({"ref_logprobs"}), "sequence", True, True)


def test_without_a_marker_the_defaults_hold():
    assert facts_of(plain, LossFacts()) == LossFacts(frozenset(), "token", None, False)
    assert facts_of(plain, AdvantageFacts()).min_rollouts_per_example == 1
    assert facts_of(plain, MetricFacts()).needs == frozenset()


def test_the_other_markers_state_their_own_facts():
    @advantage(min_rollouts_per_example=4)
    def compare(inputs): ...

    @metric(needs=["entropy"])
    def watch(inputs): ...

    assert facts_of(compare, AdvantageFacts()) == AdvantageFacts(4)
    assert facts_of(watch, MetricFacts()) == MetricFacts(frozenset({"entropy"}))


def test_a_class_can_be_marked():
    @loss(reduction="group")
    class Stateful:
        def __call__(self, inputs): ...

    assert facts_of(Stateful, LossFacts()).reduction == "group"


MARKED = [(loss, LossFacts()), (advantage, AdvantageFacts()), (metric, MetricFacts())]


@pytest.mark.parametrize(("marker", "default"), MARKED)
def test_a_marker_needs_no_parentheses(marker, default):
    def function(inputs): ...

    class Callable_:
        def __call__(self, inputs): ...

    for target in (function, Callable_):
        assert marker(target) is target
        assert facts_of(target, default) == default
        assert getattr(target, FACTS_ATTRIBUTE) == default


@pytest.mark.parametrize("marker", [marker for marker, _ in MARKED])
@pytest.mark.parametrize("given", ["entropy", {"entropy"}, 3])
def test_a_marker_of_no_function_says_what_to_write_and_where(marker, given):
    name = marker.__name__
    with pytest.raises(
        PluginError, match=rf"^@{name}\(.*\) marks no function .* Write @{name}\(needs=.*test_markers.py, line"
    ):
        marker(given)


def test_one_need_may_be_a_string():
    assert facts_of(loss(needs="entropy")(lambda inputs: None), LossFacts()).needs == {"entropy"}


def test_an_unknown_need_is_refused_with_a_suggestion():
    with pytest.raises(PluginError, match=r"@loss\(needs=\{'ref_logprob'\}\): .* Did you mean 'ref_logprobs'\?") as caught:
        loss(needs={"entropy", "ref_logprob"})
    known = "embedding, entropy, hidden_states, input_ids, logits, old_logprobs, old_values, ref_logprobs, returns, reward"
    teachers = "teacher_logits, teacher_logprobs, values or a TeacherDivergence"
    assert f"A loss may need again, {known}, {teachers}." in str(caught.value)


def test_a_metric_has_its_own_needs():
    with pytest.raises(PluginError, match=r"@metric\(needs=\{'teacher_logprobs'\}\).*A metric may need entropy, old"):
        metric(needs={"teacher_logprobs"})


def test_an_unknown_reduction_is_refused_with_a_suggestion():
    with pytest.raises(PluginError, match=r"@loss\(reduction='sequences'\).* Did you mean 'sequence'\? Write one of token,"):
        loss(reduction="sequences")


def test_needs_may_depend_on_the_options():
    facts = facts_of(
        loss(needs=lambda options: {"teacher_logprobs"} if options["tau"] else set())(lambda inputs: None), LossFacts()
    )
    assert needs_of(facts, {"tau": 0.0}) == frozenset()
    assert needs_of(facts, {"tau": 0.1}) == {"teacher_logprobs"}


def test_what_a_function_of_the_options_returns_is_checked_too():
    facts = facts_of(loss(needs=lambda options: {"teacher"})(lambda inputs: None), LossFacts())
    with pytest.raises(PluginError, match=r"@loss\(needs=\{'teacher'\}\).* Did you mean 'teacher_divergence'"):
        needs_of(facts, {})


@pytest.mark.parametrize(
    ("marker", "used_as", "found", "wanted"),
    [(advantage(), LossFacts(), "@advantage", "@loss"), (loss(), MetricFacts(), "@loss", "@metric")],
)
def test_the_marker_of_another_kind_is_refused(marker, used_as, found, wanted):
    with pytest.raises(PluginError, match=f"is marked with {found} but used where {wanted} is expected"):
        facts_of(marker(lambda inputs: None), used_as)


def test_what_every_loss_gets_may_be_named_as_a_need():
    marked = loss(needs={"metadata", "member", "group_ids", "entropy"})(plain)
    assert facts_of(marked, LossFacts()).needs >= {"metadata", "member"}


def test_a_loss_of_the_whole_batch_does_not_depend_on_the_cut():
    assert facts_of(loss(whole_batch=True)(plain), LossFacts()).mixes_sequences
    with pytest.raises(PluginError, match=r"sees the whole batch does not depend on the cut\. Drop cut_dependent"):
        loss(whole_batch=True, cut_dependent=True)
