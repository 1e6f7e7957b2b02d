"""``python -m train`` and ``peftlab train``: one run, or a sweep of runs.

Nothing heavy is imported here, so that ``--help`` and ``--cfg job`` answer at once.
"""

import hydra
from omegaconf import DictConfig

from peftlab.commands.train import run_composed, start
from peftlab.composing.compose import conf_dir


@hydra.main(version_base="1.3", config_path=str(conf_dir()), config_name="config")
def train(cfg: DictConfig) -> None:
    """Train, test and record one configuration."""
    run_composed(cfg)


if __name__ == "__main__":
    start(train)
