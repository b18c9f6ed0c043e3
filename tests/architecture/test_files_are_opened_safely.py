"""Files of the user's are opened in one place, which waits for no pipe, and their JSON is read in one, which bounds it."""

import ast

OPENS = {"open", "read_text", "read_bytes", "write_text", "write_bytes"}
OURS = {
    "paths.py": "the one place",
    "lazy_names.py": "a file of the package's own",
    "cli/check_process.py": "in a temporary folder of its own",
    "cli/check_worker.py": "in the same",
    "cli/output.py": "os.devnull",
    "cli/report.py": "opens a browser",
    "cli/quickstart.py": "reads a run file of the package's own",
    "compare/arm_process.py": "in a temporary folder of its own",
    "compare/checking.py": "in the same",
    "registry/known_packages.py": "a file of the package's own",
    "report/embedded.py": "files of the package's own",
    "registry/metadata_files.py": "checks every file first, with a bound on its size",
    "rollout/servers/supervisor.py": "os.devnull",
    "rollout/servers/weights_folder.py": "in a folder that it has just made",
    "scaffold/package.py": "in a temporary folder of its own, and templates of the package's own",
    "testing/losses/rank_process.py": "in a temporary folder of its own",
    "testing/nursery.py": "in a temporary folder of its parent's",
    "testing/workers.py": "in a temporary folder of its own",
    "testing/losses/two_ranks.py": "in the same",
    "trainer/checkpoints/checkpoint_folder.py": "os.open of what it has just written, to sync it",
    "trainer/engines.py": "opens a rollout engine",
    "trainer/ranks/interrupts.py": "os.devnull",
    "trainer/record/memory.py": "a file of the kernel's",
}
PARSES = {
    "json_text.py": "the one place",
    "cli/check_process.py": "what its own child wrote",
    "cli/check_worker.py": "what its own parent wrote",
    "policy/model_folder.py": "inside reading(): what Transformers reads there, in which Infinity occurs",
    "policy/weight_files.py": "the header of a file of weights, with its own errors",
    "registry/known_packages.py": "a file of the package's own",
    "registry/option_forms.py": "what it has just written",
    "rollout/servers/server_checks.py": "a model's config.json, whatever it is: an unreadable one is a notice",
    "secret_texts.py": "a value of a run file that may hold a secret, whatever it is: an unreadable one is a text",
    "testing/nursery.py": "what its own parent wrote",
    "testing/portable.py": "what its own child wrote",
    "trainer/ranks/failure_watch.py": "what another rank of the run wrote",
}
PLUGINS_OPEN = {
    "plugrad_environments/rewards/schema_file.py": "looks first whether it is a regular file",
    "plugrad_environments/side/side_loop.py": "os.devnull",
}
PLUGINS_PARSE = {
    "plugrad_chat/conversation.py": "arguments that a model wrote, with an answer to the model",
    "plugrad_environments/rewards/code_runner.py": "what its own parent wrote",
    "plugrad_environments/rewards/json_schema.py": "a schema in a dataset, with errors of its own",
    "plugrad_environments/rewards/schema_file.py": "a schema, with errors of its own",
    "plugrad_environments/rewards/written_tests.py": "tests in a dataset, or else Python",
    "plugrad_environments/side/side_process.py": "what its own child wrote",
    "plugrad_environments/side/text_worker.py": "a completion, in a process with limits",
}


def calls_in(file, names, modules=None):
    """Return the names of the functions and methods among `names` that a file calls, those of other modules left out."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        called = node.func if isinstance(node, ast.Call) else None
        if isinstance(called, ast.Attribute) and called.attr in names:
            if modules is None or (isinstance(called.value, ast.Name) and called.value.id in modules):
                yield called.attr
        elif isinstance(called, ast.Name) and called.id == "open" and "open" in names:
            yield "open"


def files_that_call(folder, names, modules=None):
    files = sorted(folder.rglob("*.py"))
    return {file.relative_to(folder).as_posix() for file in files if list(calls_in(file, names, modules))}


def test_files_are_opened_by_one_module(core):
    assert files_that_call(core / "plugrad", OPENS) == set(OURS)


def test_json_of_others_is_parsed_by_one_module(core):
    assert files_that_call(core / "plugrad", {"load", "loads"}, {"json"}) == set(PARSES)


def test_the_plugins_open_no_files_of_their_own(core):
    folders = sorted((core.parent / "plugins").glob("*/src"))
    opened, parsed = (
        set().union(*(files_that_call(folder, names, modules) for folder in folders))
        for names, modules in ((OPENS, None), ({"load", "loads"}, {"json"}))
    )
    assert opened == set(PLUGINS_OPEN)
    assert parsed == set(PLUGINS_PARSE)


def test_every_way_to_open_a_file_is_seen(plant):
    planted = {
        "a.py": "open('x')",
        "b.py": "from pathlib import Path\nPath('x').read_text()",
        "c.py": "path.open('rb')",
        "d.py": "read_text(path)",
        "e.py": "import json\njson.loads('1')",
    }
    for name, code in planted.items():
        folder = plant(name, code)
    assert files_that_call(folder, OPENS) == {"a.py", "b.py", "c.py"}
    assert files_that_call(folder, {"load", "loads"}, {"json"}) == {"e.py"}
