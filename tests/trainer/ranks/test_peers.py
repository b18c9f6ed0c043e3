"""A rank that ends without a word is seen by the others, and by its launcher, and so is the plugin that it was calling."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from plugrad.host.calling import call_plugin
from plugrad.registry.calls_in_progress import mirrored_in
from plugrad.trainer.ranks.peers import LAUNCH_FOLDER, Peers
from plugrad.trainer.ranks.rank_file import NUM_SLOTS, OwnFile, PeerFile, file_of, last_sign
from plugrad.trainer.ranks.ranks import Ranks

RANK_ONE = """
import os, posix, sys, threading
from pathlib import Path
from plugrad.registry.blame import Blamed
from plugrad.registry.calls_in_progress import mirrored_in
from plugrad.trainer.ranks.rank_file import OwnFile

def call(owner):
    return Blamed(owner, ValueError)

def waits():
    print("ready", flush=True)
    sys.stdin.read()

def ended_child():
    if os.fork() == 0:
        with call("the child's"):
            posix._exit(0)
    os.wait()

own = OwnFile(Path(sys.argv[1]), 1)
with mirrored_in(own):
    {end}
"""
ENDS = {
    "with call('the loss a'): waits(); posix._exit(0)": (("the loss a",), False),
    "own.begin()\n    with call('the loss b'): waits(); posix._exit(3)": (("the loss b",), True),
    "with call('outer'), call('inner'): waits(); os.kill(os.getpid(), 9)": (("inner",), False),
    "with call('outer'):\n        with call('inner'): pass\n        waits(); posix._exit(0)": (("outer",), False),
    "with call('over'): pass\n    waits(); posix._exit(0)": ((), False),
    "with call('mine'): ended_child(); waits(); posix._exit(0)": (("mine",), False),
    "with call('é' * 400): waits(); posix._exit(0)": (("é" * 255,), False),
}


def started(folder: Path, end: str) -> subprocess.Popen[str]:
    code = RANK_ONE.replace("{end}", end)
    return subprocess.Popen(
        [sys.executable, "-c", code, str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )


@pytest.mark.parametrize("end", ENDS)
def test_a_rank_that_ends_without_a_word_leaves_whose_call_it_was_in(tmp_path: Path, end: str) -> None:
    calls, has_begun = ENDS[end]
    with started(tmp_path, end) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        peer = PeerFile.of(tmp_path, 1)
        assert peer.last_sign_if_lost() is None
        # Nobody needs the folder any more.
        sign_before = last_sign(tmp_path, 1)
        file_of(tmp_path, 1).unlink()
        process.communicate()
    sign = peer.last_sign_if_lost()
    assert sign is not None
    assert sign == sign_before
    assert (sign.process, sign.calls, sign.has_begun, sign.has_left) == (process.pid, calls, has_begun, False)


def test_a_rank_that_has_left_in_good_order_is_not_lost(tmp_path: Path) -> None:
    with started(tmp_path, "waits(); own.leave()") as process:
        assert process.stdout is not None
        process.stdout.readline()
        peer = PeerFile.of(tmp_path, 1)
        process.communicate()
    assert process.returncode == 0
    assert peer.last_sign_if_lost() is None


def test_calls_of_several_threads_are_all_told_and_too_many_do_no_harm(tmp_path: Path) -> None:
    own = OwnFile(tmp_path, 0)
    for thread in range(NUM_SLOTS + 1):
        own.note(thread, f"call {thread}")
    sign = last_sign(tmp_path, 0)
    assert sign is not None
    assert sign.calls == tuple(f"call {thread}" for thread in range(NUM_SLOTS))
    for thread in range(NUM_SLOTS + 1):
        own.note(thread, "")
    own.note(NUM_SLOTS, "the last")
    sign = last_sign(tmp_path, 0)
    assert sign is not None
    assert sign.where == " in a call of the last"


def test_no_call_is_noted_after_the_run(tmp_path: Path) -> None:
    own = OwnFile(tmp_path, 0)
    inside = mirrored_in(own)
    with inside:
        seen = call_plugin("mine", lambda: last_sign(tmp_path, 0))
    assert seen.calls == ("mine",)
    assert call_plugin("mine", lambda: last_sign(tmp_path, 0)).calls == ()


def test_ranks_without_a_folder_train_all_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(LAUNCH_FOLDER, str(tmp_path / "gone"))
    peers = Peers.meet(Ranks(index=0, count=2))
    peers.begin()
    peers.leave()
    assert peers.own is None
    assert peers.lost_soon() is None


def test_a_rank_names_the_one_that_is_gone(tmp_path: Path) -> None:
    with started(tmp_path, "own.begin()\n    with call('the loss'): waits(); posix._exit(0)") as process:
        assert process.stdout is not None
        process.stdout.readline()
        peers = Peers(None, [PeerFile.of(tmp_path, 1)], 2)
        assert peers.lost() is None
        assert not peers.has_ended()
        process.communicate()
    peers.begin()
    failure = peers.lost_soon()
    assert failure is not None
    assert failure.message.startswith(f"rank 1 of 2 (process {process.pid}) has ended in a call of the loss without")
    assert (failure.rank, failure.exit_code) == (1, 1)
    assert peers.has_ended()


def test_nothing_is_left_of_a_folder_that_the_ranks_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.delenv(LAUNCH_FOLDER, raising=False)
    peers = Peers.meet(Ranks(index=0, count=2))
    assert peers.own is not None
    peers.begin()
    assert os.listdir(tmp_path) == []


def test_a_rank_that_gives_no_sign_of_life_is_named_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("plugrad.trainer.ranks.peers.SILENT_S", 0.0)
    other = OwnFile(tmp_path, 1)
    other.note(0, "the loss 'x'")
    # A process holds no lock against itself: only what the files say is looked at.
    peers = Peers(OwnFile(tmp_path, 0), [PeerFile.of(tmp_path, 1)], count=2)
    assert peers.silent() is None, "its first sign"
    said = peers.silent()
    assert said is not None
    assert f"rank 1 of 2 (process {os.getpid()}) in a call of the loss 'x' has given no sign of life" in said
    assert peers.silent() is None, "it is told"
    other.beat()
    assert peers.silent() is None
    assert peers.silent() is not None, "it was silent again"
    other.leave()
    assert peers.silent() is None


def test_of_several_ranks_the_first_that_answers_speaks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("plugrad.trainer.ranks.peers.SILENT_S", 0.0)
    files = [OwnFile(tmp_path, rank) for rank in range(3)]

    def peers_of(rank: int) -> Peers:
        others = [PeerFile.of(tmp_path, other) for other in range(3) if other != rank]
        return Peers(files[rank], others, count=3, index=rank)

    every = [peers_of(rank) for rank in range(3)]
    assert [peers.silent() for peers in every] == [None] * 3
    # Rank 0 is silent: rank 1 speaks, and rank 2 sees rank 1 answer.
    for rank in (1, 2):
        files[rank].beat()
    first, second = every[1].silent(), every[2].silent()
    assert first is not None
    assert "rank 0 of 3" in first
    assert "rank 2" not in first
    assert second is None
