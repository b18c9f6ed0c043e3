"""The run file: strict tables, and errors that name the key."""

import pytest

from plugrad import RunFile, RunFileError

TABLES = {"model": {"name": "a/model"}, "environment": {"name": "arithmetic"}}


def test_a_run_file_of_four_lines_is_whole(read):
    run_file = read()
    assert (run_file.model.name, run_file.environment.name) == ("a/model", "arithmetic")
    assert [(loss.name, loss.weight, loss.reduction) for loss in run_file.loss] == [("importance_sampling", 1.0, None)]
    assert (run_file.metrics, run_file.extension, run_file.max_steps) == ("all", [], 100)


def test_every_table_is_read(read):
    run_file = read("""[rollout]
prompts_per_step = 4
temperature = 1
[[loss]]
name = "ppo_clip"
kwargs = { clip_eps = 0.1 }
[[loss]]
name = "kl_to_reference"
weight = 0.05
reduction = "sequence"
[advantage]
name = "group_normalized"
[[metric]]
name = "reward"
[[extension]]
name = "nan_guard"
[optimizer]
betas = [0.5, 0.75]
[evaluation]
every_steps = 5
stop_at_reward = 0.5
[model.reference]
name = "another/model"
""")
    assert [(loss.name, loss.kwargs, loss.weight, loss.reduction) for loss in run_file.loss] == [
        ("ppo_clip", {"clip_eps": 0.1}, 1.0, None),
        ("kl_to_reference", {}, 0.05, "sequence"),
    ]
    assert (run_file.rollout.prompts_per_step, run_file.rollout.temperature) == (4, 1.0)
    assert run_file.optimizer.betas == [0.5, 0.75]
    assert run_file.evaluation.stop_at_reward == 0.5
    assert [table.name for table in run_file.metric + run_file.extension] == ["reward", "nan_guard"]
    assert run_file.model.reference.name == "another/model"


def test_what_is_not_to_be_used_is_a_list(read):
    disable = ["plugrad-broken", "metric/slow", "loss/plugrad-alice/zigzag"]
    assert read(f"plugins.disable = {disable!r}").plugins.disable == disable
    assert read("", f"plugins.disable={disable!r}").plugins.disable == disable
    assert read().plugins.disable == []


