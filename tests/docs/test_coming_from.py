"""The pages for people who come from other systems: their side runs and says what ours says.

What a block imports of a system that is not installed stands for what that system documents: the modules of plugrad-compat.
"""

import difflib
import importlib.util
import re
import sys
import tomllib
from pathlib import Path
from types import ModuleType

import pytest
import torch
import yaml
from typer.testing import CliRunner

from plugrad import LossInputs, load
from plugrad.cli.main import app
from plugrad_compat import nemo_rl, prime_rl, skyrl, verl
from plugrad_compat.skyrl.loss import REDUCTIONS as OF_SKYRL
from plugrad_compat.verl.loss import REDUCTIONS as OF_VERL

ROOT = Path(__file__).parents[2]
PAGES = sorted((ROOT / "docs" / "coming-from").glob("*.md"))
INDEX = ROOT / "docs" / "coming-from" / "index.md"
BLOCK = re.compile(r'^```(?P<language>\w+) title="(?P<title>[^"]+)"\n(?P<body>.*?)^```$', flags=re.MULTILINE | re.DOTALL)
BLOCKS = {match["title"]: match["body"] for page in PAGES for match in BLOCK.finditer(page.read_text(encoding="utf-8"))}
STAND_INS = {
    "skyrl_train.algorithms.policy_losses": skyrl,
    "skyrl_train.utils.ppo_utils": skyrl,
    "verl.trainer.ppo.core_algos": verl,
    "nemo_rl.algorithms.interfaces": nemo_rl,
    "nemo_rl.algorithms.loss.interfaces": nemo_rl,
    "prime_rl.trainer.rl.loss": prime_rl,
}
INSTALLED = {root for root in {name.partition(".")[0] for name in STAND_INS} if importlib.util.find_spec(root)}
PAIRS = [title for title in BLOCKS if title.startswith("their ") and title != "their train.py"]
PACKAGES = ("datasets", "trl")


