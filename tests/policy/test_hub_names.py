"""Names of models that are neither a folder nor a hub id, or are a folder's with a slip."""

import pytest

from plugrad import ModelError, RunFileError
from plugrad.config.tables.model_table import FrozenModelTable, ModelTable
from plugrad.policy.loading import load_model, load_tokenizer
from plugrad.policy.loading_beside import load_frozen
from plugrad.policy.model_folder import cause_of
from plugrad.testing import tiny_model, tiny_tokenizer


@pytest.fixture
def models(tmp_path, monkeypatch):
    """A folder `models/small` with a model, in the working directory, without a connection to the hub."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    folder = tmp_path / "models" / "small"
    tiny_model().save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    return tmp_path


NO_FOLDER = "there is no model folder"
SLIPS = {
    "models/smal": r"no folder of that name in {here}\. Did you mean 'small'\? Check the path, or give a hub id",
    "./models/smal": NO_FOLDER + r" './models/smal' in {here}\. Did you mean 'small'\?",
    "models/smal/": NO_FOLDER + r" 'models/smal/' in {here}\. Did you mean 'small'\?",
    "runs/first/model": NO_FOLDER + " 'runs/first/model' in {here}",
    "~/no/such/folder": NO_FOLDER,
    "models\\smal": NO_FOLDER,
    "my model": NO_FOLDER,
    "https://huggingface.co/org/model": NO_FOLDER,
    "": "name|model",
    "a\x1b[31mb": r"a\\+x1b\[31mb",
    "a\x00b": "NUL character",
    "n" * 5_000: "n" * 90,
    "models/small/config.json": "is a file. Give the folder of a model",
    "models": "holds no model: it has no config.json",
    "small": r"no folder of that name in {here}",
}


@pytest.mark.parametrize("name", SLIPS, ids=[name[:20] for name in SLIPS])
def test_a_slip_in_a_folder_is_answered_with_where_it_was_looked_up(models, name):
    with pytest.raises((ModelError, RunFileError), match=SLIPS[name].format(here=models)) as caught:
        load_model(ModelTable(name=name).with_absolute_paths([models]), [], [models])
    assert len(str(caught.value)) < 900
    assert str(caught.value).isprintable()


def test_a_folder_of_nearly_that_name_is_told_before_the_hub_is_asked(models, caplog):
    with pytest.raises(ModelError) as caught:
        load_model(ModelTable(name="modles"), [])
    assert "There is no model folder 'modles', so the hub is asked for it. Did you mean 'models'?" in caplog.text
    caplog.clear()
    with pytest.raises(ModelError):
        load_model(ModelTable(name="gpt2"), [])
    assert "asked" not in caplog.text
    assert "at '" not in str(caught.value)


def test_a_reference_to_documentation_is_left_out_whole():
    said = "We couldn't connect. Check your connection or see how to run the library in offline mode at "
    error = OSError(f"{said}'https://huggingface.co/docs/transformers/installation#offline-mode'.")
    assert cause_of(error) == "OSError: We couldn't connect. Check your connection"


def test_a_frozen_model_names_its_own_table(models):
    policy = ModelTable(name="models/small")
    with pytest.raises(ModelError, match=r"\[model.teacher\] name = './smaller'"):
        load_frozen(FrozenModelTable(name="./smaller"), policy, tiny_tokenizer(), "teacher", [models])


@pytest.mark.parametrize("name", ["models/smal", "./models/smal", "models"])
def test_the_tokenizer_of_a_slip_is_answered_like_the_model(models, name):
    with pytest.raises(ModelError, match=SLIPS[name].format(here=models)):
        load_tokenizer(ModelTable(name=name), [], [models])