@pytest.mark.parametrize("asked", ["a:b", "metric/", "/slow", "a/b/c/d", "", " metric/slow"])
def test_what_is_neither_a_package_nor_a_kind_and_a_name_is_refused(read, asked):
    with pytest.raises(
        RunFileError, match=r"plugins\.disable\.1: write a package such as .*, or a kind and a name such as"
    ) as caught:
        read(f'plugins.disable = ["plugrad-broken", "{asked}"]')
    assert str(caught.value).endswith(f"It is {asked!r}.")


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("plugins.disabled = []", "[plugins] has no key 'disabled'. Did you mean 'disable'?"),
        ("max_stesp = 3", "a run file has no key 'max_stesp'. Did you mean 'max_steps'?"),
        ("[rollout]\nprompt_per_step = 3", "[rollout] has no key 'prompt_per_step'. Did you mean 'prompts_per_step'?"),
        ("[loss]\nname = 'a'\nwieght = 2.0", "[loss] has no key 'wieght'. Did you mean 'weight'?"),
        ("[[loss]]\nname = 'a'\n[[loss]]\nname = 'b'\nwieght = 2.0", "[loss.1] has no key 'wieght'. Did you mean 'weight'?"),
        ("[model.teacher]\nnaem = 'b'", "[model.teacher] has no key 'naem'. Did you mean 'name'?"),
        (
            "[advantage]\nname = 'a'\nzzz = 1",
            "[advantage] has no key 'zzz'. Its keys: name, kwargs. "
            "An option of the advantage belongs under [advantage.kwargs]: zzz = ...",
        ),
        (
            "[model.lora]\nzzz = 1",
            "[model.lora] has no key 'zzz'. Its keys: r, alpha, dropout, target_modules, init, rslora, dora, kwargs, "
            "adapter. An option of PEFT belongs under [model.lora.kwargs]: zzz = ...",
        ),
    ],
)
def test_an_unknown_key_is_refused_with_a_suggestion(read, text, complaint):
    with pytest.raises(RunFileError) as caught:
        read(text)
    assert complaint in [line.strip() for line in str(caught.value).splitlines()]


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("[loss]\ntoken_mask_low = 0.1", "belongs under [loss.kwargs]: token_mask_low = ..."),
        ("[loss]\ntype = 'default'\nkl_tau = 0.1", "belongs under [loss.kwargs]: kl_tau = ..."),
        ("[[metric]]\nname = 'a'\nbins = 3", "belongs under [metric.kwargs]: bins = ..."),
        ("trainer.loss.kl_tau = 0.1", "prime-rl's trainer.loss.kl_tau is loss.kwargs.kl_tau here."),
        ("trainer.algorithm.eps_clip_low = 0.1", "SkyRL's trainer.algorithm.eps_clip_low is loss.kwargs.eps_clip_low here."),
        ("trainer.algorithm.policy_loss_type = 'gspo'", "SkyRL's trainer.algorithm.policy_loss_type is loss.name here."),
        (
            "generator.n_samples_per_prompt = 5",
            "SkyRL's generator.n_samples_per_prompt is rollout.rollouts_per_example here.",
        ),
        (
            "generator.sampling_params.temperature = 1.0",
            "generator.sampling_params.temperature is rollout.temperature here.",
        ),
        ("algorithm.adv_estimator = 'grpo'", "verl's algorithm.adv_estimator is advantage.name here."),
        ("trainer.unheard_of = 1", "a run file has no key 'trainer'."),
    ],
)
def test_an_unknown_key_says_where_it_belongs(read, text, place):
    with pytest.raises(RunFileError) as caught:
        read(text)
    assert place in str(caught.value)


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("max_steps = '3'", "max_steps"),
        ("max_steps = 0", "max_steps"),
        ("seed = 1.0", "seed"),
        ("seed = true", "seed"),
        ("metrics = 'some'", "metrics"),
        ("metrics = ['reward', 3]", "metrics"),
        ("[rollout]\nengine = 'vlm'", "rollout.engine"),
        ("[rollout]\ntemperature = 0.0", "rollout.temperature"),
        ("[optimizer]\nlr = '1e-5'", "optimizer.lr"),
        ("[optimizer]\nbetas = [0.9]", "optimizer.betas"),
        ("[optimizer]\nbetas = [0.9, 1.0]", "optimizer.betas.1"),
        ("[loss]\nname = 'a'\nreduction = 'mean'", "loss.reduction"),
        ("[loss]\nname = 'a'\nkwargs = 3", "loss.kwargs"),
        ("loss = 'gspo'", "loss"),
        ("loss = []", "loss"),
        ("[evaluation]\nstop_at_reward = 0.5", "evaluation"),
    ],
)
def test_a_wrong_value_is_refused_under_its_key(read, text, key):
    with pytest.raises(RunFileError) as caught:
        read(text)
    origin, *complaints = str(caught.value).splitlines()
    assert origin.endswith("run.toml cannot be used:")
    assert complaints
    assert all(complaint.strip().startswith(key) for complaint in complaints)


def test_a_wrong_value_is_shown(read):
    with pytest.raises(
        RunFileError, match=r"rollout\.engine: Input should be 'transformers', .* It is 'vlm'\. Did you mean 'vllm'\?"
    ):
        read("[rollout]\nengine = 'vlm'")


def test_every_complaint_is_listed(read):
    with pytest.raises(RunFileError) as caught:
        read("seed = 'x'\nmax_stesp = 1")
    assert "seed: " in str(caught.value)
    assert "'max_stesp'" in str(caught.value)


