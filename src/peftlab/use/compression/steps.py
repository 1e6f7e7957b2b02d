"""The steps that make a model smaller or faster: each makes a run of the one before it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from torch import nn

from peftlab.errors import ConfigError, did_you_mean
from peftlab.methods.selection import OwnWeights
from peftlab.methods.sessions import MODEL, Engine, Session, SessionModel, check_installed
from peftlab.methods.sliced import Sliced
from peftlab.models.quantizing import dequantize
from peftlab.runs.derivation import SECTION
from peftlab.runs.find import readable_records
from peftlab.use.compression.onnx_file import check, compare, export, quantize
from peftlab.use.derive import derive
from peftlab.use.examples import data_of

if TYPE_CHECKING:
    from peftlab.use.finished import FinishedRun

BY = "compress"
"""The command that derives the runs."""


class NothingToDoError(Exception):
    """A step does not apply to a run, and the next one goes on from the same; says why."""


@dataclass(frozen=True)
class Making:
    """What a step works on."""

    run: FinishedRun
    """The rung before it."""
    value: Any
    """The value of the step; None if it takes none."""
    how: dict[str, Any]
    """The step as JSON values, which the identity of its run hangs on."""
    teacher: FinishedRun
    name: str
    """The name of the run to make."""
    root: Path | None
    """The folder of the folders of runs, by name; None: ``runs/``."""

    def derived(self, peft: Mapping[str, Any], fill: Callable[[nn.Module], None]) -> FinishedRun:
        """Return the run with the model that `peft` makes and `fill` gives its weights, see `derive`."""
        return derive([self.run], by=BY, how=self.how, peft=peft, fill=fill, name=self.name, root=self.root)

    def made_before(self) -> FinishedRun | None:
        """Return the run that this very step has made of this very run before; None if there is none."""
        from peftlab.use.finished import load

        folder = (self.root or Path("runs")) / self.name
        parent = self.run.record.data["identity"]["sha256"]
        for record in readable_records(sorted(folder.glob("*")) if folder.is_dir() else []):
            made = record.data.get(SECTION) or {}
            same = made.get("by") == BY and made.get("how") == self.how
            if same and record.data["status"] == "completed" and [p["identity"] for p in made["parents"]] == [parent]:
                return load(record.folder, self.run.folder.allow)
        return None


@dataclass(frozen=True)
class Step:
    """A kind of step."""

    name: str
    about: str
    """What it does, in a line."""
    make: Callable[[Making], FinishedRun]
    """Makes the run.

    Raises:
        NothingToDoError: the run is already what the step makes, or its method does not allow it.
        UserError: it cannot be made.
    """
    takes: str = ""
    """What its value may be; empty: it takes none."""
    read: Callable[[str], Any] | None = None
    """Returns its value from its text, or raises ValueError."""
    default: Any = None
    """Its value without a text; None: it needs one, if it takes any."""
    cuts: bool = False
    """Whether it takes parts out of the model, so that a later distillation may be needed to judge it."""
    is_file: bool = False
    """Whether it makes a model outside torch, of which no step in torch can follow."""


@dataclass(frozen=True)
class Chosen:
    """A step with its value."""

    step: Step
    value: Any

    def __str__(self) -> str:
        return self.step.name if self.value in (None, self.step.default) else f"{self.step.name}={self.value}"


def parse(text: str) -> list[Chosen]:
    """Return the steps in a text such as ``merge,drop_layers=2,int8``.

    Raises:
        ConfigError: names the step that cannot be used, and what is allowed.
    """
    chosen: list[Chosen] = []
    for part in text.split(","):
        name, has_value, value = part.strip().partition("=")
        if (step := STEPS.get(name)) is None:
            raise ConfigError(
                f"--steps {part.strip()}: there is no such step.{did_you_mean(name, STEPS)} "
                f"Allowed: {', '.join(f'{one.name}={one.takes}' if one.takes else one.name for one in STEPS.values())}"
            )
        files = [one.step.name for one in chosen if one.step.is_file]
        if files and (not step.is_file or name in ("onnx", *files)):
            raise ConfigError(
                f"--steps {files[-1]},{name}: {files[-1]} makes a file outside torch, which {name} cannot work on; put "
                f"{name} before it, once"
            )
        if "int8" in files:  # OpenVINO rounds otherwise: its logits are far from those of ONNX Runtime
            raise ConfigError(f"--steps int8,{name}: the file of int8 is for ONNX Runtime alone; put {name} before it")
        chosen.append(Chosen(step, _value(step, value if has_value else None)))
    return chosen


def _value(step: Step, text: str | None) -> Any:
    if step.read is None:
        if text is not None:
            raise ConfigError(f"--steps {step.name}={text}: {step.name} takes no value")
        return None
    if text is None and step.default is not None:
        return step.default
    try:
        return step.read(text or "")
    except ValueError:
        shown = step.name if text is None else f"{step.name}={text}"
        raise ConfigError(f"--steps {shown}: expected {step.name}={step.takes}") from None


def _count(text: str) -> int:
    if (value := int(text)) < 1:
        raise ValueError
    return value


def _share(text: str) -> float:
    if not 0 < (value := float(text)) < 1:
        raise ValueError
    return value


def _epochs(text: str) -> int | float:
    if not 0 < (value := float(text)) < 1e6:
        raise ValueError
    return int(value) if value.is_integer() else value


def _merge(making: Making) -> FinishedRun:
    method = making.run.parts.peft
    if isinstance(method, OwnWeights | Sliced):
        raise NothingToDoError(f"peft={method.name} adds nothing to the model that could be merged")
    if not method.mergeable:
        raise NothingToDoError(
            f"peft={method.name} cannot be merged into a plain model; the next step goes on from the run as it is"
        )

    def fill(model: nn.Module) -> None:
        adapted = making.run.adapted().cpu()
        dequantize(adapted)
        model.load_state_dict(method.merge(adapted).state_dict())

    return making.derived({"_target_": "peftlab.methods.selection.Full", "name": "merged"}, fill)


def _cut(making: Making) -> FinishedRun:
    if (before := making.made_before()) is not None:  # to find out what to cut takes minutes
        return before
    from peftlab.use.compression.slicing import cut

    made = cut(making.run, **making.how)
    return making.derived(made.peft, made.fill)


def _distil(making: Making) -> FinishedRun:
    from peftlab.use.compression.distilling import distil

    return distil(making.run, making.teacher, max_epochs=making.value or None, name=making.name, root=making.root)


def _onnx(making: Making) -> FinishedRun:
    return _session(making, "onnx", "onnxruntime")


def _int8(making: Making) -> FinishedRun:
    return _session(making, "int8", "onnxruntime")


def _openvino(making: Making) -> FinishedRun:
    return _session(making, "openvino", "openvino")


def _session(making: Making, name: str, engine: Engine) -> FinishedRun:
    """Return the run whose model is a file: that of the rung before, or one that is exported now."""
    check_installed(engine)
    run = making.run

    def fill(session: nn.Module) -> None:
        assert isinstance(session, SessionModel)
        data, model, file = data_of(run), run.adapted().cpu(), folder / MODEL
        if isinstance(model, SessionModel):
            assert model.file is not None
            file, about = model.file, dict(model.about)
        else:
            about = export(model, data, file)
        if name == "int8":
            smaller = folder / f"int8-{MODEL}"
            quantize(file, smaller, embeddings=making.value == "all")
            file, about["weights"] = smaller, "int8"
        session.open(file, about)
        compared = compare(model, session, data)
        session.about["compared"] = asdict(compared) if name == "int8" else check(compared)

    with TemporaryDirectory() as temporary:
        folder = Path(temporary)
        peft = {"_target_": f"{Session.__module__}.{Session.__name__}", "name": name, "engine": engine}
        return making.derived(peft, fill)


def _one_of(*allowed: str) -> Callable[[str], str]:
    def read(text: str) -> str:
        if text not in allowed:
            raise ValueError
        return text

    return read


STEPS: dict[str, Step] = {
    step.name: step
    for step in (
        Step("merge", "what the method has added becomes part of the weights", _merge),
        Step("drop_layers", "the layers that are needed least go", _cut, "COUNT", _count, cuts=True),
        Step("prune_heads", "this share of the attention heads goes", _cut, "SHARE", _share, cuts=True),
        Step("prune_ffn", "this share of the feed-forward rows goes", _cut, "SHARE", _share, cuts=True),
        Step("distil", "it is trained again, to answer as the teacher does", _distil, "EPOCHS", _epochs, 0),
        Step("onnx", "a file that ONNX Runtime computes", _onnx, is_file=True),
        Step(
            "int8",
            "weights of 8 bits, those of embeddings too or only of products",
            _int8,
            "all|products",
            _one_of("all", "products"),
            "all",
            is_file=True,
        ),
        Step("openvino", "the file is computed by OpenVINO", _openvino, is_file=True),
    )
}
