"""Check the weight files of a model folder before they are loaded: whole, present, and holding tensors alone."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from plugrad.errors import ModelError
from plugrad.paths import open_bytes
from plugrad.policy.model_folder import cause_of, is_folder, read_json
from plugrad.shown import printable

SAFETENSORS, PICKLED = "model.safetensors", "pytorch_model.bin"
FETCH = "Copy or download it again."
CONVERT = "model.save_pretrained(folder) of Transformers writes safetensors."
NAMES_SHOWN = 5
INTEGERS = ("I", "U", "BOOL", "int", "uint", "bool")
"""How the names of such types begin, in safetensors and in PyTorch."""


class Stored(NamedTuple):
    """A tensor in a file: its shape, and its type as the format names it."""

    shape: list[int]
    kind: str


def stored_weights(name: str, config: Mapping[str, Any]) -> dict[str, Stored] | None:
    """Check the weight files of a local folder; return what they hold by name, or None for a hub id.

    Args:
        name: a folder or a hub id.
        config: what its config.json holds.

    Raises:
        ModelError: a file is missing, cut short or damaged, or a pickle holds anything but tensors. None of it is run.
    """
    folder = Path(name)
    # The configuration may name its own file. Transformers checks that it is inside the folder.
    if not is_folder(name) or config.get("transformers_weights"):
        return None
    return {key: stored for path in weight_files(folder) for key, stored in _stored(path, name).items()}


def num_numbers(stored: Mapping[str, Stored]) -> int:
    """Return how many numbers the tensors hold."""
    return sum(math.prod(tensor.shape) for tensor in stored.values())


def integers_in(stored: Mapping[str, Stored]) -> dict[str, str]:
    """Return the names of the tensors that hold integers or booleans, with their types."""
    return {key: tensor.kind for key, tensor in stored.items() if tensor.kind.startswith(INTEGERS)}


def weight_files(folder: Path) -> list[Path]:
    """Return the files that Transformers loads, in its order of preference.

    Raises:
        ModelError: there is none, or an index names one that is not there.
    """
    for file in (SAFETENSORS, PICKLED):
        if (folder / file).is_file():
            return [folder / file]
        if (folder / f"{file}.index.json").is_file():
            return _shards(folder / f"{file}.index.json")
    others = sorted(path.name for path in folder.iterdir() if path.suffix in (".safetensors", ".bin", ".gguf", ".h5", ".pt"))
    found = f", but {names(others)}" if others else ""
    raise ModelError(
        f"the folder {str(folder)!r} holds no weights: it has no {SAFETENSORS} and no {SAFETENSORS}.index.json{found}. "
        f"{CONVERT}"
    )


def names(listed: list[str]) -> str:
    """Return a list of names for a message: the first few, and how many more there are."""
    shown = ", ".join(printable(name) for name in listed[:NAMES_SHOWN])
    return shown + (f" and {len(listed) - NAMES_SHOWN} more" if len(listed) > NAMES_SHOWN else "")


def _shards(index: Path) -> list[Path]:
    folder = index.parent
    weight_map = read_json(index, str(folder)).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map or not all(isinstance(file, str) for file in weight_map.values()):
        raise ModelError(
            f"the file {index.name} of the model {str(folder)!r} has no weight_map from names to files. {FETCH}"
        )
    files = sorted(set(weight_map.values()))
    outside = [file for file in files if Path(file).name != file]
    if outside:
        raise ModelError(f"the file {index.name} of the model {str(folder)!r} names {names(outside)}, outside the folder.")
    missing = [file for file in files if not (folder / file).is_file()]
    if missing:
        raise ModelError(
            f"the model folder {str(folder)!r} lacks {len(missing)} of {len(files)} weight files that {index.name} names: "
            f"{names(missing)}. Copy or download them."
        )
    return [folder / file for file in files]


def _stored(path: Path, name: str) -> dict[str, Stored]:
    return _stored_in_safetensors(path, name) if path.suffix == ".safetensors" else _stored_in_pickle(path, name)


def _stored_in_safetensors(path: Path, name: str) -> dict[str, Stored]:
    """Read the header: 8 bytes of its length, then JSON (https://github.com/huggingface/safetensors#format)."""
    what, size = f"the file {path.name} of the model {name!r}", path.stat().st_size
    try:
        with open_bytes(path, "rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if not 2 <= length <= size - 8:
                raise ModelError(f"{what} is cut short or no safetensors file: it has {size} bytes. {FETCH}")
            header = json.loads(file.read(length))
        tensors = {key: tensor for key, tensor in header.items() if key != "__metadata__"}
        end = 8 + length + max((tensor["data_offsets"][1] for tensor in tensors.values()), default=0)
        stored = {
            key: Stored([int(size) for size in tensor["shape"]], str(tensor["dtype"])) for key, tensor in tensors.items()
        }
    except (ValueError, RecursionError, LookupError, TypeError, AttributeError, OSError) as error:
        if isinstance(error, ModelError):
            raise
        raise ModelError(f"{what} has a damaged header: {cause_of(error)}. {FETCH}") from error
    if size != end:
        raise ModelError(f"{what} has {size} bytes, but its header announces {end}: it is cut short or damaged. {FETCH}")
    return stored


def _stored_in_pickle(path: Path, name: str) -> dict[str, Stored]:
    """Read a pickle of tensors, and refuse one that asks for any other class or function: it is never called."""
    what = f"the file {path.name} of the model {name!r}"
    try:
        found: Any = torch.load(path, map_location="meta", weights_only=True)
    except Exception as error:
        # The first part of the message advises to turn the safety off.
        reason = str(error).rpartition("WeightsUnpickler error:")[2].partition(" Please use")[0] or str(error)
        raise ModelError(
            f"{what} holds something other than tensors, or is damaged. Nothing in it was run: "
            f"{printable(' '.join(reason.split())).rstrip('. ')}. Use a model in safetensors. {CONVERT}"
        ) from error
    odd = [key for key, value in found.items() if not isinstance(value, Tensor)] if isinstance(found, dict) else None
    if odd is None or odd:
        content = (
            f"a {type(found).__name__}" if odd is None else f"entries that are no tensors: {names(list(map(str, odd)))}"
        )
        raise ModelError(f"{what} holds {content}, not the weights of a model by their names. {CONVERT}")
    return {str(key): Stored(list(tensor.shape), str(tensor.dtype).removeprefix("torch.")) for key, tensor in found.items()}
