"""plugrad: a plugin ecosystem for reinforcement-learning post-training of language models.

Everything that a plugin or a user imports is here. `__init__.pyi` lists the names. Each is imported on first use, so
`import plugrad` does not import torch.
"""

from plugrad.lazy_names import attach

__version__ = "0.1.0"
"""The version of plugrad."""

__getattr__, __dir__, _names = attach(__name__, __file__)
__all__ = ["__version__", *_names]  # noqa: PLE0604
