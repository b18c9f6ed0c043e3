"""The samples that a run leaves in its folder."""

import json

import pytest

from plugrad.trainer.samples.sample import Sample

OF_PLAYS = ("turns", "segments", "failed")


def samples_of(result):
    return [json.loads(line) for line in (result.folder / "samples.jsonl").read_text().splitlines()]


@pytest.fixture
def rewarded(tmp_path):
    (tmp_path / "parts.py").write_text(
        "def parts(completion, example):\n    return {'ones': completion.count('1'), 'short': -0.1 * len(completion)}\n"
    )
    kwargs = {"path": "sums.jsonl", "reward": "parts.py:parts", "num_eval": 8}
    return {"name": "jsonl", "kwargs": kwargs}


def test_they_come_from_the_first_the_last_and_every_so_many_steps_and_from_every_evaluation(run, rewarded):
    result = run(
        environment=rewarded,
        max_steps=5,
        samples={"every_steps": 2, "num": 3},
        evaluation={"every_steps": 4, "num_examples": 6},
    )
    samples = samples_of(result)
    batches = [(sample["step"], sample["phase"]) for sample in samples[::3]]
    assert [(sample["step"], sample["phase"]) for sample in samples] == [batch for batch in batches for _ in range(3)]
    training, evaluation = "training", "evaluation"
    assert batches == [
        (0, evaluation), (1, training), (2, training), (4, evaluation), (4, training), (5, evaluation), (5, training)
    ]  # fmt: skip
    for sample in samples:
        assert list(sample) == [name for name in Sample.__annotations__ if name not in OF_PLAYS]
        assert sample["set"] is None
        left, right = sample["prompt"].removesuffix("=").split("+")
        assert sample["reference"] == str(int(left) + int(right))
        assert sample["reward"] == pytest.approx(sum(sample["rewards"].values()))
        assert sample["rewards"].keys() == {"ones", "short"}
        assert (sample["advantage"] is None) == (sample["phase"] == evaluation)
        assert 1 <= sample["length"] <= 4
        assert sample["truncated"] == (not sample["completion"].endswith("<eos>"))
        assert sample["policy_version"] == max(sample["step"] - (sample["phase"] == training), 0)
    last = [sample for sample in samples if sample["step"] == 5 and sample["phase"] == training]
    assert len({(sample["group"], sample["completion"]) for sample in last}) == 3
    assert max(sample["group"] for sample in last) < 4


def test_special_tokens_are_visible_although_the_environment_does_not_see_them(run):
    rollout = {"prompts_per_step": 2, "rollouts_per_example": 16, "max_new_tokens": 4, "skip_special_tokens": True}
    samples = samples_of(run(max_steps=1, rollout=rollout, samples={"num": 32}))
    assert len(samples) == 32
    assert any("<pad>" in sample["completion"] or "<unk>" in sample["completion"] for sample in samples)


def test_they_can_be_turned_off(run):
    result = run(max_steps=1, samples={"every_steps": 0}, evaluation={"every_steps": 1})
    assert not (result.folder / "samples.jsonl").exists()


def test_a_file_that_cannot_be_written_costs_the_samples_and_not_the_run(run, write, caplog):
    write(
        "blocks.py",
        """
        from plugrad import hookimpl

        class Blocks:
            '''Puts a folder where the samples would be.'''

            @hookimpl
            def on_run_start(self, run):
                (run.folder / "samples.jsonl").mkdir()
        """,
    )
    result = run(samples={"every_steps": 1}, extension=[{"name": "blocks.py:Blocks"}])
    assert result.num_steps == 3
    assert caplog.text.count("The run goes on without samples.") == 1
