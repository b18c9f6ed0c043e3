"""The kit for authors of plugins and engines: checks, and the two fakes that tests may use."""

from plugrad.testing.engines import check_engine as check_engine
from plugrad.testing.models import tiny_model as tiny_model
from plugrad.testing.models import tiny_tokenizer as tiny_tokenizer

__all__ = ["check_engine", "tiny_model", "tiny_tokenizer"]
