"""`plugrad plugins` and the rest of the command line."""


def test_list_shows_kind_name_package_version_and_summary(plugrad):
    done = plugrad("plugins", "list")
    assert done.returncode == 0
    (line,) = [line for line in done.stdout.splitlines() if " ppo_clip " in line]
    assert line.split()[:4] == ["loss", "ppo_clip", "plugrad", "0.1.0"]
    assert "pip install a loss" in line


def test_list_is_what_plugins_does_by_default(plugrad):
    assert plugrad("plugins").stdout == plugrad("plugins", "list").stdout


def test_show_says_what_a_component_takes(plugrad):
    done = plugrad("plugins", "show", "ppo_clip")
    assert done.returncode == 0, done.stderr
    for part in ("loss, plugrad 0.1.0", "-min(r A, clip(r", "clip_eps", "0.2", "needs: old_logprobs", "reduction: token"):
        assert part in done.stdout


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
    assert "say which with --kind" in plugrad("plugins", "show", "./mine.py:mine").stderr


def test_a_misspelt_name_gets_a_suggestion(plugrad):
    done = plugrad("plugins", "show", "group_norm")
    assert done.returncode == 2
    assert "no plugin of any kind is called 'group_norm'. Did you mean 'group_normalized'" in done.stderr


def test_version_and_help(plugrad):
    assert plugrad("--version").stdout.startswith("plugrad 0.")
    for arguments in (["--help"], ["train", "--help"], ["plugins", "--help"], ["quickstart", "--help"]):
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
