"""Which of the installed components the tests of the kit try."""

from plugrad.registry.options import REQUIRED, options_of
from plugrad.registry.resolve import load, resolve
from plugrad.registry.scan import scan


def ready(kind):
    """Return the installed components of a kind that can be tried with their defaults.

    One with a required option, as an adapter's target is, is tried by its own package's tests.
    """
    entries = [(entry, resolve(kind, f"{entry.package}/{entry.name}", scan())) for entry in scan().of_kind(kind)]
    return [entry for entry, source in entries if all(o.default is not REQUIRED for o in options_of(source, load(source)))]
