"""The manager: extensions wrap core in the order of the run file."""

import pytest

from plugrad import PluginError, hookimpl
from plugrad.registry.bind import bind
from plugrad.registry.manager import build_manager
from plugrad.registry.resolve import Source


class Core:
    """Returns its inputs, which are numbers here."""

    @hookimpl
    def prepare_advantages(self, inputs):
        return inputs

    @hookimpl
    def before_update(self):
        return True


class Doubles:
    @hookimpl(wrapper=True)
    def prepare_advantages(self, inputs):
        return 2 * (yield)


class AddsOne:
    @hookimpl(wrapper=True)
    def prepare_advantages(self, inputs):
        return 1 + (yield)


def manager_of(*extensions):
    components = [
        bind(Source("extension", f"mine:{e.__name__}", e.__name__, f"mine:{e.__name__}"), e, {}) for e in extensions
    ]
    return build_manager(Core(), [(component, component.create()) for component in components])


def test_the_extension_listed_first_changes_the_inputs_first():
    assert manager_of(Doubles, AddsOne).hook.prepare_advantages(inputs=10) == 21
    assert manager_of(AddsOne, Doubles).hook.prepare_advantages(inputs=10) == 22


def test_one_extension_may_be_used_twice():
    assert manager_of(Doubles, Doubles).hook.prepare_advantages(inputs=10) == 40


def test_managers_do_not_share_extensions():
    manager_of(Doubles)
    assert manager_of().hook.prepare_advantages(inputs=10) == 10


def test_a_computing_hook_must_be_wrapped():
    class Replaces:
        @hookimpl
        def compute_loss(self, component, inputs):
            return 0

    with pytest.raises(
        PluginError, match=r"the extension 'Replaces' \(mine\) implements 'compute_loss' without wrapping it"
    ):
        manager_of(Replaces)


def test_the_other_hooks_need_no_wrapper():
    class Skips:
        @hookimpl
        def before_update(self, grad_norm):
            return grad_norm < 1

    hook = manager_of(Skips).hook
    assert hook.before_update(grad_norm=2.0, loss=0.0) == [False, True]
    assert hook.before_update(grad_norm=0.5, loss=0.0) == [True, True]


def test_an_unknown_hook_is_refused_with_a_suggestion():
    class Misspelt:
        @hookimpl
        def on_step_ends(self, step): ...

    with pytest.raises(PluginError, match=r"implements 'on_step_ends', which is no hook\. Did you mean 'on_step_end'\?"):
        manager_of(Misspelt)


def test_a_hook_may_be_implemented_under_another_name():
    class Renamed:
        @hookimpl(wrapper=True, specname="prepare_advantages")
        def negate(self, inputs):
            return -(yield)

    assert manager_of(Renamed).hook.prepare_advantages(inputs=10) == -10


def test_an_extension_without_hooks_is_refused():
    class Forgot:
        def on_step_end(self, step, measures): ...

    with pytest.raises(
        PluginError, match=r"'Forgot' .* implements no hook\. Mark its methods with @plugrad\.hookimpl\. Hooks: "
    ):
        manager_of(Forgot)


def test_other_arguments_than_the_hooks_are_refused():
    class Greedy:
        @hookimpl
        def on_step_end(self, step, metrics): ...

    with pytest.raises(PluginError, match=r"the extension 'Greedy' \(mine\) cannot be registered: (.|\n)*metrics"):
        manager_of(Greedy)
