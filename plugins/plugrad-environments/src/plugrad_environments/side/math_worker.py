"""The process of the reward `math_verify`: compares answers with the package math-verify."""

from __future__ import annotations

import logging
from typing import Any

from plugrad_environments.side.side_loop import serve


def main() -> None:
    """Answer whether a reference and a completion are the same; None where no answer is found in the reference."""
    import math_verify

    logging.disable(logging.CRITICAL)
    serve(lambda question: _is_same(math_verify, *question))


def _is_same(math_verify: Any, reference: str, completion: str, timeout_s: int) -> bool | None:
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
