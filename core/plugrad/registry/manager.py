"""Register: put core's hooks and the selected extensions into a fresh pluggy manager."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pluggy

from plugrad import hookspecs
from plugrad.errors import PluginError, did_you_mean
from plugrad.registry.bind import Component
from plugrad.registry.blame import Blamed, told


def build_manager(host: object, extensions: Sequence[tuple[Component, Any]]) -> pluggy.PluginManager:
    """Return a manager in which `host` implements the hooks and `extensions` wrap them, the first one innermost.

    Raises:
        PluginError: an extension has no hook, an unknown hook, or a hook with other arguments.
    """
    manager = pluggy.PluginManager("plugrad")
    manager.add_hookspecs(hookspecs)
    manager.register(host, name="plugrad")
    # Pluggy calls the last registered first. So the wrapper registered first is innermost: it is the first to see and
    # change what core returned.
    for index, (component, extension) in enumerate(extensions):
        _register(manager, component, extension, name=f"{index}:{component.name}")
    manager.check_pending()
    return manager


def _register(manager: pluggy.PluginManager, component: Component, extension: Any, name: str) -> None:
    with Blamed(
        str(component),
        lambda error: PluginError(f"{component} cannot be registered: reading its attributes raised {told(error)}"),
    ):
        hooks = {attribute: manager.parse_hookimpl_opts(extension, attribute) for attribute in dir(extension)}
    hooks = {attribute: options for attribute, options in hooks.items() if options}
    known = [attribute for attribute in vars(manager.hook) if not attribute.startswith("_")]
    if not hooks:
        raise PluginError(
            f"{component} implements no hook. Mark its methods with @plugrad.hookimpl. Hooks: {', '.join(known)}."
        )
    for attribute, options in hooks.items():
        assert options is not None
        hook = options.get("specname") or attribute
        if hook not in known:
            raise PluginError(f"{component} implements {hook!r}, which is no hook.{did_you_mean(hook, known)}")
        if hook in hookspecs.COMPUTING_HOOKS and not (options.get("wrapper") or options.get("hookwrapper")):
            raise PluginError(
                f"{component} implements {hook!r} without wrapping it, so it would replace core's implementation and every "
                "extension before it. Write @plugrad.hookimpl(wrapper=True), then `result = yield`, and return the result."
            )
    try:
        manager.register(extension, name=name)
    except pluggy.PluginValidationError as error:
        raise PluginError(f"{component} cannot be registered: {error}") from error
