"""Check that every example has the teacher, and the teacher its prompt, that the run file asks for."""

from __future__ import annotations

from collections.abc import Sequence

from plugrad.config.tables.model_table import ModelTable
from plugrad.contracts.environment import Example
from plugrad.contracts.needs import OF_TEACHER
from plugrad.errors import RunFileError, did_you_mean
from plugrad.host.environment import BoundEnvironment
from plugrad.host.select import Selection
from plugrad.rollout.prompts import TEACHER_PROMPT, has_teacher_prompt
from plugrad.shown import printable, shown


def check_taught_examples(selection: Selection, models: ModelTable, environment: BoundEnvironment) -> None:
    """Check the examples to train on, if anything needs a teacher.

    Raises:
        RunFileError: an example names no teacher that there is, or lacks the prompt for a policy that teaches itself.
    """
    if not (selection.needs | selection.advantage.needs) & set(OF_TEACHER):
        return
    for example in environment.train_examples():
        name = _teacher_of(example, models, str(environment.component))
        if name is not None and models.all_teachers[name].policy and not has_teacher_prompt(example):
            raise RunFileError(
                f"the policy is the teacher of {_named(example)}, which has no column {TEACHER_PROMPT!r}: it would learn "
                "from what it knows already. Add the column with what the teacher shall read in place of the prompt, or "
                "give the teacher a model (name)."
            )


def _teacher_of(example: Example, models: ModelTable, owner: str) -> str | None:
    if models.teacher is not None:
        return "teacher"
    if not models.teachers:
        return None
    name = example.get(models.teacher_column)
    if name in models.teachers:
        return str(name)
    names: Sequence[str] = list(models.teachers)
    if models.teacher_column not in example:
        columns = list(example)
        raise RunFileError(
            f"{_named(example)} of {owner} has no column {shown(models.teacher_column)}, which names its teacher: one of "
            f"{printable(', '.join(names))}.{did_you_mean(models.teacher_column, columns)} Its columns are "
            f"{printable(', '.join(columns))}. Set model.teacher_column to the one that names it."
        )
    raise RunFileError(
        f"{_named(example)} of {owner} names the teacher {shown(name)} in its column {shown(models.teacher_column)}."
        f"{did_you_mean(str(name), names)} The run file has [model.teachers.NAME] for {printable(', '.join(names))}."
    )


def _named(example: Example) -> str:
    return f"example {shown(example.get('example_id'))}"
