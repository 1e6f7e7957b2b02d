"""How a command ends: exit codes, and mistakes told in one short message. Imports nothing heavy.

====  =====================================================================
code  meaning
====  =====================================================================
0     done
1     a failure while running; the run's record names it
2     the user's mistake, found before anything was written
130   interrupted by Ctrl-C (SIGINT), with a record and a checkpoint, from
      which the same command goes on
143   the same by SIGTERM, or by SIGUSR1, which announces it (SLURM sends it
      ahead of the time limit with ``--signal=USR1@60``)
====  =====================================================================
"""

from __future__ import annotations

import argparse
import errno
import os
import re
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import Any, ClassVar, Self

from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from omegaconf import OmegaConf
from omegaconf.errors import InterpolationKeyError, MissingMandatoryValue, OmegaConfBaseException

from peftlab.errors import RunError, UserError, did_you_mean
from peftlab.masking.mask import mask
from peftlab.streams import Watched, silence

SIGNALS = {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGUSR1: 143}
"""What asks a run to end, and its exit code then: a user, a scheduler that stops or preempts the job, one that
announces it."""

CLOSED_PIPE = 128 + signal.SIGPIPE
"""The exit code of a command whose reader has had enough, as a shell gives it."""

_NO_NAME = (errno.ENAMETOOLONG, errno.ELOOP)
"""How the system refuses a name, wherever it is looked up first."""

_NO_OPTION = "Config group override must be a string or a list"
"""How Hydra's ValueError about ``GROUP=null`` or ``GROUP=1`` begins."""


class Interrupted(BaseException):
    """A signal asked the run to end. Not a KeyboardInterrupt, which Lightning would turn into exit code 1."""

    def __init__(self, signum: int) -> None:
        super().__init__(signal.Signals(signum).name)
        self.exit_code = SIGNALS[signal.Signals(signum)]


class Pruned(BaseException):  # like `Interrupted`, no error
    """The sweep has ended the run at an evaluation, with a checkpoint: others do better."""


def conf_dir() -> Path:
    """Return the folder of the configuration: beside the sources in a checkout, inside the package when installed."""
    package = Path(__file__).resolve().parent
    checkout = package.parents[1] / "conf"
    return checkout if (checkout / "config.yaml").is_file() else package / "conf"


@contextmanager
def composition_exits() -> Iterator[None]:
    """Around Hydra's own work: tell what it finds wrong with the command line in one message, and exit with 2.

    With HYDRA_FULL_ERROR set, the exception is left as it is.
    """
    if "HYDRA_FULL_ERROR" in os.environ:
        yield
        return
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra would print its own errors and exit with 1: we want the exception
    try:
        yield
    except UserError as error:
        _fail(str(error))
    except (HydraException, OmegaConfBaseException) as error:
        _fail(explain_composition(error, _arguments()))
    except ValueError as error:
        if not is_no_option(error):
            raise
        _fail(explain_composition(error, _arguments()))
    finally:
        del os.environ["HYDRA_FULL_ERROR"]


@contextmanager
def user_exits() -> Iterator[None]:
    """Around our own work: the user's mistakes become one message and exit code 2, interruptions 130 and 143."""
    try:
        yield
    except UserError as error:
        _fail(f"{error}{set_in(str(error))}")
    except OSError as error:
        if error.errno not in _NO_NAME:
            raise
        _fail(f"'{str(error.filename)[:80]}' can be no file's name ({error.strerror}); name another")
    except RunError as error:
        _fail(str(error), code=1)
    except Interrupted as error:
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        sys.exit(130)


@contextmanager
def stdout_exits() -> Iterator[None]:
    """Around a command whose result goes to stdout: a reader that has had enough ends it as it ends Unix tools.

    A disk that takes no more is told in one message, exit code 1.
    """
    stream = sys.stdout
    if stream is None:
        yield
        return
    watched = Watched(stream)
    sys.stdout = watched
    try:
        try:
            yield
        except SystemExit:
            sys.stdout.flush()  # which may mask what it passes on
            raise
        sys.stdout.flush()
    except OSError as error:
        if error is not watched.failure:  # it is about something else
            raise
        silence(stream)
        if isinstance(error, BrokenPipeError):
            sys.exit(CLOSED_PIPE)
        _fail(f"stdout takes no more of the result: {error.strerror}. Send it elsewhere", code=1)
    finally:
        sys.stdout = stream


