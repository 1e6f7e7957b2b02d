"""Commands of ours as forks of a process that has imported all that they need, in the place of new interpreters.

To import torch, Lightning, transformers and peft takes a new interpreter ten seconds of a core, most of what a process
of these tests takes. The forks come from the fork server of sweeps (`peftlab.sweep.processes`), which has only
imported, as a fork of pytest's own process before that has done anything else, and are given all that a new process
would be: arguments, environment, current folder, streams, session and group. What they start in turn is forked as
well. `pytest.mark.new_interpreter` has a test start real ones.
"""

from __future__ import annotations

import atexit
import faulthandler
import os
import re
import runpy
import signal
import subprocess
import sys
import threading
import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing import forkserver, reduction, resource_tracker, util
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any, NoReturn

from peftlab.devices.fork_server import fork_server

ROOT = str(Path(__file__).resolve().parents[1])
FORKED = re.compile(
    r"(-u )?-m (train|peftlab|torch\.distributed\.run|submitit\.core\._submit|submitit\.local\._local)"
    r"|-P -m peftlab\.rank|\S+\.py"
)
"""Of a command, what comes after the interpreter and before the arguments."""
INSTALLED = [sys.prefix, sys.base_prefix]
"""Below which there are no scripts of ours."""


class Descriptor:
    """An open file that a process takes along when it is started."""

    def __init__(self, number: int) -> None:
        self.number = number

    def __reduce__(self) -> tuple[Callable[[Any], Descriptor], tuple[Any]]:
        return _received, (reduction.DupFd(self.number),)


def _received(sent: Any) -> Descriptor:
    return Descriptor(sent.detach())


@dataclass
class Start:
    """What a process is started with."""

    words: list[str]
    """The command without the interpreter."""
    folder: str
    environment: dict[str, str]
    streams: list[Descriptor]
    path: list[str]
    """Where an interpreter finds modules, whatever its environment."""
    prepare: Callable[[], object] | None
    session: bool
    """Whether it begins one of its own."""
    group: int | None
    """Of processes; 0 is one of its own."""
    server: Any
    """The address of the fork server."""


_of_subprocess = {name: getattr(subprocess.Popen, name) for name in ("_execute_child", "_internal_poll", "_try_wait")}
_searched: list[str] = []


def serve() -> None:
    """Start the fork server as a fork of this process, which has imported what the server would, and done nothing."""
    resource_tracker.ensure_running()
    starts = util.spawnv_passfds
    util.spawnv_passfds = _fork_server
    try:
        fork_server()
    finally:
        util.spawnv_passfds = starts


def _fork_server(path: object, arguments: object, descriptors: list[int]) -> int:
    """Stand in for the start of an interpreter: a fork with the streams and these descriptors, and none of pytest's."""
    process = os.fork()
    if process:
        return process
    try:
        listener, alive = descriptors
        first = 3  # streams stay
        for descriptor in sorted(descriptors):
            os.closerange(first, descriptor)
            first = descriptor + 1
        os.closerange(first, os.sysconf("SC_OPEN_MAX"))
        faulthandler.disable()  # pytest's writes to one of those
        sys.meta_path[:] = [one for one in sys.meta_path if not type(one).__module__.startswith("_pytest")]
        forkserver.main(listener, alive, ["peftlab.sweep.preload"])
    finally:
        os._exit(0)


def fork_ours() -> None:
    """From now on `subprocess` forks, here and in the forks, what is ours."""
    for name, function in {"_execute_child": _start, "_internal_poll": _poll, "_try_wait": _wait}.items():
        setattr(subprocess.Popen, name, function)


def start_interpreters() -> None:
    """From now on `subprocess` starts interpreters again."""
    for name, function in _of_subprocess.items():
        setattr(subprocess.Popen, name, function)


def _start(  # the place where a process starts; all around it is that of any process
    self, args, executable, preexec_fn, close_fds, pass_fds, cwd, env, startupinfo, creationflags, shell,
    p2cread, p2cwrite, c2pread, c2pwrite, errread, errwrite, restore_signals, gid, gids, uid, umask,
    start_new_session, process_group,
):  # fmt: skip
    if shell or not is_ours(args):
        _of_subprocess["_execute_child"](
            self, args, executable, preexec_fn, close_fds, pass_fds, cwd, env, startupinfo, creationflags, shell,
            p2cread, p2cwrite, c2pread, c2pwrite, errread, errwrite, restore_signals, gid, gids, uid, umask,
            start_new_session, process_group,
        )  # fmt: skip
        return
    sys.audit("subprocess.Popen", args[0], args, cwd, env)  # as the other does
    streams = [number if number != -1 else stream for stream, number in enumerate((p2cread, c2pwrite, errwrite))]
    group = process_group if process_group != -1 else os.getpgid(0)
    context = fork_server()
    start = Start(
        words=[os.fspath(word) for word in args[1:]],
        folder=os.path.abspath(cwd or "."),
        environment=dict(os.environ if env is None else env),
        streams=list(map(Descriptor, streams)),
        path=searched(),
        prepare=preexec_fn,
        session=start_new_session,
        group=None if start_new_session else group,
        server=forkserver._forkserver._forkserver_address,
    )
    self.forked = context.Process(target=become, args=(start,))
    _launch(self.forked)
    self.pid = self.forked.pid
    self._child_created = True
    self._close_pipe_fds(p2cread, p2cwrite, c2pread, c2pwrite, errread, errwrite)


