"""Runs with teachers: the divergence from one, several by name, and a policy that is its own with another prompt."""

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from plugrad import DataError, ModelError, OptionError, PluginError, RunFileError
from plugrad.policy.character_tokenizer import character_tokenizer
from plugrad.testing import tiny_model

PLUGINS = """
from plugrad import BatchLossInputs, LossInputs, LossOutputs, Mean, TeacherDivergence, advantage, loss


@loss(needs=lambda options: {TeacherDivergence(options["kind"], temperature=options["temperature"], beta=options["beta"])})
def distil(inputs: BatchLossInputs, kind: str = "forward", temperature: float = 1.0, beta: float = 0.5) -> LossOutputs:
    divergence = temperature**2 * inputs.teacher_divergence
    return LossOutputs(divergence, {"divergence": Mean.over(divergence, inputs.loss_mask)})


@loss(needs={"teacher_logprobs"}, policy_gradient=False)
def says(inputs: LossInputs) -> LossOutputs:
    mean = Mean.over(inputs.teacher_logprobs, inputs.loss_mask)
    return LossOutputs(-(inputs.teacher_logprobs.exp() * inputs.trainer_logprobs * inputs.loss_mask), {"mean": mean})


class Sums:
    def __init__(self, teachers: str = "", told: bool = False, long: int = 0):
        self.teachers, self.told, self.long = teachers.split(), told, long

    def train_examples(self):
        made = [{"prompt": f"{i}+{j}=", "reference": str(i + j)} for i in range(2, 8) for j in (1, 5)]
        for place, example in enumerate(made):
            if self.teachers:
                example["teacher"] = self.teachers[place % len(self.teachers)]
            if self.told:
                example["teacher_prompt"] = example["reference"] * (self.long or 1) + "=" + example["prompt"]
        return made

    def eval_examples(self):
        return []

    def score(self, rollouts):
        return [1.0] * len(rollouts)
"""
HEAD = "from plugrad import LossInputs, LossOutputs, TeacherDivergence, loss\n\n\n"
WRONG = {
    "unsaid": '@loss(needs={"teacher_divergence"})',
    "two": '@loss(needs={TeacherDivergence("forward"), TeacherDivergence("reverse")})',
}
WRONG_LOSS = "def wrong(inputs: LossInputs) -> LossOutputs:\n    return LossOutputs(inputs.trainer_logprobs)\n"
SCRATCH = {"from_scratch": {"model_type": "qwen3", "hidden_size": 32}}


@pytest.fixture
def taught(run, write, tmp_path):
    """Train on twelve fixed sums."""
    write("plugins.py", PLUGINS)
    for name, marker in WRONG.items():
        write(f"{name}.py", f"{HEAD}{marker}\n{WRONG_LOSS}")

    def train(folder="run", loss="distil", sums=None, options=None, **tables):
        rollout = {"engine": "dataset", "prompts_per_step": 12, "rollouts_per_example": 1, "max_new_tokens": 4}
        return run(
            output_dir=str(tmp_path / folder),
            environment={"name": "plugins.py:Sums", "kwargs": sums or {}},
            rollout=rollout,
            loss={"name": loss if ":" in loss or loss == "cross_entropy" else f"plugins.py:{loss}", "kwargs": options or {}},
            **{"max_steps": 1, "optimizer": {"lr": 1e-2}} | tables,
        )

    return train


@pytest.fixture
def two_teachers(taught):
    """Folders of two models that learned a little, from other numbers."""
    made = [
        taught(name, "cross_entropy", seed=seed, max_steps=2, model=SCRATCH).model for name, seed in (("a", 5), ("b", 6))
    ]
    return [str(folder) for folder in made]


@pytest.mark.parametrize(("kind", "temperature"), [("forward", 1.0), ("reverse", 2.0), ("jsd", 1.0)])
def test_the_policy_approaches_its_teacher(taught, two_teachers, kind, temperature):
    model = {**SCRATCH, "teacher": {"name": two_teachers[0]}}
    options = {"kind": kind, "temperature": temperature}
    records = taught(model=model, options=options, max_steps=12, seed=1).records
    assert records[-1]["distil/divergence"] < 0.5 * records[0]["distil/divergence"]


def test_every_example_has_the_teacher_that_it_names(taught, two_teachers):
    of_a, of_b = (
        taught(f"only {name}", "says", model={**SCRATCH, "teacher": {"name": folder}}).records[0]["says/mean"]
        for name, folder in zip("ab", two_teachers, strict=True)
    )
    assert of_a != of_b
    teachers = {"a": {"name": two_teachers[0]}, "b": {"name": two_teachers[1]}}
    for names, expected in (("a", of_a), ("b", of_b)):
        found = taught(f"all {names}", "says", {"teachers": names}, model={**SCRATCH, "teachers": teachers}).records[0]
        assert found["says/mean"] == pytest.approx(expected, rel=1e-6)
    mixed = taught("mixed", "says", {"teachers": "a b"}, model={**SCRATCH, "teachers": teachers}).records[0]["says/mean"]
    assert min(of_a, of_b) < mixed < max(of_a, of_b) or mixed not in (of_a, of_b)
    both = taught("both", sums={"teachers": "a b"}, model={**SCRATCH, "teachers": teachers}, max_steps=12).records
    assert both[-1]["distil/divergence"] < both[0]["distil/divergence"]


