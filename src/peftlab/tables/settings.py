"""What the user decides about a scorecard."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass
from typing import Any

from peftlab.errors import ConfigError
from peftlab.masking.mask import mask
from peftlab.tables.calibrators import Kind


@dataclass(frozen=True)
class Settings:
    """The choices behind a scorecard."""

    overrides: tuple[str, ...]
    """Of the configuration of the text model, in Hydra's grammar."""
    config_dir: str | None = None
    """A folder with further configuration, as with `peftlab train`."""
    columns: tuple[str, ...] | None = None
    """The columns beside the text; None: all that have no other part."""
    categorical: tuple[str, ...] = ()
    """Columns whose numbers are names."""
    after_granting: tuple[str, ...] = ()
    """Columns that are known only later, which are left out."""
    time: str | None = None
    """The column of dates; None: a random split."""
    groups: tuple[str, ...] = ()
    """Columns of groups whose approval is compared; left out of the model unless `columns` names them."""
    positive: str | None = None
    """The label that is forecast, such as a default; None: the last one in the order of the alphabet."""
    validation: float = 0.2
    """The share of the rows that choose, calibrate and stop training."""
    test: float = 0.2
    """The share of the rows that judge."""
    folds: int = 5
    """Folds of the training rows in which their texts are scored."""
    calibration: Kind = "platt"
    loss: float = 5.0
    """What an approved application costs that turns out `positive`."""
    gain: float = 1.0
    """What another approved application earns."""
    cut_off: float | None = None
    """The probability from which on an application is refused; None: from where it earns nothing on average."""

    def __post_init__(self) -> None:
        """Check combinations.

        Raises:
            ConfigError: a column has two parts or is named twice, or a number is out of range.
        """
        if self.columns == ():
            raise ConfigError("--columns: names none. Leave it out, and all others are read, or name some with commas")
        if both := [name for name in self.columns or () if name in self.after_granting]:
            raise ConfigError(
                f"--columns {both[0]}: is named by --after-granting as well. What is known only after granting cannot "
                "help to grant; leave it out of --columns"
            )
        if twice := [name for name, count in Counter(self.columns or ()).items() if count > 1]:
            raise ConfigError(f"--columns {twice[0]}: is named twice, and would count twice. Name it once")
        if min(self.validation, self.test) <= 0 or self.validation + self.test >= 1:
            raise ConfigError(
                f"--validation {self.validation} --test {self.test}: shares above 0 that leave some to train"
            )
        if self.folds < 2:
            raise ConfigError(f"--folds {self.folds}: texts are scored by models of the other folds; take 2 or more")
        if self.cut_off is not None and not 0 < self.cut_off < 1:
            raise ConfigError(f"--cut-off {self.cut_off}: is a probability between 0 and 1")

    @property
    def refused_from(self) -> float:
        """The probability from which on an application is refused: gain (1 - p) = loss p, if none is set."""
        return self.gain / (self.gain + self.loss) if self.cut_off is None else self.cut_off

    def as_json(self) -> dict[str, Any]:
        """Return the settings as JSON values, without the secrets that overrides may hold."""
        return {**asdict(self), "overrides": mask(list(self.overrides)), "cut_off": self.refused_from}