def _poll(self, _deadstate=None, **_):
    if not hasattr(self, "forked"):
        return _of_subprocess["_internal_poll"](self, _deadstate)
    if self.returncode is None and self._waitpid_lock.acquire(False):
        try:
            self.returncode = self.forked.exitcode
        finally:
            self._waitpid_lock.release()
    return self.returncode


def _wait(self, wait_flags):
    if not hasattr(self, "forked"):
        return _of_subprocess["_try_wait"](self, wait_flags)
    if not wait_flags & os.WNOHANG:
        self.forked.join()
    code = self.forked.exitcode
    if code is None:
        return 0, 0
    return self.pid, code << 8 if code >= 0 else -code  # as waitpid(2) says it


def is_ours(arguments: Any) -> bool:
    """Return whether a process of such arguments is to be forked."""
    if isinstance(arguments, (str, bytes, os.PathLike)) or arguments[0] != sys.executable:
        return False
    words = [os.fspath(word) for word in arguments[1:]]
    count = next((n for n, word in enumerate(words) if not word.startswith("-")), len(words)) + 1
    if not FORKED.fullmatch(" ".join(words[:count])):
        return False
    return "-m" in words[:count] or not any(Path(words[0]).is_relative_to(place) for place in INSTALLED)


def searched() -> list[str]:
    """Return where a new interpreter without arguments and environment finds modules."""
    if not _searched:
        environment = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
        command = [sys.executable, "-P", "-c", "import sys; print(*sys.path, sep='\\n')"]
        said = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout
        _searched.extend(said.splitlines())
    return _searched


def become(start: Start) -> NoReturn:
    """Do in a fork what a new interpreter would, and end as it would."""
    for number, stream in enumerate(start.streams):
        os.dup2(stream.number, number)
        os.close(stream.number)
    if start.session:
        os.setsid()
    elif start.group is not None:
        with suppress(PermissionError):  # the group belongs to another session than the fork server
            os.setpgid(0, start.group)
    os.chdir(start.folder)
    os.environ.clear()
    os.environ.update(start.environment)
    sys.stdin, sys.stdout = os.fdopen(0, closefd=False), os.fdopen(1, "w", closefd=False)
    sys.stderr = os.fdopen(2, "w", buffering=1, errors="backslashreplace", closefd=False)
    sys.__stdin__, sys.__stdout__, sys.__stderr__ = sys.stdin, sys.stdout, sys.stderr
    _searched.extend(start.path)
    _use(start.server)
    words = [word for word in start.words if word not in ("-u", "-P")]
    first = os.getcwd() if words[0] == "-m" else os.path.dirname(os.path.abspath(words[0]))
    more = [entry for entry in os.environ.get("PYTHONPATH", "").split(os.pathsep) if entry]
    sys.path[:] = [*([] if "-P" in start.words[:1] else [first]), *map(os.path.abspath, more), *start.path]
    if start.prepare is not None:
        start.prepare()
    code: Any = 0
    try:
        if words[0] == "-m":
            sys.argv = words[1:]
            runpy.run_module(words[1], run_name="__main__", alter_sys=True)
        else:
            sys.argv = words
            runpy.run_path(words[0], run_name="__main__")
    except SystemExit as end:
        code = end.code
        if not isinstance(code, int | None):
            print(code, file=sys.stderr)
            code = 1
    except KeyboardInterrupt:
        traceback.print_exc()
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGINT)
    except BaseException:  # noqa: BLE001  # a fork must not go on as what it is a fork of
        sys.excepthook(*sys.exc_info())  # type: ignore[arg-type]
        code = 1
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code or 0)


def _launch(process: ForkServerProcess) -> None:
    """Start a fork, which looks for this module where this process does."""
    sys.path.insert(0, ROOT)
    try:
        _of_multiprocessing(process)
    finally:
        sys.path.remove(ROOT)


_of_multiprocessing = ForkServerProcess.start


def _use(server: Any) -> None:
    """Have this process, a fork, fork what it starts from the same server, which takes the place of one of its own."""
    forkserver._forkserver._forkserver_address = server
    forkserver._forkserver.ensure_running = forkserver.ensure_running = lambda: None  # type: ignore[method-assign]
    ForkServerProcess.start = _start_within  # type: ignore[method-assign]
    fork_ours()


def _start_within(process: ForkServerProcess) -> None:
    process._target = Within(process._target, dict(os.environ), searched(), forkserver._forkserver._forkserver_address)
    _launch(process)


@dataclass
class Within:
    """What a fork of a fork does, with all that it would have from a server that its parent had started."""

    target: Callable[..., object]
    environment: dict[str, str]
    path: list[str]
    server: Any

    def __call__(self, *arguments: Any) -> None:
        os.environ.clear()
        os.environ.update(self.environment)
        _searched.extend(self.path)
        _use(self.server)
        self.target(*arguments)
