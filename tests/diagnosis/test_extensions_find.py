"""Extensions add findings. One that fails is named, and the others are complete."""

import pytest


@pytest.mark.parametrize(
    ("extension", "name", "text"),
    [
        ("Finds", "low", "reward had a mean of"),
        ("Fails", "extension_failed", "SystemExit: on purpose"),
        ("ReturnsText", "extension_failed", "find_in_records returned str; return plugrad.Finding"),
    ],
)
def test_an_extension_that_looks_at_records(train_tiny, found, extension, name, text):
    folder = train_tiny(extension, max_steps=1, extension=[{"name": f"parts.py:{extension}"}, {"name": "nan_guard"}])
    finding = found(folder)[name]
    assert text in finding.evidence
    assert extension in finding.title + finding.evidence or name == "low"


def test_an_extension_that_is_gone(train_tiny, found, tmp_path):
    folder = train_tiny("gone", max_steps=1, extension=[{"name": "parts.py:Finds"}])
    text = (folder / "run.toml").read_text()
    (folder / "run.toml").write_text(text.replace("parts.py:Finds", "gone.py:Finds"))
    assert "gone.py" in found(folder)["extension_failed"].evidence
