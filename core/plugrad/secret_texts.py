"""What looks like a secret: a run file, its record and a message hold none."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any
from urllib.parse import unquote

from plugrad.shown import LIMIT, shown

SECRET = re.compile("(pass(word|wd|phrase|code)|pwd|secret|credential|apikey|jwt|authorization)s?")
"""The last word of a name whose value is a secret."""
KEY = re.compile("(key|token)s?|pass|auth|pat")
"""The last word of a name whose value may be one: `hf_token` is, `pad_token` and `answer_key` are not."""
GRANTING = re.compile(
    "api|access|auth|account|admin|aws|azure|anthropic|bearer|client|cohere|csrf|encryption|gcp|gemini|gh|github|gitlab|google|groq"
    "|hf|hub|huggingface|mistral|oauth|openai|openrouter|private|refresh|secret|serper|session|signing|slack|subscription|wandb"
)
"""The word before `key` or `token` that makes it a secret whatever the value."""
PLAIN = re.compile(
    "answer|audio|bos|bot|cls|column|completion|data|end|eos|eot|example|field|foreign|group|id|image|input|item|label|mask|message"
    "|metric|output|pad|partition|primary|prompt|question|reference|response|reward|sep|sort|special|start|state|stop|target|text"
    "|think|unk|user|video"
)
"""The word before `key` or `token` that makes it none."""
PLACEHOLDERS = frozenset(["", "empty", "none", "null", "dummy", "not-needed", "n/a"])
FORMS = re.compile(
    r"\bhf_[A-Za-z0-9]{16,}|\bsk-(?=\S{0,99}\d)[\w-]{16,}|\bgh[opsur]_\w{20,}|\bgithub_pat_\w{20,}|\bglpat-[\w-]{16,}"
    r"|\bA[KS]IA[0-9A-Z]{16}\b|\bAIza[\w-]{30,}|\bxox[abprs]-[\w-]{10,}|\beyJ[\w-]{8,999}\.eyJ[\w-]{8,}|"
    r"-----BEGIN [A-Z ]{0,40}PRIVATE KEY|\bBearer\s{1,9}(?=\S{0,99}\d)\S{8,}"
)
"""What the providers of keys give out."""
URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]{0,20})://(\S{1,2000})")
USER = re.compile(r"[^/\s:@]{1,200}:[^/\s@]{1,200}@[\w.-]+")
SIGNATURE = re.compile("sig|signature")
HEADER = re.compile(r"\s*((?:proxy-)?authorization|cookie|set-cookie|x-[\w-]+)\s*:\s*(\S.*)", re.IGNORECASE)
PAIR = re.compile(r"""(?<![\w.-])([\w.-]{1,100})["']?\s{0,9}[:=]\s{0,9}["']?([^"',{}\[\]\s]{1,1000})""")
WORDS = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+")
MEANT = re.compile(r"\$\w+|\$?\{\w+\}|\$\{\{.*\}\}|<.*>|\[\w+\]")
"""The name of a variable, or what stands for a value: `$HF_TOKEN`, `<your key>`, `[PAD]`."""
PATH = re.compile(r"[~.]{0,2}/\S*/|\S+\.(pem|key|crt|json|toml|yaml|txt)$|[~.]{1,2}/")
IN_WORDS = re.compile(r"[A-Za-z]+([_.:/-][A-Za-z]+)*[_-]?\d{0,4}")
DEEPEST = 100
LONGEST = 1000
"""What is longer is no key."""
LOOKED_AT = 10_000
"""How many characters of a text are searched: the search takes a second for a megabyte."""


def find_secret(name: str, value: Any) -> str | None:
    """Return the name of what looks like a secret in a named value, or None. Tables, lists and JSON are searched.

    Only texts are secrets: a number, a boolean and None are none.
    """
    return next(_found(name, value, DEEPEST), None)


def find_secret_argument(arguments: Iterable[str]) -> str | None:
    """Return the name of what looks like a secret among the arguments of a command, or None."""
    before = ""
    for argument in arguments:
        name, equals, value = argument.partition("=") if argument.startswith("-") else ("", "", "")
        # A secret may begin with a dash.
        for option, given in [(name, value), ("" if argument.startswith("--") else before, "" if equals else argument)]:
            found = find_secret(_as_option(option), given)
            if found is not None:
                return option if found == _as_option(option) else found
        before = "" if equals else name
    return None


def shown_unless_secret(name: str, value: Any, limit: int = LIMIT) -> str:
    """Return a named value as a message shows it, and no secret."""
    return "..., a secret" if find_secret(name, value) is not None else shown(value, limit)


def _as_option(name: str) -> str:
    return "--auth-token" if name.lower() == "--token" else name


def _found(name: str, value: Any, depth: int) -> Iterator[str]:
    if isinstance(value, Mapping) and depth:
        for key, inner in value.items():
            yield from _found(name if _is_secret_name(name) else str(key), inner, depth - 1)
    elif isinstance(value, list | tuple | set | frozenset) and depth:
        for item in value:
            yield from _found(name, item, depth - 1)
    elif isinstance(value, str):
        yield from _in_text(name, value[:LOOKED_AT], depth)


def _in_text(name: str, text: str, depth: int) -> Iterator[str]:
    if (_is_secret_name(name) and _is_value(text)) or (_may_be_secret(name) and _is_random(text)):
        yield name
    if FORMS.search(text) or (USER.match(text) and not re.search(r"\s", text)) or any(map(_gives_access, _urls(text))):
        yield name
    if not depth:
        return
    if header := HEADER.fullmatch(text):
        scheme_and_value = header[2].split(maxsplit=1)
        key = "authorization" if header[1].lower() in ("cookie", "set-cookie") else header[1]
        yield from _found(key, scheme_and_value[-1], 0)
    for key, inner in _pairs(text):
        yield from _found(key, inner, depth - 1)


def _pairs(text: str) -> Iterator[tuple[str, Any]]:
    """Yield the names and values that a text holds: JSON, what is like it, or `name=value;name=value`."""
    start = text.lstrip()[:1]
    if start and start in "{[":
        try:
            found = json.loads(text)
        except (ValueError, RecursionError):
            yield from (match.groups() for match in PAIR.finditer(text))
            return
        yield "", found
    parts = re.split(r"[\s;&,?#]+", text.strip())
    if all("=" in part for part in parts[1:]):
        for part in parts:
            key, equals, value = part.partition("=")
            if equals:
                yield key, value


def _urls(text: str) -> Iterator[re.Match[str]]:
    return URL.finditer(text) if "://" in text else iter(())


def _gives_access(url: re.Match[str]) -> bool:
    """Return whether a URL has a user's password, or a query or fragment with a token."""
    scheme, rest = url.groups()
    authority = re.split(r"[/?#]", rest)[0]
    user, at, _ = authority.rpartition("@")
    has_port = authority.rpartition(":")[2].isdecimal() or authority.endswith("]")
    if at and (":" in user or scheme.lower() in ("http", "https")):
        return True
    if not at and ":" in authority and "@" in rest and not has_port:
        # The slash is part of a password.
        return True
    for part in re.split(r"[?#&;]", rest)[1:]:
        key, equals, value = part.partition("=")
        last = ["", *_words(key)][-1]
        if equals and _is_value(unquote(value)) and any(word.fullmatch(last) for word in (SECRET, KEY, SIGNATURE)):
            return True
    return False


def _is_secret_name(name: str) -> bool:
    *_, before, last = ["", "", *_words(name)]
    return bool(SECRET.fullmatch(last) or (KEY.fullmatch(last) and GRANTING.fullmatch(before)))


def _may_be_secret(name: str) -> bool:
    *_, before, last = ["", "", *_words(name)]
    return bool(KEY.fullmatch(last) and not PLAIN.fullmatch(before))


def _words(name: str) -> list[str]:
    return [word.lower() for word in WORDS.findall(name)]


def _is_value(text: str) -> bool:
    """Return whether a text is a value, not a placeholder, the name of a variable to look up, or a path."""
    bare = text.strip()
    return bare.lower() not in PLACEHOLDERS and not MEANT.fullmatch(bare) and not PATH.match(bare)


def _is_random(text: str) -> bool:
    """Return whether a text is no word: eight characters at least, letters and digits mixed."""
    if not 8 <= len(text) <= LONGEST:
        return False
    is_mixed = re.search("[A-Za-z]", text) and re.search("[0-9]", text)
    is_plain = re.search(r"[\s<>|\[\]]", text) or IN_WORDS.fullmatch(text) or not _is_value(text)
    return bool(is_mixed) and not is_plain
