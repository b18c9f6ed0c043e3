"""What `--vary` and `--arm` make of a comparison."""

import pytest

from plugrad.compare.arms import arms_of, baseline_of, split_outside
from plugrad.errors import RunFileError


def named(varied=(), written=(), baseline=None):
    return {arm.name: [override.text for override in arm.overrides] for arm in arms_of(varied, written, baseline)}


@pytest.mark.parametrize(
    ("text", "pieces"),
    [
        ("gspo,cispo", ["gspo", "cispo"]),
        (" gspo , cispo ", ["gspo", "cispo"]),
        ("[1, 2],[3]", ["[1, 2]", "[3]"]),
        ("{ a = 1, b = [2, 3] },{}", ["{ a = 1, b = [2, 3] }", "{}"]),
        ("'a,b',\"c,d\"", ["'a,b'", '"c,d"']),
        ("f(1,2),g", ["f(1,2)", "g"]),
        ("", [""]),
        ("a,,b", ["a", "", "b"]),
    ],
)
def test_a_comma_in_brackets_or_quotes_splits_nothing(text, pieces):
    assert split_outside(text, ",") == pieces


def test_every_value_is_an_arm_with_a_short_name():
    assert named(["loss.name=gspo,plugrad-policy/cispo,./my_loss.py:my_loss,a.b:c"]) == {
        "gspo": ["loss.name=gspo"],
        "cispo": ["loss.name=plugrad-policy/cispo"],
        "my_loss": ["loss.name=./my_loss.py:my_loss"],
        "c": ["loss.name=a.b:c"],
    }
    assert list(named(["optimizer.lr=1e-5,1e-6"])) == ["lr=1e-5", "lr=1e-6"]


def test_values_whose_short_names_are_alike_keep_their_long_ones():
    assert list(named(["loss.name=alice/cispo,bob/cispo"])) == ["alice/cispo", "bob/cispo"]


def test_several_varied_keys_make_every_combination():
    assert named(["loss.name=gspo,cispo", "optimizer.lr=1e-5,1e-6"]) == {
        f"{loss} lr={lr}": [f"loss.name={loss}", f"optimizer.lr={lr}"]
        for loss in ("gspo", "cispo")
        for lr in ("1e-5", "1e-6")
    }


def test_an_arm_that_is_written_out_comes_after_those_that_are_varied():
    arms = named(["loss.name=gspo"], ["wide: loss.name=gspo loss.kwargs={ clip_low = 1, clip_high = 2 } optimizer.lr=1e-3"])
    assert list(arms) == ["gspo", "wide"]
    assert arms["wide"] == ["loss.name=gspo", "loss.kwargs={ clip_low = 1, clip_high = 2 }", "optimizer.lr=1e-3"]


def test_where_nothing_is_varied_the_run_file_as_it_is_comes_first():
    assert named() == {"run-file": []}
    assert list(named(written=["wide: optimizer.lr=1"])) == ["run-file", "wide"]
    assert list(named(written=["mine:", "wide: optimizer.lr=1"])) == ["mine", "wide"]
    assert list(named(["loss.name=gspo"], baseline="run-file")) == ["run-file", "gspo"]


@pytest.mark.parametrize(
    ("varied", "written", "complaint"),
    [
        (["loss.name"], [], "write --vary table.key=VALUE,VALUE"),
        (["loss.name="], [], "write --vary table.key=VALUE,VALUE"),
        (["loss.name=a,,b"], [], "write --vary table.key=VALUE,VALUE"),
        (["=a,b"], [], "--vary '=a': write --vary table.key=value"),
        (["seed=1,2"], [], "--vary 'seed=1': an arm cannot set this; choose the seeds of every arm with --seeds"),
        ([], ["x: output_dir=here"], "--arm 'output_dir=here': an arm cannot set this; choose the folder with --output-dir"),
        ([], ["optimizer.lr=1"], "write --arm 'NAME: table.key=value"),
        ([], ["x:y"], "write --arm 'NAME: table.key=value"),
        ([], ["x: y"], "--arm 'y': write --arm table.key=value"),
        (["loss.name=a,a"], [], "two arms are called 'a'"),
        (["loss.name=a"], ["a: loss.name=b"], "two arms are called 'a'"),
        ([], ["a/b: seed.x=1", "a-b: loss.name=b"], "two arms are called 'a-b'"),
    ],
)
def test_what_does_not_read_as_an_arm_is_an_error(varied, written, complaint):
    with pytest.raises(RunFileError) as caught:
        arms_of(varied, written)
    assert complaint in str(caught.value)


@pytest.mark.parametrize("name", ["../../etc", "a/b c", "..", "/", "ünï"])
def test_a_folder_stays_where_it_belongs(name):
    (arm,) = arms_of([], [f"{name}: "])
    assert arm.folder not in ("", ".", "..")
    assert "/" not in arm.folder
    assert not arm.folder.startswith(".")


def test_the_baseline_is_the_first_arm_or_the_one_that_is_named():
    arms = arms_of(["loss.name=gspo,./my_loss.py:my_loss", "optimizer.lr=1,2"], [])
    assert baseline_of(arms, None).name == "gspo lr=1"
    assert baseline_of(arms, "gspo lr=2").name == "gspo lr=2"
    assert baseline_of(arms, "gspo-lr=2").name == "gspo lr=2"
    assert baseline_of(arms[1:3], "./my_loss.py:my_loss").name == "my_loss lr=1"
    # Two arms have that loss.
    with pytest.raises(RunFileError, match="no arm has that name"):
        baseline_of(arms, "./my_loss.py:my_loss")
    with pytest.raises(RunFileError, match=r"Did you mean 'gspo lr=2'\? Arms: gspo lr=1, gspo lr=2, my_loss"):
        baseline_of(arms, "gspo lr=3")