class Signals:
    """Turns `SIGNALS` into `Interrupted`, at once or, while `hold` is set, when `raise_pending` is called.

    `pending` is the signal that is held back. A second signal ends the process at once. Used as a context; only the
    main thread can.

    At once means wherever Python happens to be, and there are places where it drops every exception (the hooks around a
    fork, finalizers), or where one leaves a lock or a file half done. As soon as there is something to lose, hold.
    """

    taken: ClassVar[int | None] = None
    """The signal that this process has taken last."""

    def __init__(self) -> None:
        self.hold = False
        self.pending: int | None = None
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Self:
        self._before = {number: signal.getsignal(number) for number in SIGNALS}
        if threading.current_thread() is threading.main_thread():
            for number in self._before:
                signal.signal(number, self._received)
        return self

    def __exit__(self, *_: object) -> None:
        if threading.current_thread() is threading.main_thread():
            for number, handler in self._before.items():
                signal.signal(number, handler)

    def raise_pending(self) -> None:
        """Raise `Interrupted` where a signal was held back."""
        if self.pending is not None:
            raise Interrupted(self.pending)

    def _received(self, number: int, _frame: FrameType | None) -> None:
        for later in self._before:
            signal.signal(later, signal.SIG_DFL)
        self.pending = Signals.taken = number
        if not self.hold:
            raise Interrupted(number)


def is_no_option(error: ValueError) -> bool:
    """Return whether Hydra means that a group was given what can be no name of an option."""
    return str(error).startswith(_NO_OPTION)


def _is_no_name(value: str) -> bool:
    return re.fullmatch(r"(?i)null|true|false|[+-]?[\d.]+(e[+-]?\d+)?|\{.*\}", value) is not None


def explain_composition(error: Exception, overrides: list[str]) -> str:
    """Say in our form what Hydra or OmegaConf found wrong with the command line `overrides` or a config file."""
    if isinstance(error, MissingConfigException) and error.missing_cfg_file:
        return _missing_option(str(error.missing_cfg_file), [str(option) for option in error.options or []])
    if isinstance(error, MissingMandatoryValue):
        key = str(error.full_key)
        return f"{key} is missing: give it a value, {key}=..."
    if isinstance(error, OverrideParseException):
        reason = error.message.splitlines()[0].rstrip(".")
        return (
            f"cannot read '{error.override}': {reason}. Write key=value; "
            "a value with special characters wants quotes within quotes: \"key='a=b'\""
        )
    if match := re.search(r"Missing mandatory value: (\S+)", str(error)):
        return f"{match[1]} is missing: give it a value, {match[1]}=..."
    if isinstance(error, InterpolationKeyError):
        return f"{error.full_key}: {str(error).splitlines()[0]}"
    text = str(error)
    groups = config_groups()
    if text.startswith(_NO_OPTION):
        pairs = (override.lstrip("+").partition("=") for override in overrides)
        group, value = next(((key, value) for key, _, value in pairs if key in groups and _is_no_name(value)), ("", ""))
        return f"{group}={value}: name an option, or write {group}=[] where options form a list"
    if match := re.search(r"An item is already at '([^']+)'", text):
        return f"{match[1]} is in the configuration already: write {match[1]}=..., without the plus"
    if match := re.search(r"Could not override '([^']+)'", text):
        if match[1] in groups:
            return f"{match[1]} is not chosen by default: write +{match[1]}=..., with a plus"
        return _unknown_key(match[1], overrides)
    return text.splitlines()[0].rstrip(".")


def typed_overrides() -> list[str]:
    """Return the overrides of the running command as they were typed, any ``${...}`` in them left as it is."""
    overrides = OmegaConf.to_container(HydraConfig.get().overrides.task)
    assert isinstance(overrides, list)
    return [str(override) for override in overrides]


def search_path(config_dir: str | Path) -> str:
    """Return the override that lays the user's folder `config_dir` beside our own configuration."""
    return f"hydra.searchpath=['file://{Path(config_dir).absolute()}']"


