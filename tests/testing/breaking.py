"""A note at each broken component: which check is made for it."""

from collections.abc import Callable


def noted(mark: Callable[..., Callable] = lambda: lambda target: target):
    """Return a table of broken components by name, and the decorator that fills it.

    The decorator takes the checks that the component must fail, the one made for it first, and facts for its marker.
    """
    broken: dict[str, tuple[Callable, set[str]]] = {}

    def breaks(*checks: str, **facts):
        def note(target):
            broken[target.__name__] = (target, set(checks))
            return mark(**facts)(target)

        return note

    return broken, breaks
