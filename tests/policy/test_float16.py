"""A policy is never float16, whoever chooses the dtype; a frozen model may be."""

import pytest
import torch

from plugrad import ModelError, RunFile, RunFileError
from plugrad.config.tables.model_table import FrozenModelTable, ModelTable
from plugrad.policy.loading import load_model
from plugrad.policy.loading_beside import load_frozen
from plugrad.testing import tiny_model, tiny_tokenizer


@pytest.fixture
def half(tmp_path):
    """A folder of float16 weights."""
    tiny_model().to(torch.float16).save_pretrained(tmp_path)
    tiny_tokenizer().save_pretrained(tmp_path)
    return str(tmp_path)


@pytest.mark.parametrize("model", [{"name": "org/model"}, {"from_scratch": {"model_type": "qwen3"}}])
def test_the_run_file_says_why_and_what_to_write(model):
    with pytest.raises(RunFileError, match=r'model.dtype: a policy of float16 .* Write "bfloat16" or "float32"'):
        RunFile(model={**model, "dtype": "float16"}, environment={"name": "arithmetic"})


def test_a_folder_decides_for_float16_only_in_vain(half):
    with pytest.raises(ModelError, match=r'are float16, in which a policy diverges.* model.dtype = "float32" or "bfloat16"'):
        load_model(ModelTable(name=half, dtype="auto"), [])


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float64"])
def test_other_dtypes_load_the_same_folder(half, dtype):
    assert load_model(ModelTable(name=half, dtype=dtype), []).model.dtype == getattr(torch, dtype)


@pytest.mark.parametrize("dtype", ["float16", "auto"])
def test_a_frozen_model_may_be_float16(half, dtype):
    reference = FrozenModelTable(name=half, dtype=dtype)
    assert load_frozen(reference, ModelTable(name=half), tiny_tokenizer()).dtype == torch.float16