@pytest.fixture
def page(tmp_path, monkeypatch):
    """Write every block that has a title into an empty folder, and let it be found from there."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    for title, body in BLOCKS.items():
        (tmp_path / title).write_text(body, encoding="utf-8")
    return tmp_path


@pytest.fixture
def stand_ins(monkeypatch):
    """Put the documented modules in the place of those that are not installed."""
    for name, module in STAND_INS.items():
        parts = name.split(".")
        for depth in range(1, len(parts)):
            if parts[0] not in INSTALLED:
                monkeypatch.setitem(sys.modules, ".".join(parts[:depth]), ModuleType(parts[0]))
        if parts[0] not in INSTALLED:
            monkeypatch.setitem(sys.modules, name, module)


def run(title):
    namespace = {"__name__": title.partition(".")[0]}
    exec(compile(BLOCKS[title], title, "exec"), namespace)
    return namespace


def train(run_file, *arguments):
    result = CliRunner().invoke(app, ["train", run_file, *arguments])
    assert result.exit_code == 0, result.output
    return Path(tomllib.loads(BLOCKS[run_file])["output_dir"])


def table(title):
    return tomllib.loads(BLOCKS[title])


def config(title):
    return yaml.safe_load(BLOCKS[title])


@pytest.mark.parametrize("theirs", PAIRS)
def test_nothing_but_imports_is_changed(theirs):
    ours = BLOCKS[theirs.removeprefix("their ")]
    changed = [line for line in difflib.ndiff(BLOCKS[theirs].splitlines(), ours.splitlines()) if line[0] in "+-"]
    assert changed
    assert all(re.match(r"[+-] from \S+ import ", line) for line in changed), changed


@pytest.mark.parametrize("theirs", PAIRS)
def test_their_side_runs_too(theirs, stand_ins):
    assert len(run(theirs)) > 2


def test_skyrls_config_says_what_ours_says():
    algorithm, ours = config("skyrl.yaml")["trainer"]["algorithm"], table("skyrl.toml")["loss"]
    name = algorithm["policy_loss_type"]
    assert ours["kwargs"]["target"].endswith(f":{name}")
    assert ours["kwargs"]["config"] == algorithm[name]
    assert ours["reduction"] == OF_SKYRL[algorithm["loss_reduction"]]


def test_verls_config_says_what_ours_says():
    theirs, ours = config("verl.yaml"), table("verl.toml")
    actor = theirs["actor_rollout_ref"]["actor"]
    assert ours["loss"]["kwargs"]["target"].endswith(f":{actor['policy_loss']['loss_mode']}")
    assert ours["loss"]["kwargs"]["config"] == {"clip_ratio_high": actor["clip_ratio_high"]}
    assert ours["loss"]["reduction"] == OF_VERL[actor["loss_agg_mode"]]
    assert ours["advantage"]["kwargs"]["target"].endswith(f":{theirs['algorithm']['adv_estimator']}")


def test_nemo_rls_config_says_what_ours_says():
    theirs, ours = config("nemo_rl.yaml")["loss_function"], table("nemo_rl.toml")["loss"]["kwargs"]
    assert ours["target"].endswith(f":{theirs['name']}")
    assert ours["config"] == theirs["params"]


def test_prime_rls_config_says_what_ours_says():
    theirs, ours = table("prime-rl's trainer.toml")["loss"], table("later_names.toml")["loss"]["kwargs"]
    assert ours["target"] == "./{}.py:{}".format(*theirs["import_path"].split("."))
    assert ours["kwargs"] == theirs["kwargs"]


def test_prime_rls_files_name_what_there_is():
    written = table("prime-rl with plugrad's gspo and rloo")
    loss, advantage = written["trainer"]["loss"], written["orchestrator"]["advantage"]
    found = []
    for part in (loss, advantage):
        module, _, name = part["import_path"].rpartition(".")
        found.append(getattr(importlib.import_module(module), name))
    ones = torch.ones(3)
    outputs = found[0](
        LossInputs(trainer_logprobs=-ones, inference_logprobs=-ones, advantages=ones, loss_mask=ones.bool()),
        **loss["kwargs"],
    )
    assert outputs.loss.item() == pytest.approx(-3.0)
    given = type("Inputs", (), {"rewards": torch.tensor([[1.0, 0.0]])})
    assert found[1](given, **advantage["kwargs"]).advantages.tolist() == [[1.0, -1.0]]


@pytest.mark.parametrize("main", ["skyrl_main.py", "nemo_main.py"])
def test_the_way_back_runs(main, stand_ins):
    run(main)
    assert main != "skyrl_main.py" or "plugrad_gspo" in skyrl.PolicyLossRegistry.list_available()


def test_the_way_to_verl_runs():
    core_algos = pytest.importorskip("verl.trainer.ppo.core_algos", reason="nox -s compat installs it")
    run("verl_main.py")
    assert core_algos.get_policy_loss_fn("plugrad_gspo").name == "gspo"
    assert core_algos.get_adv_estimator_fn("plugrad_rloo").name == "rloo"


def test_the_reward_functions_run_here_and_in_trl(page):
    for package in PACKAGES:
        pytest.importorskip(package, reason="nox -s compat installs it")
    ours = train("trl.toml")
    assert (ours / "model").is_dir()
    assert '"reward_components/short"' in (ours / "metrics.jsonl").read_text()
    assert run("their train.py")["trainer"].state.global_step == 2
    trained = run("trl_main.py")["trainer"]
    assert trained.state.global_step == 2
    assert any("gspo/ratio" in entry for entry in trained.state.log_history)


def test_the_reward_functions_names_are_those_of_the_run_file():
    theirs = re.findall(r"reward_funcs=\[(.*)\]", BLOCKS["their train.py"])[0].split(", ")
    kwargs = table("trl.toml")["environment"]["kwargs"]
    assert [reference.rpartition(":")[2] for reference in kwargs["rewards"]] == theirs
    assert f"reward_weights={kwargs['weights']}" in BLOCKS["their train.py"]


def test_every_system_of_the_names_table_has_a_page():
    (header,) = re.findall(r"^\| here \| (SkyRL.*) \|$", INDEX.read_text(encoding="utf-8"), flags=re.MULTILINE)
    titles = {re.search(r"^# (.+)$", page.read_text(encoding="utf-8"), flags=re.MULTILINE)[1] for page in PAGES}
    assert titles == {f"Coming from {system}" for system in ["another system", *header.split(" | ")]}


def test_its_names_are_the_fields_of_the_inputs():
    text = INDEX.read_text(encoding="utf-8").partition("## Names of the same thing")[2].partition("\n## ")[0]
    names = re.findall(r"^\| `(\w+)` \|", text, flags=re.MULTILINE)
    from plugrad import BatchLossInputs

    assert set(names) <= set(BatchLossInputs.__dataclass_fields__)
    assert {"old_logprobs", "inference_logprobs", "ref_logprobs", "logits"} <= set(names)


def test_what_is_called_entropy_in_skyrls_guide_is_not_it(page):
    """-sum p log p over a vocabulary of two, against p log p of what was sampled, in expectation."""
    probabilities = torch.tensor([0.9, 0.1])
    entropy = -(probabilities * probabilities.log()).sum()
    of_the_sampled = -(probabilities * probabilities * probabilities.log()).sum()
    assert abs(entropy - of_the_sampled) > 0.1
    loss = load("loss", "plugrad-compat/skyrl", target="./entropy_regularized.py:EntropyRegularizedLoss")
    ones = torch.ones(2)
    inputs = LossInputs(
        trainer_logprobs=-ones, inference_logprobs=-ones, advantages=0 * ones, loss_mask=ones.bool(), old_logprobs=-ones
    )
    assert loss(inputs).loss.item() == pytest.approx(-0.01 * 2 * torch.tensor(-1.0).exp().item())
