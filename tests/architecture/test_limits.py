"""Functions of at most 50 lines, files of at most 300, and annotations on everything."""

import ast
from pathlib import Path

LINES_OF_A_FUNCTION, LINES_OF_A_FILE = 50, 300
FUNCTIONS = ast.FunctionDef | ast.AsyncFunctionDef
COMPILED_BY_TRITON = "triton_kernels.py"
"""It takes no annotation but its own, for what is constant."""


def functions_in(file):
    return [node for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))) if isinstance(node, FUNCTIONS)]


def long_functions(files):
    """Return the functions that are too long. Decorators, the signature and the docstring count; comments too."""
    lengths = [(file, node.name, node.end_lineno - node.lineno + 1) for file in files for node in functions_in(file)]
    return [f"{file}: {name} has {length} lines" for file, name, length in lengths if length > LINES_OF_A_FUNCTION]


def long_files(files):
    lengths = [(file, len(file.read_text(encoding="utf-8").splitlines())) for file in files]
    return [f"{file} has {length} lines" for file, length in lengths if length > LINES_OF_A_FILE]


def unannotated(files):
    """Return the functions with a parameter or a return that has no annotation, `self` and `cls` aside."""
    found = []
    for file in files:
        tree = ast.parse(file.read_text(encoding="utf-8"))
        methods = {id(part) for node in ast.walk(tree) if isinstance(node, ast.ClassDef) for part in node.body}
        for node in ast.walk(tree):
            if isinstance(node, FUNCTIONS) and (missing := missing_annotations(node, is_method=id(node) in methods)):
                found.append(f"{file}: {node.name} ({', '.join(missing)})")
    return found


def missing_annotations(node, *, is_method):
    arguments = node.args
    parameters = [*arguments.posonlyargs, *arguments.args]
    if is_method and not any(isinstance(mark, ast.Name) and mark.id == "staticmethod" for mark in node.decorator_list):
        parameters = parameters[1:]
    parameters += [*arguments.kwonlyargs, *filter(None, [arguments.vararg, arguments.kwarg])]
    missing = [parameter.arg for parameter in parameters if parameter.annotation is None]
    return missing if node.returns else [*missing, "return"]


def test_no_function_is_longer_than_fifty_lines(code_files):
    assert long_functions(code_files) == []


def test_no_file_is_longer_than_three_hundred_lines(code_files):
    assert long_files(code_files) == []


def test_every_parameter_and_every_return_is_annotated(code_files):
    assert unannotated(file for file in code_files if file.name != COMPILED_BY_TRITON) == []


def lines(number, *, indent=""):
    return f"{indent}x = 1\n" * number


def test_a_planted_long_function_is_found(plant):
    short, long = lines(49, indent="    "), lines(50, indent=" " * 8)
    code = f"def just_short_enough():\n{short}\nclass C:\n    def too_long(self):\n{long}"
    file = plant("long.py", code) / "long.py"
    assert long_functions([file]) == [f"{file}: too_long has 51 lines"]


def test_a_planted_long_file_is_found(plant):
    files = [plant("short.py", lines(300)) / "short.py", plant("long.py", lines(301)) / "long.py"]
    assert long_files(files) == [f"{files[1]} has 301 lines"]


def test_planted_functions_without_annotations_are_found(plant):
    code = """
class C:
    def well(self, x: int, *rest: int, y: int = 0, **more: int) -> None:
        def inner(z): ...

    @staticmethod
    def first(x) -> None: ...

    async def nothing(self, *rest, y=0, **more): ...
"""
    file = plant("bare.py", code) / "bare.py"
    found = {f"{file}: {rest}" for rest in ("inner (z, return)", "first (x)", "nothing (y, rest, more, return)")}
    assert set(unannotated([file])) == found


def test_the_rules_are_held_for_core_the_plugins_and_the_documentation(code_files):
    names = {Path(*file.parts[-2:]).as_posix() for file in code_files}
    assert {"cli/main.py", "losses/gspo.py", "docs/reference.py"} <= names
