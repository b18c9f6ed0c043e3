"""What is wrong with the needs that a marker states, for its messages."""

from __future__ import annotations

from collections.abc import Collection

from plugrad.shown import shown


def passes_wrong(passes: object, needs: Collection[object] | None, *, whole_batch: bool) -> str:
    """Return what does not fit between passes and needs, after "@loss(", or nothing. None: options decide on the needs."""
    if not isinstance(passes, int) or isinstance(passes, bool) or passes < 1:
        return f"passes={shown(passes)}): it counts passes through the policy: write 2 for one call of inputs.again."
    if needs is not None and "again" in needs and passes < 2:
        return (
            f"needs={{'again'}}, passes={passes}): the first pass is one of them. Write passes=2 for one call of "
            "inputs.again, 3 for two."
        )
    if passes > 1 and needs is not None and "again" not in needs:
        return f"passes={passes}) without the need: write needs={{'again'}} too, or drop passes."
    if passes > 1 and whole_batch:
        return (
            f"whole_batch=True, passes={passes}): a loss of the whole batch is called after the passes of all "
            "micro-batches, and can ask for no further one. Drop one of the two."
        )
    return ""


def wrong_divergence(kind: str, asked: Collection[object]) -> str:
    """Return what is wrong with the divergences that a plugin of this kind asks for."""
    if kind != "loss":
        return f"@{kind}(needs=...): only a loss can need a TeacherDivergence; teacher_logprobs are of the sampled tokens."
    if len(asked) > 1:
        return "@loss(needs=...) asks for two divergences, and inputs.teacher_divergence is one. Write two losses."
    return (
        "@loss(needs={'teacher_divergence'}): say which one, and import it from plugrad: "
        "@loss(needs={TeacherDivergence('forward')})."
    )
