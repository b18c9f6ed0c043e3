"""The kit for authors of plugins and engines: checks of what they promise, and the two fakes that tests may use.

`__init__.pyi` lists the names. Each is imported on first use: a check of a metric need not import Transformers.
"""

from plugrad.lazy_names import attach

__getattr__, __dir__, __all__ = attach(__name__, __file__)
