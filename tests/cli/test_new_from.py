"""`plugrad new --from`: what is taken from a file, what it prints, and what is refused without a trace."""

import tomllib
from textwrap import dedent

import pytest

LOSS = """
    from plugrad import LossInputs, LossOutputs, MetricInputs, Mean, loss, metric
    import numpy as np
    import helpers

    @loss(policy_gradient=True, needs={"old_logprobs"})
    def my_loss(inputs: LossInputs, power: float = 0.5, mode: str | None = None) -> LossOutputs:
        '''-sg(r_t^power) * A, "quoted" for C:\\\\temp.

        Some *more* prose.

        Args:
            power: of the ratio,
                as a number | not text.
        '''
        raise AssertionError("not to be called")

    @metric()
    def share(inputs: MetricInputs) -> dict[str, Mean]:
        raise AssertionError("not to be called")

    def unclear(x):
        return x

    also_mine = my_loss
"""
OTHER = """
    from plugrad import AdvantageInputs, AdvantageOutputs, LossInputs, LossOutputs, advantage, loss

    @loss()
    class KLÜbung:
        def __init__(self, scale: float):
            raise AssertionError("not to be called")

        def __call__(self, inputs: LossInputs) -> LossOutputs: ...

    @advantage(min_rollouts_per_example=12)
    def hard(inputs: AdvantageInputs, gain=1.0) -> AdvantageOutputs:
        "Hard examples first"

    @loss()
    def gspo(inputs: LossInputs) -> LossOutputs: ...

    @loss()
    def ppo_clip(inputs: LossInputs) -> LossOutputs: ...

    @loss()
    def 損失(inputs: LossInputs) -> LossOutputs: ...

    @loss()
    def takes_anything(inputs: LossInputs, **rest) -> LossOutputs: ...

    @loss()
    def a_name_that_is_longer_than_names_may_be(inputs: LossInputs) -> LossOutputs: ...

    @loss(needs={"teacher_logprobs"})
    def torch(inputs: LossInputs) -> LossOutputs: ...
"""


@pytest.fixture
def folder(folder):
    """With files of the user's."""
    texts = {
        "mine.py": LOSS,
        "other.py": OTHER,
        "helpers.py": "X = 1",
        "bad.py": "def f(:",
        "relative.py": "from . import x",
        "leaves.py": "import sys; sys.exit()",
    }
    texts |= {"dynamic.py": "import importlib\nimportlib.import_module('helpers')\n" + dedent(OTHER)}
    for name, text in texts.items():
        (folder / name).write_text(dedent(text).lstrip(), encoding="utf-8")
    return folder


@pytest.fixture
def made(plugrad, folder):
    """Make a package, and return what was printed with its folder."""

    def make(*arguments):
        done = plugrad("new", *arguments)
        assert done.returncode == 0, done.stderr
        (package,) = folder.glob("plugrad-*")
        return done.stdout, package

    return make