def test_a_teacher_that_is_told_nothing_else_says_what_the_policy_says(taught, two_teachers):
    records = taught(model={"name": two_teachers[0], "teacher": {"name": two_teachers[0]}}).records
    assert records[0]["distil/divergence"] == pytest.approx(0.0, abs=1e-6)


@pytest.mark.parametrize(
    ("arguments", "error", "told"),
    [
        ({"model": SCRATCH}, RunFileError, r"'distil' .* needs teacher_divergence, and the run file has no teacher"),
        ({"model": SCRATCH, "loss": "unsaid.py:wrong"}, PluginError, r"say which one.*TeacherDivergence\('forward'\)"),
        ({"model": SCRATCH, "loss": "two.py:wrong"}, PluginError, "asks for two divergences"),
        ({"options": {"kind": "jsd", "beta": 1.0}}, OptionError, "Write forward or reverse"),
        ({"options": {"kind": "sideways"}}, OptionError, "unknown kind"),
        ({"model": {**SCRATCH, "teacher": {}}}, RunFileError, "give either `name`"),
        ({"model": {**SCRATCH, "teacher": {"name": "x", "policy": True}}}, RunFileError, "give either `name`"),
        ({"model": {**SCRATCH, "teacher": {"policy": True}}}, RunFileError, r"has no column 'teacher_prompt'"),
        (
            {"model": {**SCRATCH, "teachers": {"math": {"name": "x"}}}},
            RunFileError,
            "has no column 'teacher', which names its teacher: one of math",
        ),
        (
            {"model": {**SCRATCH, "teachers": {"math": {"name": "x"}}}, "sums": {"teachers": "mth"}},
            RunFileError,
            "names the teacher 'mth' in its column 'teacher'. Did you mean 'math'",
        ),
        (
            {"model": {**SCRATCH, "teacher": {"name": "x"}, "teachers": {"math": {"name": "x"}}}},
            RunFileError,
            r"\[model.teacher\], which teaches all examples",
        ),
        (
            {"model": {**SCRATCH, "teacher": {"policy": True}}, "sums": {"told": True, "long": 3000}},
            DataError,
            "the column teacher_prompt: 12 of 12 prompts are too long",
        ),
    ],
)
def test_what_does_not_fit_together_is_refused(taught, arguments, error, told):
    with pytest.raises(error, match=told):
        taught(**{"model": {**SCRATCH, "teacher": {"name": "never/loaded"}}, **arguments})


def test_a_teacher_with_another_tokenizer_is_refused(taught, tmp_path):
    folder = tmp_path / "other"
    tiny_model(seed=1).save_pretrained(folder)
    character_tokenizer(["abcdef"]).save_pretrained(folder)
    with pytest.raises(ModelError, match="is not the policy's"):
        taught(model={**SCRATCH, "teacher": {"name": str(folder)}})


@torch.no_grad()
def mean_divergence(own, teacher, told=""):
    """Return KL(teacher || own) over the tokens of the sums, by Transformers alone. A teacher may be told the answer."""
    own, teacher = (AutoModelForCausalLM.from_pretrained(folder) for folder in (own, teacher))
    tokenizer = AutoTokenizer.from_pretrained(own.name_or_path)
    each = []
    for prompt, reference in ((f"{i}+{j}=", str(i + j)) for i in range(2, 8) for j in (1, 5)):
        before = f"{reference}={prompt}" if told else prompt
        log_p, log_q = (
            model(torch.tensor([[*tokenizer(f"{read}{reference}")["input_ids"], tokenizer.eos_token_id]])).logits
            .log_softmax(-1)[0, len(read) - 1 : -1]
            for model, read in ((own, prompt), (teacher, before))
        )  # fmt: skip
        each.append((log_q.exp() * (log_q - log_p)).sum(-1))
    return float(torch.cat(each).mean())


def test_the_first_number_is_the_divergence_of_the_models(taught, two_teachers):
    found = taught(model={"name": two_teachers[0], "teacher": {"name": two_teachers[1]}}).records[0]["distil/divergence"]
    assert found == pytest.approx(mean_divergence(*two_teachers), rel=1e-4)


@pytest.mark.parametrize("teacher", ["itself", "another"])
def test_a_teacher_reads_its_own_prompt(taught, two_teachers, teacher):
    own, other = two_teachers
    table = {"policy": True} if teacher == "itself" else {"name": other}
    found = taught(sums={"told": True}, model={"name": own, "teacher": table}).records[0]["distil/divergence"]
    expected = mean_divergence(own, own if teacher == "itself" else other, told="the answer")
    assert expected > 1e-5
    assert found == pytest.approx(expected, rel=1e-2)
