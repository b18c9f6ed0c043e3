"""The process of the environment `reasoning_gym`: the scorers of its tasks, several of which evaluate what they read."""

from __future__ import annotations

import math
from typing import Any

from plugrad_environments.side.side_loop import serve


def main() -> None:
    """Answer with the score of an answer; None where the scorer cannot read it."""
    import reasoning_gym

    made: dict[str, Any] = {}

    def score(question: Any) -> float | None:
        task, config, answer, entry = question
        name = f"{task} {config!r}"
        if name not in made:
            made[name] = reasoning_gym.create_dataset(task, seed=0, size=1, **config)
        try:
            found = float(made[name].score_answer(answer, entry))
        except Exception:
            # Several raise on text in a form that they do not expect.
            return None
        return found if math.isfinite(found) else None

    serve(score)


if __name__ == "__main__":
    main()
