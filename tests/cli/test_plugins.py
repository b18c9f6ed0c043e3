"""`plugrad plugins` and the rest of the command line."""

import json
from dataclasses import dataclass, replace

import pytest

from plugrad.registry.scan import KINDS


@pytest.fixture
def install(folder, monkeypatch):
    """Install a package of a module that cannot be imported."""

    def make(name, points, *, version="1.0", summary="", requires=()):
        info = folder / "site" / f"{name.replace('-', '_')}-{version}.dist-info"
        info.mkdir(parents=True)
        lines = "".join(f"Requires-Dist: {requirement}\n" for requirement in requires)
        head = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
        (info / "METADATA").write_text(f"{head}Summary: {summary}\n{lines}")
        (info / "entry_points.txt").write_text(points)
        code = 'raise RuntimeError("imported")\n\ndef f(inputs):\n    """What f does.\n\n    More."""\n'
        (folder / "site" / f"{name.replace('-', '_')}.py").write_text(code)
        monkeypatch.syspath_prepend(folder / "site")

    return make


@dataclass(frozen=True)
class Listed:
    """A component as `plugrad plugins list` shows it."""

    kind: str
    owner: str
    name: str
    about: str
    note: str = ""


def listed(plugrad):
    """Read the list: kinds are not indented, packages by two, components by four, notes by six."""
    found, kind, owner = [], "", ""
    for line in plugrad("plugins", "list").stdout.splitlines():
        indent = len(line) - len(line.lstrip())
        if indent == 0:
            kind = line
        elif indent == 2:
            owner = line.strip()
        elif indent == 4:
            found.append(Listed(kind, owner, *f"{line.strip()}  ".split("  ", 1)))
        else:
            found[-1] = replace(found[-1], note=line.strip())
    return [replace(component, about=component.about.strip()) for component in found]


def component_of(plugrad, name):
    (found,) = [component for component in listed(plugrad) if component.name == name]
    return found


def test_list_shows_kind_name_package_version_and_a_line_about_it(plugrad):
    assert plugrad("plugins", "list").returncode == 0
    about = "PPO's clipped surrogate (arXiv:1707.06347, eq. 7), per token."
    assert component_of(plugrad, "ppo_clip") == Listed("LOSSES", "plugrad 0.1.0", "ppo_clip", about)
    kinds = list(dict.fromkeys(component.kind for component in listed(plugrad)))
    assert kinds == ["LOSSES", "ADVANTAGES", "METRICS", "ENVIRONMENTS", "EXTENSIONS"]


def test_list_takes_the_line_from_the_source_and_else_the_packages_summary(plugrad, install):
    install("plugrad-alice", "[plugrad.losses]\nhers = plugrad_alice:f\n", summary="Losses of Alice.")
    install("plugrad-bob", "[plugrad.losses]\nhis = plugrad_bob:g\n", summary="Losses of Bob.")
    assert component_of(plugrad, "hers").about == "What f does."
    assert component_of(plugrad, "his").about == "Losses of Bob."


def test_list_says_what_to_write_where_two_packages_clash_and_what_cannot_be_used(plugrad, install):
    install("plugrad-alice", "[plugrad.losses]\nzigzag = plugrad_alice:f\nppo_clip = plugrad_alice:f\n")
    install("plugrad-bob", "[plugrad.losses]\nzigzag = plugrad_bob:f\n")
    install("plugrad-later", "[plugrad.losses]\nlater = plugrad_later:f\na/b = plugrad_later:f\n", requires=["plugrad>=7"])
    notes = {(component.name, component.owner): component.note for component in listed(plugrad)}
    for package, other in (("plugrad-alice", "plugrad-bob"), ("plugrad-bob", "plugrad-alice")):
        assert notes["zigzag", f"{package} 1.0"] == f'! {other} offers this name too: write "{package}/zigzag"'
    assert notes["ppo_clip", "plugrad-alice 1.0"] == '! core offers this name too: write "plugrad-alice/ppo_clip"'
    assert notes["ppo_clip", "plugrad 0.1.0"] == ""
    problem = "! cannot be used: requires plugrad>=7, and this is plugrad 0."
    assert notes["later", "plugrad-later 1.0"].startswith(problem)
    assert notes["a/b", "plugrad-later 1.0"] == "! cannot be used: no run file can write this name"
    last = plugrad("plugins", "list").stdout.splitlines()[-1]
    assert last == "Run `plugrad plugins doctor` to see what is wrong and how to fix it."


