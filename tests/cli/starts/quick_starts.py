"""Processes of `python -m plugrad...` that begin as a copy of this one, which has imported everything already.

Importing takes each of them seconds of a processor, and is not what a test of a comparison or of ranks is about. They are
processes of their own all the same: with a pid, standard streams, an environment, signals and an exit code. Processes that
they start begin so too.
"""

import atexit
import gc
import os
import runpy
import signal
import subprocess
import sys
import threading
import traceback
import warnings
from importlib import import_module
from itertools import dropwhile

import torch
from accelerate.state import AcceleratorState, GradientState, PartialState
from torch.distributed.elastic.multiprocessing.subprocess_handler import subprocess_handler

READ_AT_IMPORT = ("plugrad.cli", "plugrad.launcher_watch")
"""Modules that look at the environment when they are imported."""
IMPORTED_BEFORE = ("plugrad.trainer.train", "plugrad.compare.arm_process", "plugrad.trainer.ranks.launch")


class QuickPopen(subprocess.Popen):
    """`subprocess.Popen`, which copies this process where the command is a module of plugrad."""

    def _execute_child(self, args, executable, preexec_fn, close_fds, pass_fds, cwd, env, *rest):
        module, arguments = _module_of(args)
        if module is None:
            return super()._execute_child(args, executable, preexec_fn, close_fds, pass_fds, cwd, env, *rest)
        *_, p2cread, p2cwrite, c2pread, c2pwrite, errread, errwrite, _, _, _, _, _, start_new_session, _ = rest
        with warnings.catch_warnings():
            # That the other threads are not copied.
            warnings.simplefilter("ignore", DeprecationWarning)
            self.pid = os.fork()
        if self.pid == 0:
            try:
                _keep_files((p2cread, c2pwrite, errwrite), pass_fds)
                if cwd is not None:
                    os.chdir(cwd)
                if start_new_session:
                    os.setsid()
                _forget(env)
                if preexec_fn is not None:
                    preexec_fn()
                code = _run(module, arguments)
            except BaseException:
                os.write(2, traceback.format_exc().encode())
                code = 70
            finally:
                os._exit(code)
        self._child_created = True
        self._close_pipe_fds(p2cread, p2cwrite, c2pread, c2pwrite, errread, errwrite)
        return None


def copy_this_process(patch):
    """Let the processes of plugrad's modules that are started from here on begin as copies."""
    for module in IMPORTED_BEFORE:
        import_module(module)
    patch.setattr(subprocess, "Popen", QuickPopen)
    patch.setattr(subprocess_handler, "Popen", QuickPopen)


def _module_of(args):
    """Return the module of plugrad's that a command runs, and its arguments; None for another command."""
    if isinstance(args, (str, bytes)) or args[0] != sys.executable:
        return None, []
    rest = list(dropwhile(lambda option: option in ("-P", "-u"), args[1:]))
    if rest[:1] != ["-m"] or rest[1].partition(".")[0] != "plugrad":
        return None, []
    return rest[1], rest[2:]


def _keep_files(streams, passed):
    """Give this process its standard streams. What else is open leads nowhere; its number stays taken, for who has it."""
    for number, stream in enumerate(streams):
        if stream != -1:
            os.dup2(stream, number)
        os.set_inheritable(number, True)
    nowhere = os.open(os.devnull, os.O_RDWR)
    for name in os.listdir("/proc/self/fd"):
        number = int(name)
        if number > 2 and number != nowhere and number not in passed:
            try:
                os.fstat(number)
            except OSError:
                continue
            os.dup2(nowhere, number, inheritable=False)


def _forget(env):
    """Undo what a new process would not know of."""
    atexit._clear()
    # Objects of the process that was copied are never collected here.
    gc.freeze()
    if env is not None:
        os.environ.clear()
        os.environ.update(env)
    for each in (AcceleratorState, GradientState, PartialState):
        each._shared_state.clear()
    for name in [name for name in sys.modules if name.startswith(READ_AT_IMPORT)]:
        del sys.modules[name]
    warnings.resetwarnings()
    warnings.simplefilter("ignore")
    for number in signal.valid_signals():
        if callable(signal.getsignal(number)):
            signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, [])
    sys.excepthook, sys.unraisablehook, threading.excepthook = (
        sys.__excepthook__,
        sys.__unraisablehook__,
        threading.__excepthook__,
    )
    # OpenMP's threads are not copied.
    torch.set_num_threads(1)


def _run(module, arguments):
    """Run a module as `python -P -m` does; return the exit code."""
    sys.stdin = open(0, closefd=False, encoding="utf-8")  # noqa: SIM115
    sys.stdout, sys.stderr = (open(number, "w", closefd=False, encoding="utf-8") for number in (1, 2))  # noqa: SIM115
    sys.argv = [module, *arguments]
    code = 0
    try:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    except SystemExit as end:
        code = _exit_code(end.code)
    except BaseException:
        traceback.print_exc()
        code = 1
    # Python does so at its end.
    threading._shutdown()
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            stream.flush()
    return code


def _exit_code(code):
    if code is None or isinstance(code, int):
        return (code or 0) & 0xFF
    sys.stderr.write(f"{code}\n")
    return 1
