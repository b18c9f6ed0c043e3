"""`plugrad new`, installed by pip: the tests that come with it pass, and fail when what they are there for breaks."""

import re
from contextlib import ExitStack, contextmanager

import pytest

from plugrad.registry.scan import KINDS

ROUNDS = [
    {
        "loss": ("per_token = -weight", "per_token = weight"),
        "advantage": ("mean(dim=1, keepdim=True)", "mean()"),
        "metric": ('["reward"] >= threshold', '["reward"] > threshold'),
        "environment": ("str(n)[::-1]", "str(n)"),
        "turns": ("1 - turn / self._turns", "1.0"),
        "extension": ("prepared.rewards - penalty", "prepared.rewards + penalty"),
    },
    {
        "loss": ("LossOutputs(per_token,", "LossOutputs(per_token / inputs.loss_mask.sum(),"),
        "advantage": (".clamp(-limit, limit)", ""),
        "metric": ("count=len(rollouts)", "count=1"),
        "environment": ("return right / len(reference)", "return float(right > 0)"),
        "turns": ('"<" if guess > secret else ">"', '">" if guess > secret else "<"'),
        "extension": ("replace(prepared, rewards=prepared.rewards - penalty)", "prepared"),
    },
    {
        "loss": ("inputs.inference_logprobs).detach())", "inputs.inference_logprobs))"),
        "environment": ("examples[:num_eval], examples[num_eval:]", "examples, examples"),
        "turns": ("examples[:num_eval], examples[num_eval:]", "examples, examples"),
        "extension": ("completion_lengths", "completion_lengths.float().mean()"),
    },
    {
        "loss": ("max=max_ratio", "max=2 * max_ratio"),
        "environment": ("return 0.0", "pass"),
    },
]
"""What is broken together, since each package has its own tests: what stands in the component, and what is put there."""

SAMPLES = {**{kind: [kind] for kind in KINDS}, "turns": ["environment", "--turns"]}
"""What `plugrad new` is told, for each sample."""

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def packages(environment, tmp_path_factory):
    """A new package of each kind, installed: their folders by kind."""
    folder = tmp_path_factory.mktemp("new")
    for sample, words in SAMPLES.items():
        environment.succeed("-m", "plugrad", "new", words[0], f"my_{sample}", *words[1:], cwd=folder)
    made = {sample: folder / f"plugrad-my-{sample}" for sample in SAMPLES}
    environment.install(*made.values())
    return made


def run_tests(environment, *folders, arguments=()):
    """Run the tests that came with the packages, from outside them."""
    command = ("-m", "pytest", "-q", "-p", "no:cacheprovider", *arguments)
    return environment.call(*command, *folders, cwd=folders[0].parent)


def module_of(environment, kind):
    return environment.site / f"plugrad_my_{kind}" / f"my_{kind}.py"


@pytest.mark.parametrize("kind", SAMPLES)
def test_its_tests_pass(environment, packages, kind):
    code, printed = run_tests(environment, packages[kind])
    assert code == 0, printed
    assert re.search(r"\d\d passed", printed), printed


@contextmanager
def replaced(path, pairs):
    """Put other text into a file, and the right one back."""
    text = broken = path.read_text(encoding="utf-8")
    for right, wrong in pairs:
        assert broken.count(right) == 1
        broken = broken.replace(right, wrong)
    path.write_text(broken, encoding="utf-8")
    try:
        yield
    finally:
        path.write_text(text, encoding="utf-8")


@pytest.mark.parametrize("broken", ROUNDS, ids=range(1, len(ROUNDS) + 1))
def test_its_own_tests_find_what_is_broken(environment, packages, broken):
    """Without the conformance kit: what is done by hand."""
    with ExitStack() as stack:
        for kind, pair in broken.items():
            stack.enter_context(replaced(module_of(environment, kind), [pair]))
        folders = [packages[kind] for kind in broken]
        exit_code, printed = run_tests(environment, *folders, arguments=["-k", "not promises"])
    assert exit_code == 1, printed
    for kind in broken:
        assert re.search(rf"^FAILED .*test_my_{kind}\.py", printed, flags=re.MULTILINE), printed


def test_the_conformance_kit_finds_the_wrong_sign(environment, packages):
    with replaced(module_of(environment, "loss"), [ROUNDS[0]["loss"]]):
        exit_code, printed = run_tests(environment, packages["loss"], arguments=["-k", "promises and sign"])
    assert exit_code == 1
    assert re.search(r"test_promises_of_a_loss\[\w*sign\w*\]", printed), printed


def test_their_tests_fail_without_the_entry_point(environment, packages):
    with ExitStack() as stack:
        for folder in packages.values():
            pyproject = folder / "pyproject.toml"
            (lines,) = re.findall(r"^\[project\.entry-points.*\n.*\n", pyproject.read_text(), flags=re.MULTILINE)
            stack.enter_context(replaced(pyproject, [(lines, "")]))
        environment.install(*packages.values())
        exit_code, printed = run_tests(environment, *packages.values())
    environment.install(*packages.values())
    assert exit_code != 0
    for kind in packages:
        assert f"no {SAMPLES[kind][0]} is called 'plugrad-my-{kind}/my_{kind}'" in printed


@pytest.mark.parametrize("kind", SAMPLES)
def test_the_readmes_run_file_trains(environment, packages, kind, tmp_path):
    readme = (packages[kind] / "README.md").read_text(encoding="utf-8")
    (run_file,) = re.findall(r"^```toml\n(.*?)^```", readme, flags=re.MULTILINE | re.DOTALL)
    (tmp_path / "run.toml").write_text(run_file, encoding="utf-8")
    assert "plugrad train run.toml" in readme
    environment.succeed("-m", "plugrad", "train", "run.toml", cwd=tmp_path)
    recorded = (tmp_path / "runs" / f"my_{kind}" / "plugins.json").read_text(encoding="utf-8")
    assert f'"plugrad-my-{kind}"' in recorded


def test_the_two_commands_work_as_they_are_pasted(environment, tmp_path):
    printed = environment.succeed("-m", "plugrad", "new", "advantage", "pasted_idea", cwd=tmp_path)
    commands = "\n".join(printed.splitlines()[-2:])
    assert "pip install" in commands
    # pytest sees what is installed here, but its program lies elsewhere.
    (environment.programs / "pytest").write_text(
        f"#!{environment.programs}/python\nimport pytest\nraise SystemExit(pytest.main())\n"
    )
    (environment.programs / "pytest").chmod(0o755)
    code, done = environment.call_program("/bin/sh", "-euc", commands, cwd=tmp_path)
    environment.succeed("-m", "pip", "uninstall", "--yes", "plugrad-pasted-idea", cwd=tmp_path)
    assert code == 0, done
    assert " passed" in done