def test_list_as_json(plugrad, install):
    install("plugrad-alice", "[plugrad.losses]\nzigzag = plugrad_alice:f\n", version="1.2")
    install("plugrad-bob", "[plugrad.losses]\nzigzag = plugrad_bob:f\n", requires=["plugrad>=7"])
    printed = json.loads(plugrad("plugins", "list", "--json").stdout)
    assert list(printed) == ["plugrad", "components", "refused"]
    alice, bob = (found for found in printed["components"] if found["name"] == "zigzag")
    assert {key: value for key, value in alice.items() if key != "location"} == {
        "kind": "loss",
        "name": "zigzag",
        "package": "plugrad-alice",
        "version": "1.2",
        "target": "plugrad_alice:f",
        "reference": "plugrad-alice/zigzag",
        "about": "What f does.",
        "also_offered_by": ["plugrad-bob"],
        "problem": None,
    }
    assert (bob["reference"], bob["problem"].partition(",")[0]) == (None, "requires plugrad>=7")


def test_list_and_doctor_import_no_plugin_that_does_not_import(plugrad, install):
    install("plugrad-alice", "[plugrad.losses]\nzigzag = plugrad_alice:f\n")
    assert plugrad("plugins", "list").returncode == 0
    assert "plugrad_alice" not in plugrad("plugins", "doctor").stdout
    assert plugrad("plugins", "show", "zigzag").returncode == 2


def test_the_doctor_says_what_is_wrong_what_it_means_and_what_to_do(plugrad, install):
    install("plugrad-alice", "[plugrad.loss]\nzigzag = plugrad_alice:f\n")
    done = plugrad("plugins", "doctor")
    assert done.returncode == 1
    found, means, remedy = done.stdout.splitlines()[:3]
    assert found == "problem  plugrad-alice 1.0 has entry points in the group 'plugrad.loss': zigzag"
    assert means.strip() == "plugrad has no such group and does not see them. Did you mean 'plugrad.losses'?"
    assert remedy.strip().startswith("Ask its authors to correct their pyproject.toml.")
    assert done.stdout.splitlines()[-1].endswith(": 1 problem.")


def test_the_doctor_has_warnings_that_are_no_problem(plugrad, install):
    install("plugrad-alice", "[vllm.general_plugins]\npatch = plugrad_alice:f\n")
    done = plugrad("plugins", "doctor")
    assert done.returncode == 0
    assert done.stdout.startswith("warning  plugrad-alice 1.0 has plugins for vLLM: patch = plugrad_alice:f")
    assert done.stdout.splitlines()[-1].endswith(": 1 warning.")


def test_the_doctor_finds_nothing_where_all_is_well(plugrad):
    done = plugrad("plugins", "doctor")
    assert done.returncode == 0
    assert done.stdout.splitlines()[-1].endswith(": nothing is wrong.")


def test_the_doctor_as_json(plugrad, install):
    install("plugrad-alice", "[plugrad.loss]\nzigzag = plugrad_alice:f\n")
    done = plugrad("plugins", "doctor", "--json")
    assert done.returncode == 1
    (finding,) = json.loads(done.stdout)["findings"]
    assert list(finding) == ["severity", "check", "package", "found", "means", "remedy"]
    assert (finding["severity"], finding["check"], finding["package"]) == ("problem", "unknown_group", "plugrad-alice")


def test_show_says_where_a_package_lies_and_came_from(plugrad, install, folder):
    install("plugrad-alice", "[plugrad.losses]\nzigzag = plugrad_alice:f\n")
    (folder / "site" / "plugrad_alice.py").write_text("def f(inputs): ...\n")
    assert f"\nin {folder / 'site'}\n" in plugrad("plugins", "show", "zigzag").stdout
    origin = {"url": "https://example.org/alice.git", "vcs_info": {"vcs": "git", "commit_id": "4f1c0de"}}
    (folder / "site" / "plugrad_alice-1.0.dist-info" / "direct_url.json").write_text(json.dumps(origin))
    said = f"\nin {folder / 'site'}, from https://example.org/alice.git (4f1c0de)\n"
    assert said in plugrad("plugins", "show", "zigzag").stdout


