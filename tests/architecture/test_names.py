"""Core's code names no algorithm, and a file's name leads to one place."""

import ast
import re
import tomllib
from collections import Counter

import pytest

# fmt: off
WELL_KNOWN = frozenset({
    "a2c", "a3c", "aipo", "dapo", "dpo", "dr_grpo", "gae", "gmpo", "grpo", "gspo", "icepop", "ppo", "reinforce",
    "reinforce_plus_plus", "rloo", "sapo", "tis", "topr", "trpo", "vapo", "vtrace",
})
# fmt: on
ORDINARY_WORDS = frozenset({"constant"})
"""Also a reduction and a learning-rate schedule: it cannot be told apart."""
MAY_NAME = {
    "cli/quickstart.py": {"reinforce", "importance_sampling", "ppo_clip"},  # its second stage, and commands to try next
    "config/prime_rl.py": {"importance_sampling", "group_mean"},  # what prime-rl's keys mean
    "config/run_file.py": {"group_mean"},  # the default advantage
    "config/tables/component_tables.py": {"importance_sampling"},  # the default loss
    "contracts/needs.py": {"gkd"},  # whose beta an error explains
    "diagnosis/of_completions.py": {"kl_to_reference"},  # a remedy names the loss to add
    "diagnosis/of_rewards.py": {"kl_to_reference", "entropy_bonus"},  # and so do these
    "testing/extensions/runs.py": {"ppo_clip", "group_normalized"},  # the run that an extension is tried in
}
"""The only places, with the reason of each."""

SAME_NAME = {
    "findings.py": {"registry", "diagnosis"},  # what a scan refuses, and what went wrong in a run
    "loss.py": {"contracts", "host"},  # the contract of each kind, and what calls it
    "advantage.py": {"contracts", "host", "standard/metrics"},  # and the metric of that name
    "metric.py": {"contracts", "host"},
    "environment.py": {"contracts", "host"},
    "train.py": {"cli", "trainer"},  # a file a command
    "report.py": {"cli", "compare"},  # the same, and what a comparison writes
}
"""File names that core has more than once."""


def algorithms(root):
    """Return the names of published losses and advantages, and of algorithms that everybody knows."""
    names = set(WELL_KNOWN)
    folders = (root, root / "plugins" / "plugrad-objectives", root / "plugins" / "plugrad-policy")
    for file in (folder / "pyproject.toml" for folder in folders):
        groups = tomllib.loads(file.read_text(encoding="utf-8"))["project"]["entry-points"]
        names |= {*groups["plugrad.losses"], *groups["plugrad.advantages"]}
    return names - ORDINARY_WORDS


def named_in(code, algorithms):
    """Return the algorithms that identifiers and string literals name. Docstrings are left out: they cite papers."""
    tree = ast.parse(code)
    prose = {
        id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    }
    texts = [text for node in ast.walk(tree) if id(node) not in prose for text in texts_of(node)]
    longest_first = sorted(map(re.escape, algorithms), key=len, reverse=True)
    # An underscore does not end a name's part: `gspo_ratio` names an algorithm too.
    pattern = re.compile(rf"(?<![a-z0-9])({'|'.join(longest_first)})(?![a-z0-9])", re.IGNORECASE)
    return {found.lower() for text in texts for found in pattern.findall(text)}


def texts_of(node):
    """Return the names that a node brings in: those of variables, attributes, parameters, definitions and imports."""
    fields = ("id", "attr", "arg", "name", "asname", "module", "value", "names")
    values = [getattr(node, field, None) for field in fields]
    return [value for value in values if isinstance(value, str)]


def repeated_names(folder):
    """Return the folders of every file name that is there more than once."""
    files = [file for file in folder.rglob("*.py") if file.name != "__init__.py"]
    names = [name for name, number in Counter(file.name for file in files).items() if number > 1]
    return {name: {f.parent.relative_to(folder).as_posix() for f in files if f.name == name} for name in names}


def test_no_algorithm_is_named_outside_the_defaults(core):
    # `real` is also what a number is.
    known, package = algorithms(core.parent) - {"real"}, core / "plugrad"
    assert {"gspo", "grpo", "cispo", "dapo", "ppo", "importance_sampling", "group_mean"} <= known
    files = {file.relative_to(package).as_posix(): file for file in sorted(package.rglob("*.py"))}
    found = {
        path: named
        for path, file in files.items()
        if not path.startswith("standard/") and (named := named_in(file.read_text(encoding="utf-8"), known))
    }
    assert found == MAY_NAME


@pytest.mark.parametrize(
    "code",
    [
        "def gspo(): ...",
        "class Gspo: ...",
        "gspo_ratio = 1",
        "x.gspo",
        "f(gspo=1)",
        "def f(gspo): ...",
        "from somewhere import gspo",
        "import gspo",
        "if name == 'gspo': ...",
        "x = f'{y} is for GSPO'",
    ],
)
def test_a_planted_algorithm_is_found(code):
    assert named_in(code, {"gspo", "ppo"}) == {"gspo"}


def test_citations_and_parts_of_words_name_no_algorithm():
    code = '"""As GSPO does (arXiv:2507.18071)."""\n\nsupported: int\n"""Of GSPO."""\nunsuppoted = "opposite"\n'
    assert named_in(code, {"gspo", "ppo", "support", "opo"}) == set()


def test_a_file_name_leads_to_one_place(core):
    assert repeated_names(core / "plugrad") == SAME_NAME


def test_a_planted_repetition_is_found(plant):
    plant("one/values.py", "")
    plant("one/__init__.py", "")
    plant("two/__init__.py", "")
    assert repeated_names(plant("one/other.py", "")) == {}
    assert repeated_names(plant("two/inner/values.py", "")) == {"values.py": {"one", "two/inner"}}
