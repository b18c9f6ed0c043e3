"""plugrad: a plugin ecosystem for reinforcement-learning post-training of language models.

Everything that a plugin or a user imports is here. `__init__.pyi` lists the names. Each is imported on first use, so
`import plugrad` does not import torch.
"""

import sys

# Python runs this before the module of -m. The imports below must not find a file of the working directory.
if sys.argv[:1] == ["-m"]:
    from plugrad.run_as_module import leave_out_first_folder

    leave_out_first_folder()

from plugrad.lazy_names import attach

__version__ = "0.1.0"
"""The version of plugrad."""

__getattr__, __dir__, _names = attach(__name__, __file__)
__all__ = ["__version__", *_names]  # noqa: PLE0604
