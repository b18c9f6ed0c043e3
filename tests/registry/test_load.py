"""Load: one component is imported, and a failure names its owner, file and line."""

import pickle
import sys

import pytest

from plugrad import PluginError, resolve_callable
from plugrad.registry.resolve import load, resolve, search_modules_in
from plugrad.registry.scan import scan

ZIGZAG = {"plugrad.losses": {"zigzag": "zigzag_loss:zigzag"}}


def load_reference(reference, *folders, kind="loss"):
    return load(resolve(kind, reference, scan(), folders))


def test_only_the_component_asked_for_is_imported(install):
    install("plugrad-broken", {"plugrad.losses": {"broken": "broken_loss:f"}}, code="raise RuntimeError")
    install("plugrad-alice", ZIGZAG, code="def zigzag(inputs): return 7")
    assert load_reference("zigzag")(None) == 7
    assert "broken_loss" not in sys.modules


def test_an_attribute_of_a_class_can_be_named(write, tmp_path):
    write("mine.py", "class Zig:\n    @staticmethod\n    def zag(inputs): return 7\n")
    assert load_reference("mine.py:Zig.zag", tmp_path)(None) == 7


def test_a_module_is_found_in_a_folder_that_was_added(write, tmp_path):
    write("modules_of_mine/added_module.py", "def f(inputs): return 7")
    with pytest.raises(PluginError, match="there is no module 'added_module', neither installed nor in "):
        load_reference("added_module:f")
    search_modules_in([tmp_path / "modules_of_mine"])
    assert load_reference("added_module:f")(None) == 7


def test_a_broken_package_is_named_with_version_file_and_line(install):
    folder = install("plugrad-broken", ZIGZAG, version="2.1", code="import math\n\nraise RuntimeError('no licence')\n")
    with pytest.raises(PluginError) as caught:
        load_reference("zigzag")
    message = str(caught.value)
    assert message.startswith("the loss 'zigzag' (plugrad-broken 2.1) cannot be imported: RuntimeError: no licence")
    assert f"({folder / 'zigzag_loss.py'}, line 3)" in message
    assert isinstance(caught.value.__cause__, RuntimeError)


def test_the_line_is_where_it_failed_and_not_where_it_was_called(write, tmp_path):
    write("deep_helper.py", "def fail():\n    return 1 / 0\n")
    write("mine.py", "import deep_helper\ndeep_helper.fail()\n")
    search_modules_in([tmp_path])
    with pytest.raises(PluginError, match=r"ZeroDivisionError: division by zero \(.*deep_helper.py, line 2\)"):
        load_reference("mine.py:f", tmp_path)


def test_a_missing_dependency_is_named(install):
    install("plugrad-broken", ZIGZAG, code="import no_such_dependency")
    with pytest.raises(PluginError, match=r"plugrad-broken 1\.0.* No module named 'no_such_dependency' \(.*zigzag_loss\.py"):
        load_reference("zigzag")


def test_a_syntax_error_has_its_line(write, tmp_path):
    file = write("mine.py", "x = 1\ndef f(:\n")
    with pytest.raises(PluginError, match="SyntaxError") as caught:
        load_reference("mine.py:f", tmp_path)
    assert f"({file}, line 2)" in str(caught.value)


def test_a_file_that_failed_is_tried_anew(write, tmp_path):
    write("mine.py", "raise RuntimeError")
    with pytest.raises(PluginError, match="RuntimeError"):
        load_reference("mine.py:f", tmp_path)
    write("mine.py", "def f(inputs): return 'mended'")
    assert load_reference("mine.py:f", tmp_path)(None) == "mended"


def test_a_missing_attribute_is_corrected(install):
    install("plugrad-alice", {"plugrad.losses": {"zigzag": "zigzag_loss:zigzg"}})
    with pytest.raises(
        PluginError,
        match=r"zigzag_loss has no 'zigzg'\. Did you mean 'zigzag'\?.* The fault is in plugrad-alice: reinstall it",
    ):
        load_reference("zigzag")


def test_a_missing_attribute_of_a_file_is_for_its_author(write, tmp_path):
    write("mine.py", "def gspo(inputs): ...")
    with pytest.raises(PluginError, match=r"has no 'gpso'\. Did you mean 'gspo'\? Fix the reference or the file\."):
        load_reference("mine.py:gpso", tmp_path)


def test_what_is_not_callable_is_refused(write, tmp_path):
    write("mine.py", "f = 0.5")
    with pytest.raises(PluginError, match=r"is not callable but of type float\. Point to a function or a class"):
        load_reference("mine.py:f", tmp_path)


def test_two_files_of_one_name_do_not_collide(write, tmp_path):
    write("a/loss.py", "def f(inputs): return 'a'")
    write("b/loss.py", "def f(inputs): return 'b'")
    first, second = load_reference("a/loss.py:f", tmp_path), load_reference("b/loss.py:f", tmp_path)
    assert (first(None), second(None)) == ("a", "b")
    assert load_reference("a/loss.py:f", tmp_path) is first


def test_what_a_file_defines_can_be_pickled(write, tmp_path):
    write("mine.py", "def f(inputs): return 7")
    assert pickle.loads(pickle.dumps(load_reference("mine.py:f", tmp_path)))(None) == 7


def test_resolve_callable_finds_a_file_in_the_working_directory(write, tmp_path, monkeypatch):
    write("rewards.py", "def score(completion, example): return len(completion)")
    monkeypatch.chdir(tmp_path)
    assert resolve_callable("rewards.py:score")("four", {}) == 4


def test_resolve_callable_looks_in_the_folders_it_is_given(write, tmp_path, monkeypatch):
    write("elsewhere/rewards.py", "def score(completion, example): return 7")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(PluginError, match=r"'rewards\.py:score' names a file that does not exist"):
        resolve_callable("rewards.py:score")
    assert resolve_callable("rewards.py:score", [tmp_path / "elsewhere"])("", {}) == 7


def test_resolve_callable_finds_a_module():
    assert resolve_callable("math:sqrt")(49) == 7


def test_resolve_callable_wants_a_function():
    with pytest.raises(PluginError, match=r"'score' does not name a function\. Write `module:function` or"):
        resolve_callable("score")
    with pytest.raises(PluginError, match="'math:pi', which is not callable but of type float"):
        resolve_callable("math:pi")


def test_a_module_that_exits_is_an_error_like_any_other(tmp_path):
    (tmp_path / "leaves.py").write_text("raise SystemExit('bye')\n")
    with pytest.raises(PluginError, match=r"cannot be imported: SystemExit: bye \(.*leaves.py, line 1\)"):
        load(resolve("loss", "leaves.py:leaves", scan(), [tmp_path]))
