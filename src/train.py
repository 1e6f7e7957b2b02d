"""``python -m train``: composes the configuration and hands it to `peftlab.one_run`.

Nothing heavy is imported here, so that ``--help`` and ``--cfg job`` answer at once.
"""

import os
import sys

import hydra
from omegaconf import DictConfig

from peftlab.compose import conf_dir, typed_overrides
from peftlab.exits import composition_exits, stdout_exits, user_exits
from peftlab.hydra_gate import composing_only
from peftlab.imports import without_collecting
from peftlab.masking.streams import mask_streams
from peftlab.sweep.arguments import for_hydra


@hydra.main(version_base="1.3", config_path=str(conf_dir()), config_name="config")
def train(cfg: DictConfig) -> None:
    """Train, test and record one configuration."""
    with user_exits():  # here already: Hydra would print a line of its own about an error that passes through it
        with without_collecting():
            from peftlab.one_run import run

        run(cfg, command=["python", "-m", "train", *sys.argv[1:]], overrides=typed_overrides())


if __name__ == "__main__":
    with stdout_exits():
        mask_streams()
        with composition_exits(), composing_only():
            sys.argv[1:] = for_hydra(sys.argv[1:], os.environ)
            train()
