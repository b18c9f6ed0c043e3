"""What the tests share: a dataset as users have one, in files of several formats, and completions of its examples."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest

from plugrad.testing import Outcome, checks_of, run_checks


@pytest.fixture(autouse=True)
def _offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


@pytest.fixture(scope="session", autouse=True)
def _cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    datasets = pytest.importorskip("datasets")
    datasets.config.HF_DATASETS_CACHE = tmp_path_factory.mktemp("cache")
    datasets.config.HF_HUB_OFFLINE = True


@pytest.fixture(scope="session")
def rows() -> list[dict[str, Any]]:
    return [{"question": f"{a}+{b}=", "answer": f"{a} and {b} #### {a + b}", "n": a} for a in range(5) for b in range(4)]


@pytest.fixture
def sums(tmp_path: Path, rows: list[dict[str, Any]]) -> Path:
    """Return a JSON-lines file of sums, with answers as gsm8k writes them."""
    path = tmp_path / "sums.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture
def written(tmp_path: Path) -> Callable[[str, str], str]:
    """Write a file as a user would; return its path."""

    def write(name: str, text: str) -> str:
        (tmp_path / name).write_text(dedent(text).lstrip())
        return str(tmp_path / name)

    return write


@pytest.fixture
def completed() -> Callable[..., Any]:
    """Return a sampled completion of an example."""

    def complete(example: Mapping[str, Any], completion: str, **fields: Any) -> Any:
        given = {"prompt": "", "prompt_ids": [1], "completion_ids": [2], "policy_versions": [0], "inference_logprobs": [0.0]}
        return {**given, "completion": completion, "example": example, "metrics": {}, "truncated": False, **fields}

    return complete


@pytest.fixture
def tried() -> Callable[..., tuple[set[str], set[str]]]:
    """Run the whole conformance kit on an environment; return the checks that it passed, and those that do not apply."""

    def run(name: str, options: Mapping[str, Any]) -> tuple[set[str], set[str]]:
        checks = checks_of(f"plugrad-environments/{name}", kind="environment", options=options)
        # That one starts a process, which takes seconds; nox -s directory runs it.
        results = run_checks([check for check in checks if check.name != "import_effects"])
        names = {outcome: {each.check.name for each in results if each.outcome is outcome} for outcome in Outcome}
        assert not [(each.check.name, each.seen, each.fix) for each in results if each.is_bad]
        return names[Outcome.KEPT], names[Outcome.NOT_APPLICABLE] | names[Outcome.NOT_RUN]

    return run
