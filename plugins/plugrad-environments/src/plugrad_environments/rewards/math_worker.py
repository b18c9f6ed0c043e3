"""Compares answers with math-verify in a process of its own: started by `math_verify`, one JSON line in, one out."""

from __future__ import annotations

import json
import logging
import sys
from typing import Any


def main() -> None:
    """Answer until standard input ends."""
    import math_verify

    logging.disable(logging.CRITICAL)
    for line in sys.stdin:
        reference, completion, timeout_s = json.loads(line)
        print(json.dumps(_is_same(math_verify, reference, completion, timeout_s)), flush=True)  # noqa: T201 - the answer


def _is_same(math_verify: Any, reference: str, completion: str, timeout_s: int) -> bool | None:
    """Return whether the answers are the same; None where no answer is found in the reference."""
    # Sympy recurses as deep as an answer is nested, and math-verify lets some errors through.
    try:
        wanted = _parsed(math_verify, reference, timeout_s)
        if not wanted:
            return None
        given = math_verify.parse(completion, parsing_timeout=timeout_s)
        return bool(math_verify.verify(wanted, given, timeout_seconds=timeout_s))
    except Exception:
        return False


def _parsed(math_verify: Any, reference: str, timeout_s: int) -> Any:
    # LaTeX is recognised between dollars, which references often lack.
    return math_verify.parse(f"${reference}$", parsing_timeout=timeout_s) or math_verify.parse(
        reference, parsing_timeout=timeout_s
    )


if __name__ == "__main__":
    main()