def project(package):
    return tomllib.loads((package / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def test_the_package_is_filled_from_the_file(made, folder):
    before = {path: path.read_bytes() for path in folder.rglob("*")}
    printed, package = made("--from", "./mine.py:my_loss")
    assert {path: path.read_bytes() for path in before} == before
    assert not list(folder.glob("__pycache__"))
    about = project(package)
    assert about["name"] == "plugrad-my-loss"
    assert about["description"] == '-sg(r_t^power) * A, "quoted" for C:\\temp.'
    assert about["entry-points"] == {"plugrad.losses": {"my_loss": "plugrad_my_loss.my_loss:my_loss"}}
    assert [requirement.partition(">=")[0] for requirement in about["dependencies"]] == ["plugrad", "numpy"]
    source = package / "src" / "plugrad_my_loss"
    assert (source / "my_loss.py").read_text() == (folder / "mine.py").read_text().replace(
        "import helpers", "from . import helpers"
    )
    assert (source / "helpers.py").read_text() == "X = 1"
    readme = (package / "README.md").read_text()
    assert "| `power` | `float` | `0.5` | of the ratio, as a number \\| not text. |" in readme
    assert "| `mode` | `str \\| None` | `None` | |" in readme
    assert "It needs `old_logprobs`." in readme
    lines = printed.splitlines()
    assert lines[0] == "Wrote plugrad-my-loss from mine.py:"
    listed = {line.split()[0] for line in lines[1 : lines.index("")]}
    assert listed == {str(path.relative_to(package)) for path in package.rglob("*") if path.is_file()}
    assert "mine.py also has the metric 'share': copied, but without a name" in printed
    assert '    share = "plugrad_my_loss.my_loss:share"' in lines
    assert lines[-2:] == ["    pip install -e ./plugrad-my-loss pytest", "    pytest ./plugrad-my-loss"]


def test_options_without_a_default_go_into_the_tests_and_the_readme(made):
    printed, package = made("--from", "other.py:KLÜbung", "--set", "scale=2")
    assert package.name == "plugrad-kl-ubung"
    assert '    "scale": 2,' in (package / "tests" / "test_kl_ubung.py").read_text().splitlines()
    readme = (package / "README.md").read_text()
    assert "kwargs = { scale = 2 }" in readme
    assert "plugrad check kl_ubung --kind loss --set scale=2\n" in readme
    assert "has no docstring" in printed


def test_columns_of_examples_go_into_the_tests_and_the_readme(made):
    _, package = made("--from", "other:hard", "--example", '{"difficulty": 1.5}')
    assert project(package)["description"] == "Hard examples first"
    assert "example=EXAMPLE)" in (package / "tests" / "test_hard.py").read_text()
    readme = (package / "README.md").read_text()
    assert """--kind advantage --example '{"difficulty": 1.5}'\n""" in readme
    assert "rollouts_per_example = 12" in readme
    assert "reads these columns of the examples: `difficulty`" in readme


@pytest.mark.parametrize(
    ("arguments", "package"),
    [
        (("my_idea", "--from", "mine.py:unclear"), None),
        (("loss", "--from", "mine.py:unclear"), "plugrad-unclear"),
        (("metric", "my_idea", "--from", "mine.py:unclear"), "plugrad-my-idea"),
        (("my_idea", "--from", "other.py:gspo"), "plugrad-my-idea"),
        (("loss", "my_idea", "--from", "other.py:損失"), "plugrad-my-idea"),
        # In a package with a sample, the code around it uses the word.
        (("--from", "other.py:torch"), "plugrad-torch"),
    ],
)
def test_kind_and_name_may_be_written_before(plugrad, folder, arguments, package):
    done = plugrad("new", *arguments)
    assert done.returncode == (0 if package else 2), done.stderr
    assert [path.name for path in folder.glob("plugrad-*")] == [package] * bool(package)


def test_a_loss_with_a_teacher_gets_one_in_its_run_file(made):
    _, package = made("--from", "other.py:torch")
    assert "[model.teacher]" in (package / "README.md").read_text()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--from", "mine.py:unclear"), "Write the kind before it: plugrad new loss --from mine.py:unclear"),
        (("los", "--from", "mine.py:unclear"), "no kind 'los'. Did you mean 'loss'?"),
        (("metric", "--from", "mine.py:my_loss"), "marked with @loss but used where @metric is expected"),
        (("--from", "mine.py:nothing"), "has no 'nothing'"),
        (("--from", "mine.py"), "It defines my_loss, share, unclear. Write --from mine.py:NAME"),
        (("--from", "nowhere.py:f"), "names a file that does not exist"),
        (("--from", "gspo"), "names no component in a file"),
        (("--from", "bad.py:f"), "SyntaxError"),
        (("--from", "bad.py"), "cannot be read as Python"),
        (("--from", "leaves.py:f"), "SystemExit"),
        (("--from", "other.py:gspo"), "plugrad-policy 0.1.0"),
        (("--from", "other.py:gspo"), "Write: plugrad new loss NAME --from other.py:gspo"),
        (("--from", "other.py:ppo_clip"), "core names cannot be shadowed"),
        (("--from", "other.py:損失"), "Choose one: plugrad new loss NAME --from other.py:損失"),
        (("--from", "other.py:takes_anything"), "A published plugin must name its options. Name them."),
        (
            ("--from", "other.py:a_name_that_is_longer_than_names_may_be"),
            "Choose a shorter one. Write: plugrad new loss NAME",
        ),
        (("--from", "relative.py:f"), "named by its module, from the folder that has the package: package.module:function"),
        (("--from", "other.py:KLÜbung"), "needs the option scale"),
        (("--from", "other.py:KLÜbung", "--set", "scale=abc"), "which is not float"),
        (("--from", "other.py:hard", "--set", "gain=2020-01-01"), "cannot repeat a date"),
        (("--from", "other.py:hard", "--example", "{bad"), "is not JSON"),
        (("--from", "dynamic.py:hard"), "loads 'helpers', a module of yours, without an import statement"),
        (("loss", "helpers", "--from", "mine.py:my_loss"), "would be helpers.py in the package"),
        (("loss", "--from", "math:sin"), "no file of Python source"),
        (("loss",), "Write: plugrad new loss my_idea, or: plugrad new --from"),
        (("loss", "my_idea", "--set", "a=1"), "Add --from"),
    ],
)
def test_what_cannot_be_is_bad_input_and_leaves_nothing_behind(plugrad, folder, arguments, said):
    before = sorted(folder.rglob("*"))
    done = plugrad("new", *arguments)
    assert done.returncode == 2, done.stdout
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert sorted(folder.rglob("*")) == before


def test_nothing_is_overwritten(plugrad, folder):
    assert plugrad("new", "--from", "other.py:hard").returncode == 0
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    again = plugrad("new", "--from", "other.py:hard")
    assert again.returncode == 2
    assert "plugrad-hard already exists" in again.stderr
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before
