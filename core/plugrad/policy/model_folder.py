"""Read a model's folder: what is damaged, missing or unsafe in it becomes a ModelError that names file and cause."""

from __future__ import annotations

import json
import logging
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from transformers import GenerationConfig

from plugrad.errors import ModelError, did_you_mean
from plugrad.paths import open_bytes, read_bytes, read_text
from plugrad.shown import printable, shown

logger = logging.getLogger("plugrad")

LFS_POINTER = b"version https://git-lfs"
TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "tokenizer.model", "vocab.json", "vocab.txt", "tekken.json")
HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[\w.-]+)?", re.ASCII)
"""The form of a hub id: a name, or an owner and a name."""
LONGEST_HUB_ID = 200
BEGINNING = 256
MOST_CHARACTERS = 300
"""The most of a library's message: some list every known model, or repeat a value of the file."""
MOST = {"layers": 10_000, "experts": 1_000_000}
"""More than any model has. Doge has 16,384 experts."""
OF_TRANSFORMERS = re.compile(r"( or see [^'.]* at)? *'?https://huggingface\.co/docs\S*")
"""A reference to its documentation, with the words that introduce it."""


@contextmanager
def reading(what: str, remedy: str, table: str = "model") -> Iterator[None]:
    """Turn whatever is raised inside into a ModelError: "`what` cannot be used: cause. `remedy`".

    Transformers, safetensors and tokenizers raise anything on a damaged file, and a model's own code may even exit.

    Args:
        what: what is read, and of which model.
        remedy: what the user can do.
        table: the table of the run file that names the model.
    """
    try:
        yield
    except (ModelError, KeyboardInterrupt):
        raise
    except BaseException as error:
        if "trust_remote_code" in str(error):
            raise ModelError(
                f"{what} cannot be used without running Python code from its folder, which plugrad does not do unasked. If "
                f"you have read that code and trust it, set trust_remote_code = true in [{table}]."
            ) from error
        raise ModelError(f"{what} cannot be used: {cause_of(error)}. {remedy}") from error


def cause_of(error: BaseException) -> str:
    """Return the type and message of a library's error in one printable line without a full stop, shortened."""
    text = OF_TRANSFORMERS.sub("", str(error))
    message = printable(" ".join(text.split()), MOST_CHARACTERS).rstrip(". ")
    if isinstance(error, TypeError | AttributeError):
        # Python's own words for a value that is not what the library took it for.
        return f"a value is missing, or has another form than Transformers expects ({type(error).__name__}: {message})"
    return f"{type(error).__name__}: {message}" if message else type(error).__name__


def is_folder(name: str) -> bool:
    """Return whether a name is a folder's. It never raises, whatever the name."""
    return os.path.isdir(name)


def check_name(name: str, folders: Sequence[Path], table: str = "model") -> None:
    """Check that a name that can only be a path is a folder.

    Args:
        name: a folder or a hub id.
        folders: where relative paths were looked up.
        table: the table of the run file that names the model.

    Raises:
        ModelError: it is a file, or it is not there.
    """
    asked = f"[{table}] name = {shown(name)}"
    if os.path.isfile(name):
        raise ModelError(f"{asked} is a file. Give the folder of a model, which holds config.json, weights and tokenizer.")
    if not is_folder(name) and not (HUB_ID.fullmatch(name) and len(name) <= LONGEST_HUB_ID):
        raise ModelError(f"{asked}: there is no model folder {shown(name)}{where_looked(name, folders)}")


def where_looked(name: str, folders: Sequence[Path]) -> str:
    """Return how a sentence about a folder that is not there ends: where it was looked for, and one of a similar name."""
    searched = "" if Path(name).is_absolute() else f" in {' or '.join(map(str, _searched(folders)))}"
    return f"{searched}.{_similar_folder(name, folders)} Check the path, or give a hub id."


def tell_of_similar_folder(name: str, folders: Sequence[Path]) -> None:
    """Warn of a folder with nearly this name, before the hub is asked for the name: that can take a minute to fail."""
    similar = _similar_folder(name, folders)
    if similar:
        logger.warning("There is no model folder %s, so the hub is asked for it.%s", shown(name), similar)


def _searched(folders: Sequence[Path]) -> list[Path]:
    return list(folders) or [Path.cwd()]


def _similar_folder(name: str, folders: Sequence[Path]) -> str:
    path = Path(name)
    return next(filter(None, (_similar(path.name, folder / path.parent) for folder in _searched(folders))), "")


def _similar(name: str, parent: Path) -> str:
    try:
        return did_you_mean(name, [path.name for path in parent.iterdir() if path.is_dir()])
    except (OSError, ValueError):
        return ""


