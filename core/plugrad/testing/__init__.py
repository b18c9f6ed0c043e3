"""The kit for authors of plugins and engines: checks, and the two fakes that tests may use."""

from plugrad.testing.engines import check_engine as check_engine
from plugrad.testing.losses import check_micro_batches_add_up as check_micro_batches_add_up
from plugrad.testing.models import tiny_model as tiny_model
from plugrad.testing.models import tiny_tokenizer as tiny_tokenizer

__all__ = ["check_engine", "check_micro_batches_add_up", "tiny_model", "tiny_tokenizer"]
