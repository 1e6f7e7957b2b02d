"""How a command ends whose configuration Hydra cannot compose."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from hydra.errors import HydraException
from omegaconf.errors import OmegaConfBaseException

from peftlab.composing.compose import explain_composition, is_no_option, search_path
from peftlab.errors import UserError
from peftlab.terminal.exits import fail


@contextmanager
def composition_exits() -> Iterator[None]:
    """Around Hydra's own work: report its errors about the command line in one message, and exit with 2.

    With HYDRA_FULL_ERROR set, the exception is left as it is.
    """
    if "HYDRA_FULL_ERROR" in os.environ:
        yield
        return
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra would print its own errors and exit with 1: we want the exception
    try:
        yield
    except UserError as error:
        fail(str(error))
    except (HydraException, OmegaConfBaseException) as error:
        fail(explain_composition(error, _arguments()))
    except ValueError as error:
        if not is_no_option(error):
            raise
        fail(explain_composition(error, _arguments()))
    finally:
        del os.environ["HYDRA_FULL_ERROR"]


def _arguments() -> list[str]:
    """Return the arguments of the command, with ``--config-dir`` as an override."""
    options = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    options.add_argument("--config-dir", "-cd")
    parsed, arguments = options.parse_known_args(sys.argv[1:])
    return arguments if parsed.config_dir is None else [*arguments, search_path(parsed.config_dir)]