def check_files(name: str, table: str = "model") -> None:
    """Check what a local folder holds before a library reads it. A hub id passes.

    Raises:
        ModelError: it holds no model or only an adapter, or a file is no file, a Git LFS pointer, or not JSON.
    """
    folder = Path(name)
    if not is_folder(name):
        return
    with reading(f"the model folder {name!r}", "Check its permissions.", table):
        # Transformers reads the templates in this folder too.
        for path in sorted([*folder.iterdir(), *folder.glob("additional_chat_templates/*")]):
            _check_file(path, name)
    if (folder / "adapter_config.json").is_file():
        base = read_json(folder / "adapter_config.json", name).get("base_model_name_or_path")
        named = "its base" if base is None else f"its base, {shown(base)},"
        raise ModelError(
            f"the folder {name!r} holds an adapter (adapter_config.json) instead of a whole model. To train it further, "
            f"give {named} as name, and the folder as adapter in [model.lora]. To make a whole model of "
            f"it: plugrad export {name} --merged"
        )
    if not (folder / "config.json").is_file():
        raise ModelError(f"the folder {name!r} holds no model: it has no config.json. Give a folder with one.")
    read_json(folder / "config.json", name)
    if (folder / "generation_config.json").is_file():
        _check_generation_config(folder, name)


def check_tokenizer_files(name: str) -> None:
    """Check that a local folder holds a tokenizer. Transformers invents an empty one for a folder without.

    Raises:
        ModelError: it holds none, or one of its files is not JSON.
    """
    folder = Path(name)
    if not is_folder(name):
        return
    if not any((folder / file).is_file() for file in TOKENIZER_FILES):
        raise ModelError(
            f"the folder {name!r} holds a model without a tokenizer. Add one with tokenizer.save_pretrained(folder)."
        )
    if (folder / "tokenizer.json").is_file():
        _check_is_object(folder / "tokenizer.json", name)
    for file in ("tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"):
        if (folder / file).is_file():
            read_json(folder / file, name)


def check_counts(values: Any, where: str) -> None:
    """Check the numbers of layers and experts in a configuration: with a damaged one, building never ends.

    Raises:
        ModelError: one is beyond any model.
    """
    for key, value in values.items() if isinstance(values, Mapping) else ():
        if type(value) is int and any(things in str(key) and value > most for things, most in MOST.items()):
            raise ModelError(f"{where} {printable(key)} is {shown(value)}, which is no model's. Correct it.")
        check_counts(value, where)


def read_json(path: Path, name: str) -> dict[str, Any]:
    """Return the object in a JSON file.

    Raises:
        ModelError: it cannot be read, or holds something else.
    """
    remedy = "Copy or download it again, or save the model again with save_pretrained."
    with reading(f"the file {path.name} of the model {name!r}", remedy):
        found = json.loads(read_text(path))
        if not isinstance(found, dict):
            raise ValueError(f"it holds {shown(found)}, not a JSON object")
    return found


def _check_file(path: Path, name: str) -> None:
    if path.is_dir():
        return
    if path.is_symlink() and not path.exists():
        raise ModelError(
            f"the file {path.name} of the model {name!r} is a symbolic link to nothing. Fetch or copy it again."
        )
    if not path.is_file():
        raise ModelError(f"{path.name} in the model folder {name!r} is a pipe, socket or device, not a file. Remove it.")
    if path.stat().st_size < 1024 and read_bytes(path).startswith(LFS_POINTER):
        raise ModelError(
            f"the file {path.name} of the model {name!r} is a Git LFS pointer, not the file itself. Fetch it with "
            "`git lfs pull` in the folder."
        )


def _check_is_object(path: Path, name: str) -> None:
    """Check how a JSON file begins. It may be large, and is read whole later."""
    with open_bytes(path, "rb") as file:
        start = file.read(BEGINNING)
    if start.strip() and not start.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"{"):
        raise ModelError(
            f"the file {path.name} of the model {name!r} begins with {shown(start[:20].decode(errors='replace'))}: it holds "
            "no JSON object. Copy or download it again, or save the tokenizer again with save_pretrained."
        )


def _check_generation_config(folder: Path, name: str) -> None:
    """Check the one thing that a run takes from it: the tokens that end a completion."""
    fields = read_json(folder / "generation_config.json", name)
    what = f"generation_config.json of the model {name!r}"
    with reading(what, "Correct or remove the values that are not of their type."):
        GenerationConfig.from_dict(fields)
    found = fields.get("eos_token_id")
    listed = found if isinstance(found, list) else [found]
    if found is not None and not all(type(token) is int and token >= 0 for token in listed):
        raise ModelError(
            f"eos_token_id in generation_config.json of the model {name!r} is {shown(found)}: it must be a "
            "token id or a list of token ids. Correct or remove it."
        )
