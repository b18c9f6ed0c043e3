"""`plugrad new --from`, installed by pip: a user's own file becomes a package that passes its own tests and trains."""

import re
import shlex
from dataclasses import dataclass
from textwrap import dedent

import pytest

pytestmark = pytest.mark.slow


@dataclass(frozen=True)
class Own:
    """What a user has: files by name, the component, and what else the command is told."""

    reference: str
    name: str
    kind: str
    files: dict
    arguments: tuple = ()
    trains: bool = True
    is_checked: bool = False
    """Whether `plugrad check` runs as well: what it checks, the tests have checked."""
    holds: tuple = ()


OWN = [
    Own(
        "./pg.py:focused",
        "focused",
        "loss",
        {
            "pg.py": """
                '''Losses of mine.'''
                import helpers, math
                from typing import Literal
                from weights import WEIGHT
                from weights.shapes import bounded as limited
                from plugrad import LossInputs, LossOutputs, loss

                @loss(policy_gradient=True)
                def focused(inputs: LossInputs, gamma: float = 2.0, mode: Literal["a", "b"] = "a") -> LossOutputs:
                    '''-(1 - p)^gamma * A * log pi.'''
                    weight = limited(helpers.focus(inputs.trainer_logprobs.detach(), gamma)) * WEIGHT
                    return LossOutputs(-weight * inputs.advantages * inputs.trainer_logprobs)
            """,
            "helpers.py": "import weights.shapes\n\n\ndef focus(logprobs, gamma):\n"
            "    return weights.shapes.bounded(1 - logprobs.exp()) ** gamma\n",
            "weights/__init__.py": "WEIGHT = 1.0\n",
            "weights/shapes.py": "from . import WEIGHT\n\n\ndef bounded(x):\n    return x.clamp(max=WEIGHT)\n",
        },
        holds=("helpers.py", "weights/shapes.py"),
    ),
    Own(
        "./state.py:Zähler",
        "zahler",
        "loss",
        {
            "state.py": """
                from plugrad import LossInputs, LossOutputs, loss

                @loss(policy_gradient=True)
                class Zähler:
                    def __init__(self, scale: float, table: dict[str, float]):
                        self.scale = scale * table["a b"]

                    def __call__(self, inputs: LossInputs) -> LossOutputs:
                        return LossOutputs(-self.scale * inputs.advantages * inputs.trainer_logprobs)
            """
        },
        ("--set", "scale=2", "--set", 'table={"a b" = 0.5}'),
    ),
    Own(
        "./hard.py:hard_first",
        "hard_first",
        "advantage",
        {
            "hard.py": """
                import torch
                from plugrad import AdvantageInputs, AdvantageOutputs, advantage

                @advantage(min_rollouts_per_example=2)
                def hard_first(inputs: AdvantageInputs, gain: float = 1.0) -> AdvantageOutputs:
                    difficulty = [[rollout["example"]["difficulty"] for rollout in group] for group in inputs.rollouts]
                    centred = inputs.rewards - inputs.rewards.mean(dim=1, keepdim=True)
                    return AdvantageOutputs(centred * (1 + gain * torch.tensor(difficulty)))
            """
        },
        ("--example", '{"difficulty": 1}'),
        trains=False,
        is_checked=True,
    ),
    Own(
        "./words.py:WordsEnv",
        "words_env",
        "environment",
        {
            "words.py": """
                from pathlib import Path

                class WordsEnv:
                    def __init__(self, path: Path, more: bool = False):
                        own = Path(__file__).with_name("few.txt").read_text().split()
                        self.words = path.read_text().split() + own

                    def train_examples(self):
                        return [{"prompt": f"{word}>", "reference": word} for word in self.words[2:]]

                    def eval_examples(self):
                        return [{"prompt": f"{word}>", "reference": word} for word in self.words[:2]]

                    def score(self, rollouts):
                        return [float(r["completion"][:1] == r["example"]["reference"][:1]) for r in rollouts]
            """,
            "few.txt": "ab cd ef gh\n",
            "many.txt": "one two three four five six seven eight nine ten\n",
        },
        ("--set", "path=many.txt"),
        trains=False,
        is_checked=True,
        holds=("few.txt",),
    ),
    Own(
        "kit.penalties:Cost",
        "length_cost",
        "extension",
        {
            "kit/__init__.py": "from .penalties import Cost\n",
            "kit/numbers.py": "DEFAULT = 0.01\n",
            "kit/penalties.py": """
                from dataclasses import replace
                from plugrad import hookimpl
                from .numbers import DEFAULT

                class Cost:
                    def __init__(self, per_token: float = DEFAULT):
                        self.per_token = per_token

                    @hookimpl(wrapper=True)
                    def prepare_advantages(self, inputs):
                        prepared = yield
                        return replace(prepared, rewards=prepared.rewards - self.per_token * prepared.completion_lengths)
            """,
        },
        ("extension", "length_cost"),
        holds=("kit/penalties.py", "kit/numbers.py"),
    ),
]


@pytest.fixture(scope="module")
def folder(environment, tmp_path_factory):
    """The user's folder, with the packages made from their files and installed; the files are as they were."""
    here = tmp_path_factory.mktemp("own")
    for own in OWN:
        for name, text in own.files.items():
            (here / name).parent.mkdir(exist_ok=True)
            (here / name).write_text(dedent(text).lstrip(), encoding="utf-8")
    before = {path: path.read_bytes() for path in here.rglob("*") if path.is_file()}
    for own in OWN:
        environment.succeed("-m", "plugrad", "new", "--from", own.reference, *own.arguments, cwd=here)
    after = {
        path: path.read_bytes()
        for path in here.rglob("*")
        if path.is_file() and path.parts[len(here.parts)][:7] != "plugrad"
    }
    assert after == before
    environment.install(*(here / package(own) for own in OWN))
    return here


def package(own):
    return f"plugrad-{own.name.replace('_', '-')}"


@pytest.mark.parametrize("own", OWN, ids=lambda own: own.name)
def test_its_tests_pass(environment, folder, own):
    """Where the user's own files are not found."""
    made = folder / package(own)
    for held in own.holds:
        assert (environment.site / package(own).replace("-", "_") / held).is_file()
    code, printed = environment.call("-m", "pytest", "-q", "-p", "no:cacheprovider", made, cwd=made)
    assert code == 0, printed
    assert re.search(r"\d\d passed", printed), printed


@pytest.mark.parametrize("own", [own for own in OWN if own.is_checked], ids=lambda own: own.name)
def test_the_readmes_check_passes(environment, folder, own):
    made = folder / package(own)
    (command,) = re.findall(r"^plugrad (check .*)$", (made / "README.md").read_text(encoding="utf-8"), flags=re.MULTILINE)
    environment.succeed("-m", "plugrad", *shlex.split(command), cwd=made)


@pytest.mark.parametrize("own", [own for own in OWN if own.trains], ids=lambda own: own.name)
def test_the_readmes_run_file_trains(environment, folder, own, tmp_path):
    readme = (folder / package(own) / "README.md").read_text(encoding="utf-8")
    (run_file,) = re.findall(r"^```toml\n(.*?)^```", readme, flags=re.MULTILINE | re.DOTALL)
    (tmp_path / "run.toml").write_text(run_file, encoding="utf-8")
    environment.succeed("-m", "plugrad", "train", "run.toml", cwd=tmp_path)
    recorded = (tmp_path / "runs" / own.name / "plugins.json").read_text(encoding="utf-8")
    assert f'"{package(own)}"' in recorded