def test_the_help_of_show_names_every_kind(plugrad):
    printed = plugrad("plugins", "show", "--help").stdout
    assert all(kind in printed for kind in KINDS)


def test_list_is_what_plugins_does_by_default(plugrad):
    assert plugrad("plugins").stdout == plugrad("plugins", "list").stdout


def test_show_says_what_a_component_takes(plugrad):
    done = plugrad("plugins", "show", "ppo_clip")
    assert done.returncode == 0, done.stderr
    for part in ("loss, plugrad 0.1.0", "-min(r A, clip(r", "clip_eps", "0.2", "needs: old_logprobs", "reduction: token"):
        assert part in done.stdout


SELF_MADE = """
from plugrad import BatchLossInputs, LossOutputs, TeacherDivergence, loss


@loss(needs={TeacherDivergence("jsd"), "entropy"}, policy_gradient=False)
class Made:
    def trained(self, sizes): ...

    def __call__(self, inputs: BatchLossInputs) -> LossOutputs: ...
"""


def test_show_says_that_a_loss_has_a_teacher_and_parameters(plugrad, folder):
    (folder / "mine.py").write_text(SELF_MADE)
    shown = plugrad("plugins", "show", "./mine.py:Made", "--kind", "loss").stdout
    assert "needs: TeacherDivergence(kind='jsd', temperature=1.0, beta=0.5), entropy" in shown
    assert "own parameters: yes" in shown


def test_brackets_are_shown_as_they_are(plugrad, folder, monkeypatch):
    (folder / "mine.py").write_text("def mine(inputs, layers: list[int], how: dict[str, float] | None = None): ...\n")
    shown = plugrad("plugins", "show", "./mine.py:mine", "--kind", "loss").stdout
    assert "list[int]" in shown
    assert "dict[str, float]" in shown
    info = folder / "site" / "plugrad_brackets-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: plugrad-brackets\nVersion: 1.0\nSummary: a [bold] :smile:\n"
    )
    (info / "entry_points.txt").write_text("[plugrad.losses]\nbrackets = nowhere:brackets\n")
    monkeypatch.syspath_prepend(folder / "site")
    assert "a [bold] :smile:" in plugrad("plugins", "list").stdout


def test_show_shows_every_kind_that_has_the_name(plugrad):
    done = plugrad("plugins", "show", "arithmetic")
    assert "environment, plugrad" in done.stdout
    assert "reverse" in done.stdout


def test_show_takes_files_with_a_kind(plugrad, folder):
    (folder / "mine.py").write_text('def mine(inputs, strength: float = 2.0):\n    "My loss."\n')
    done = plugrad("plugins", "show", "./mine.py:mine", "--kind", "loss")
    assert "My loss." in done.stdout
    assert "strength" in done.stdout
    assert "Choose one with --kind (loss, advantage" in plugrad("plugins", "show", "./mine.py:mine").stderr


def test_a_misspelt_name_gets_a_suggestion(plugrad):
    done = plugrad("plugins", "show", "group_norm")
    assert done.returncode == 2
    assert "no plugin of any kind is called 'group_norm'. Did you mean 'group_normalized'" in done.stderr


def test_version_and_help(plugrad):
    assert plugrad("--version").stdout.startswith("plugrad 0.")
    for arguments in (
        ["--help"],
        ["train", "--help"],
        ["plugins", "--help"],
        ["plugins", "doctor", "--help"],
        ["quickstart", "--help"],
    ):
        done = plugrad(*arguments)
        assert done.returncode == 0
        assert "Usage" in done.stdout


def test_a_package_in_the_working_directory_is_shown_as_refused(plugrad_process, folder):
    info = folder / "evil-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: evil\nVersion: 1.0\nSummary: bad\n")
    (info / "entry_points.txt").write_text("[plugrad.losses]\nevil = evil:evil\n")
    (folder / "evil.py").write_text("raise SystemExit('imported')\n")
    listed = plugrad_process("plugins", "list")
    assert "refused: loss evil of evil 1.0" in listed.stdout
    refused = plugrad_process("train", "run.toml", "--set", "loss.name=evil")
    assert refused.returncode == 2
    assert "packages in the working directory are refused" in refused.stderr
