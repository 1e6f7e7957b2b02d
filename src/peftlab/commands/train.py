"""``peftlab train``: the same as ``python -m train``, which runs our ``train.py`` unless the current folder has one.

Hydra reads the arguments. Only packages that the configuration allows are imported from the current folder.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import peftlab
from peftlab.devices import openmp
from peftlab.imports import without_collecting

if TYPE_CHECKING:
    from omegaconf import DictConfig

GROUP = "run"
SUMMARY = "fine-tune a model, test it, and record the run; with -m a sweep"
DESCRIPTION = ""
EXAMPLES = (
    "peftlab train +experiment=ner_lora                          # one run",
    "peftlab train -m +experiment=ner_lora peft=lora,full        # a sweep",
    "peftlab train +experiment=banking77_lora stream=classes     # learn classes stage by stage: a chain of runs",
    "peftlab train --help                                        # every option",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare that all arguments are Hydra's."""
    parser.add_argument("arguments", metavar="KEY=VALUE", nargs="*")


def execute(options: argparse.Namespace) -> None:
    """Run the ``train.py`` next to this package, whatever other module has its name."""
    from peftlab.sweep.arguments import AS_COMMAND

    sys.argv = [AS_COMMAND, *options.arguments]
    spec = importlib.util.spec_from_file_location("train", Path(peftlab.__path__[0]).parent / "train.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    start(module.train)


def start(train: Callable[[], None]) -> None:
    """Have Hydra compose the configuration of the command line, and pass it to `train`, or to a sweep of it."""
    from peftlab.composing.hydra_gate import composing_only
    from peftlab.masking.streams import mask_streams
    from peftlab.sweep.arguments import for_hydra
    from peftlab.terminal.composition import composition_exits
    from peftlab.terminal.exits import stdout_exits

    with stdout_exits():
        mask_streams()
        with composition_exits(), composing_only():
            sys.argv[1:] = for_hydra(sys.argv[1:], os.environ)
            train()


def run_composed(config: DictConfig) -> None:
    """Train, test and record one configuration that Hydra has composed."""
    from peftlab.composing.compose import typed_overrides, whole_number
    from peftlab.sweep.arguments import called_as
    from peftlab.terminal.console import start_logging
    from peftlab.terminal.exits import user_exits

    with user_exits():  # inside Hydra: it would print a line of its own about an error that passes through it
        start_logging()
        openmp.settle(whole_number(config, "trainer.threads"), whole_number(config, "trainer.devices") or 1)
        if config.get("stream") is not None:
            _learn_stream()
            return
        with without_collecting():
            from peftlab.one_run import run

        run(config, command=[*called_as(), *sys.argv[1:]], overrides=typed_overrides())


def _learn_stream() -> None:
    """Learn the stream that the command line describes, and print what came of it."""
    from hydra.core.hydra_config import HydraConfig

    from peftlab.composing.compose import typed_overrides
    from peftlab.sweep.arguments import called_as

    with without_collecting():
        from peftlab.continual.report import printed, write
        from peftlab.continual.stream import learn

    sources = HydraConfig.get().runtime.config_sources
    own = next((source.path for source in sources if source.provider == "command-line"), None)
    result = learn(typed_overrides(), config_dir=own, command=[*called_as(), *sys.argv[1:]])
    page = write(result)
    print(printed(result))
    print(f"report: {page}")