def set_in(message: str) -> str:
    """Return `` (set in FILE)`` where `message` begins with a key whose value comes from a file, else nothing.

    A value from the command line needs no such hint: the user has just typed it.
    """
    key = re.match(r"\w+(\.\w+)+", message)
    if key is None or not HydraConfig.initialized():
        return ""
    group, leaf = key[0].partition(".")[0], key[0].rpartition(".")[2]
    hydra = HydraConfig.get()
    if any(text.lstrip("+").startswith(key[0]) for text in typed_overrides()):
        return ""
    for name in ("experiment", group):  # an experiment comes last and wins, wherever its file lies
        for source in hydra.runtime.config_sources:
            file = Path(source.path) / name / f"{hydra.runtime.choices.get(name)}.yaml"
            if (
                source.schema == "file"
                and file.is_file()
                and re.search(rf"^\s*{leaf}:", file.read_text(), re.MULTILINE)
            ):
                return f" (set in {file})"
    return ""


def _missing_option(file: str, options: list[str]) -> str:
    group, _, option = file.rpartition("/")
    if not group:
        return f"there is no configuration '{option}'"
    options = options or sorted(
        file.stem for file in (conf_dir() / group).glob("*.yaml")
    )  # of a list, Hydra tells none
    if not options:
        groups = config_groups()
        return f"there is no group '{group}' (in '{file}').{did_you_mean(group, groups)} Groups: {', '.join(groups)}"
    return (
        f"{group}={option}: there is no such option.{did_you_mean(option, options)} "
        f"Options of {group}: {', '.join(sorted(options))}"
    )


def _unknown_key(key: str, overrides: list[str]) -> str:
    known = [*config_groups(), *composed_keys(overrides)]
    if key in known:  # by a choice that Hydra composes later than what it refuses
        return f"there is no key '{key}' before all choices are made: write ++{key}=..., which sets it in any case"
    parent, _, leaf = key.rpartition(".")
    beside = sorted({name[len(parent) + 1 :] for name in known if name.startswith(parent + ".")} if parent else known)
    suggestion = did_you_mean(key, known)
    if not suggestion and beside:
        suggestion = did_you_mean(leaf, beside)
    allowed = f" Keys of {parent}: {', '.join(beside)}" if parent and beside and len(beside) <= 24 else ""
    return f"there is no key '{key}' in the configuration.{suggestion}{allowed}"


def config_groups() -> list[str]:
    """Return the names of the config groups: the folders below `conf_dir`, but for Hydra's own."""
    return sorted(folder.name for folder in conf_dir().iterdir() if folder.is_dir() and folder.name != "hydra")


def composed_keys(overrides: list[str]) -> list[str]:
    """Return every dotted key of the configuration under the choices of groups made in `overrides`."""
    from hydra import compose
    from omegaconf import DictConfig

    from peftlab.own_hydra import own_hydra

    groups = config_groups()
    chosen = {*groups, "hydra.searchpath"}
    choices = [text for text in overrides if "=" in text and text.lstrip("+").split("=")[0] in chosen]
    choices = [re.sub(r"=(?:choice\()?([\w/]+),.*", r"=\1", text) for text in choices]  # of a sweep: the first

    def keys(node: DictConfig, prefix: str) -> Iterator[str]:
        for key in map(str, node):
            yield f"{prefix}{key}"
            child = node._get_node(key)
            if isinstance(child, DictConfig) and not child._is_none() and not child._is_missing():
                yield from keys(child, f"{prefix}{key}.")

    with own_hydra(conf_dir()):
        return list(keys(compose("config", overrides=choices), ""))


def _arguments() -> list[str]:
    """Return the arguments of the command, with the override that ``--config-dir`` stands for."""
    options = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    options.add_argument("--config-dir", "-cd")
    found, arguments = options.parse_known_args(sys.argv[1:])
    return arguments if found.config_dir is None else [*arguments, search_path(found.config_dir)]


def _fail(message: str, code: int = 2) -> None:
    with suppress(OSError):  # nobody listens: the exit code says it
        print(f"error: {mask(message)}", file=sys.stderr, flush=True)
    sys.exit(code)
