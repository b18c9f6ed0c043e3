"""Check values of a configuration that no model has. Transformers accepts them, or fails in Python's words."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from typing import Any

from transformers.quantizers.auto import AUTO_QUANTIZATION_CONFIG_MAPPING

from plugrad.errors import ModelError
from plugrad.shown import printable, shown

INNER = re.compile(r"(text|vision|audio|speech|encoder|decoder|backbone|llm|language|thinker|talker|quantization)_config")
"""The configurations inside a configuration."""
MAY_BE_INFINITE = ("limit", "max", "min", "cap", "clamp", "range")
"""Parts of keys. Mamba's `time_step_limit` ends with infinity."""


def check_values(values: Mapping[str, Any], where: str) -> None:
    """Check numbers, probabilities, the model's type and the inner configurations.

    Args:
        values: the fields, as JSON or TOML has them.
        where: begins the message, such as "config.json of the model 'm':".

    Raises:
        ModelError: naming the key.
    """
    for key, complaint in _complaints(values, ""):
        raise ModelError(f"{where} {printable(key)} {complaint}. Correct it.")


def check_quantisation(config: Mapping[str, Any], name: str) -> None:
    """Check that Transformers knows how the weights are quantised. It loads others without a word.

    Args:
        config: what config.json holds.
        name: of the model.

    Raises:
        ModelError: it does not.
    """
    found = config.get("quantization_config")
    method = found.get("quant_method") if isinstance(found, Mapping) else None
    known = sorted(map(str, AUTO_QUANTIZATION_CONFIG_MAPPING))
    if method is not None and method not in known:
        raise ModelError(
            f"config.json of the model {name!r}: quantization_config.quant_method is {shown(method)}, which Transformers "
            f"does not know: its weights would be taken for plain ones. It knows {', '.join(known)}."
        )


def _complaints(values: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, str]]:
    for name, value in values.items():
        key = f"{prefix}{name}"
        if name == "model_type" and not isinstance(value, str):
            yield key, f'is {shown(value)}, which is no text such as "qwen3"'
        elif INNER.fullmatch(str(name)) and value is not None and not isinstance(value, Mapping):
            yield key, f"is {shown(value)}, which is no table of fields"
        elif isinstance(value, Mapping):
            yield from _complaints(value, f"{key}.")
        else:
            yield from ((key, complaint) for number in _numbers(value) if (complaint := _of_number(str(name), number)))


def _numbers(value: Any) -> list[Any]:
    return [number for number in value if type(number) in (int, float)] if isinstance(value, list) else [value]


def _of_number(name: str, number: Any) -> str:
    if type(number) not in (int, float):
        return ""
    if isinstance(number, float) and math.isnan(number):
        return "is NaN"
    if isinstance(number, float) and math.isinf(number) and not any(part in name for part in MAY_BE_INFINITE):
        return f"is {number}, which is no finite number"
    if (name.endswith(("dropout", "dropout_prob", "dropout_rate", "_pdrop"))) and not 0 <= number <= 1:
        return f"is {number}: a probability is from 0 to 1"
    return f"is {number}, which is below 0" if name.endswith(("norm_eps", "norm_epsilon")) and number < 0 else ""