def test_missing_tables_say_what_they_are(read):
    with pytest.raises(RunFileError) as caught:
        read("seed = 1", minimal="")
    assert "model is missing: `[model]`: the policy. Give `name` or `[model.from_scratch]`." in str(caught.value)
    assert "environment is missing: `[environment]`: the source of examples and rewards." in str(caught.value)


def test_a_missing_key_says_what_it_is(read):
    with pytest.raises(RunFileError, match=r"extension\.name is missing: `name`, `package/name`, `module:function` or"):
        read("[[extension]]\nkwargs = {}")


def test_a_loss_without_a_name_is_the_default_one(read):
    run_file = read("[loss]\nweight = 2.0", "loss.kwargs.kl_tau=0.1")
    assert [(loss.name, loss.weight, loss.kwargs) for loss in run_file.loss] == [
        ("importance_sampling", 2.0, {"kl_tau": 0.1})
    ]


@pytest.mark.parametrize("model", ["[model]", "[model]\nname = 'a'\n[model.from_scratch]\nmodel_type = 'qwen3'"])
def test_a_model_is_named_or_made_from_scratch(read, model):
    with pytest.raises(RunFileError, match=r"model: give either `name` .* or a table \[model\.from_scratch\], not both"):
        read(minimal=f"{model}\n[environment]\nname = 'arithmetic'\n")


def test_updates_divide_the_prompts(read):
    assert read("updates_per_batch = 4").updates_per_batch == 4
    with pytest.raises(RunFileError, match=r"updates_per_batch = 3 does not divide rollout\.prompts_per_step = 32: a group"):
        read("updates_per_batch = 3")


@pytest.mark.parametrize(("engine", "advantage"), [("transformers", "group_mean"), ("dataset", "constant")])
def test_the_default_advantage_is_the_engines(engine, advantage):
    assert RunFile(**TABLES, rollout={"engine": engine}).selected_advantage.name == advantage
    named = RunFile(**TABLES, rollout={"engine": engine}, advantage={"name": "group_normalized"})
    assert named.selected_advantage.name == "group_normalized"


def test_a_run_file_is_built_from_python_with_the_same_names():
    run_file = RunFile(
        **TABLES, loss={"name": "ppo_clip", "kwargs": {"clip_eps": 0.1}}, extension={"name": "timing"}, seed=3
    )
    assert [loss.kwargs for loss in run_file.loss] == [{"clip_eps": 0.1}]
    assert [table.name for table in run_file.extension] == ["timing"]
    assert run_file.seed == 3


def test_a_run_file_from_python_is_as_strict():
    with pytest.raises(RunFileError, match=r"\[rollout\] has no key 'max_new_token'\. Did you mean 'max_new_tokens'\?"):
        RunFile(**TABLES, rollout={"max_new_token": 3})


def test_run_files_share_no_options():
    first, second = RunFile(**TABLES), RunFile(**TABLES)
    first.environment.kwargs["digits"] = 3
    assert second.environment.kwargs == {}


@pytest.mark.parametrize("where", ["{ task = { a = 1 } }", "{ task = [] }", "{ task = [[1]] }"])
def test_a_where_that_is_no_value_is_told_in_one_line(read, where):
    with pytest.raises(RunFileError, match="Write a value or a list of values") as raised:
        read(f"[loss]\nwhere = {where}")
    assert len(str(raised.value).splitlines()) == 2
    assert "loss.where: the column 'task' is compared with" in str(raised.value)


@pytest.mark.parametrize("key", ["dtype", "trust_remote_code"])
def test_a_policy_that_teaches_itself_is_loaded_once(key):
    teacher = {"policy": True, key: "float64" if key == "dtype" else True}
    with pytest.raises(
        RunFileError, match=rf"model\.teacher: {key} with `policy = true` would change nothing.*model\.{key}"
    ):
        RunFile(**{**TABLES, "model": {"name": "a/model", "teacher": teacher}})
    RunFile(**{**TABLES, "model": {"name": "a/model", "teacher": {"policy": True, "trust_remote_code": False}}})
