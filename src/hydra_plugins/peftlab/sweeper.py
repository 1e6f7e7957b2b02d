"""The Hydra sweeper: ``hydra/sweeper=peftlab``, the default."""

from __future__ import annotations

from typing import Any

from hydra.core.plugins import Plugins
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig
from typing_extensions import override


class PeftlabSweeper(Sweeper):
    """Runs or searches the grid that the command line spans; see ``conf/sweep``."""

    @override
    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Instantiate the launcher with a `RemoteTrial` in place of `task_function`."""
        from peftlab.sweep.arguments import command
        from peftlab.sweep.batch import RemoteTrial
        from peftlab.terminal.exits import user_exits

        self.hydra_context, self.config = hydra_context, config
        with user_exits():
            self.launcher = Plugins.instance().instantiate_launcher(
                hydra_context=hydra_context,
                task_function=RemoteTrial(command()),
                config=config,
            )

    @override
    def sweep(self, arguments: list[str]) -> Any:
        """Run the sweep; `arguments` are the command-line overrides."""
        from peftlab.sweep.sweep import sweep
        from peftlab.terminal.exits import user_exits

        assert self.launcher is not None
        assert self.config is not None
        assert self.hydra_context is not None
        with user_exits():
            return sweep(self.launcher, self.hydra_context, self.config, arguments)
