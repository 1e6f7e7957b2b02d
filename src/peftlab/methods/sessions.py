"""Models that are computed outside torch: a session of ONNX Runtime or of OpenVINO on a file takes the model's place.

`peftlab compress` makes them. They answer and are scored as any other; they cannot be trained, and have no gradients.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from functools import cache
from importlib import util
from pathlib import Path
from typing import Any, ClassVar, Literal, Never

import numpy as np
import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.modeling_outputs import ModelOutput
from typing_extensions import override

from peftlab.errors import ConfigError, UserError
from peftlab.methods.adapter_files import ADAPTER_CONFIG, ADAPTER_WEIGHTS, read_description
from peftlab.methods.method import Method, MethodContext, spec
from peftlab.models.positions import positions
from peftlab.storage.tensors import load_into, save

Engine = Literal["onnxruntime", "openvino"]

MODEL = "model.onnx"
"""The file of the model, in the adapter's folder."""

ABOUT = "file"
"""The entry of the adapter's JSON file on its model: inputs, parameters, opset, and how near it is to torch's."""

_EXTRAS: dict[Engine, str] = {"onnxruntime": "compress", "openvino": "openvino"}

Compute = Callable[[Mapping[str, np.ndarray]], dict[str, np.ndarray]]
"""Returns a model's outputs by name, for its inputs by name."""


@spec
class Session(Method):
    """Compute the whole model, head included, from an ONNX file."""

    host_work: ClassVar[str | None] = "a session computes outside torch"
    rewrites: ClassVar[str | None] = "its file has its own"

    engine: Engine = "onnxruntime"
    """What computes: ONNX Runtime or OpenVINO, on the CPU."""

    @override
    def apply(self, model: nn.Module, context: MethodContext) -> nn.Module:
        """Return a model without weights, which `load` gives its file.

        Raises:
            ConfigError: the model writes texts, or the engine is not installed.
        """
        if context.outputs == "vocabulary":
            raise ConfigError(
                f"peft={self.name}: {type(model).__name__} predicts tokens of a vocabulary, and writes with a cache of "
                "its earlier ones, which a file for one forward pass has not. Compress it in torch, as by drop_layers"
            )
        check_installed(self.engine)
        return SessionModel(model.config, positions(model), self.engine)

    @override
    def count(self, model: nn.Module) -> dict[str, int]:
        assert isinstance(model, SessionModel)
        return {"trainable_parameters": 0, "total_parameters": model.about.get("parameters", 0)}

    @override
    def save(self, model: nn.Module, folder: Path, context: MethodContext) -> int:
        """Write the file of the model, its description, and a file without tensors, as an adapter has to have one.

        Returns:
            the size of the two files with weights in bytes.
        """
        assert isinstance(model, SessionModel)
        assert model.file is not None, "a model without a file is never saved"
        save({}, folder / ADAPTER_WEIGHTS)
        shutil.copyfile(model.file, folder / MODEL)
        description = json.dumps({**self.description(context), ABOUT: model.about}, indent=2, default=str)
        (folder / ADAPTER_CONFIG).write_text(description + "\n", encoding="utf-8")
        return sum((folder / name).stat().st_size for name in (MODEL, ADAPTER_WEIGHTS))

    @override
    def load(self, model: nn.Module, folder: Path) -> None:
        """Open the file in `folder`.

        Raises:
            ValueError: it is no model that the engine can compute.
        """
        assert isinstance(model, SessionModel)
        load_into({}, folder / ADAPTER_WEIGHTS)
        model.open(folder / MODEL, read_description(folder)[ABOUT])

    @override
    def merge(self, model: nn.Module) -> PreTrainedModel:
        """Refuse: the file is a whole model, of another kind."""
        raise UserError(
            f"peft={self.name}: the model is the run's file adapter/{MODEL}, for ONNX Runtime and OpenVINO; it "
            "cannot become one of transformers again. Export the run that it was made of"
        )


class SessionModel(nn.Module):
    """Computes a model from its file; called as the model of transformers that the file was made of.

    Args:
        config: the configuration of that model.
        most_positions: its maximum number of tokens in a row; None: without a limit.
        engine: what computes.
    """

    def __init__(self, config: Any, most_positions: int | None, engine: Engine) -> None:
        super().__init__()
        self.config, self.most_positions, self.engine = config, most_positions, engine
        self.file: Path | None = None
        self.about: dict[str, Any] = {}
        self._session: tuple[int, Compute] | None = None
        self.eval()

    def open(self, file: Path, about: Mapping[str, Any]) -> None:
        """Compute from `file` from now on; `about` describes it, see `ABOUT`.

        Raises:
            ValueError: it is no model that the engine can compute.
        """
        self.file, self.about, self._session = file, dict(about), None
        self._compute()

    def forward(self, **inputs: Tensor) -> ModelOutput:
        """Return the outputs of the heads, on the device of `inputs`.

        Raises:
            UserError: the model is to be trained, or to take or return what its file does not.
        """
        if self.training:
            self._refuse("cannot be trained")
        names = self.about["inputs"]
        if unknown := [name for name in inputs if name not in names]:
            self._refuse(f"takes {', '.join(names)}, and no {unknown[0]}")
        device = next(iter(inputs.values())).device
        computed = self._compute()({name: tensor.cpu().numpy() for name, tensor in inputs.items()})
        tensors = {name: torch.from_numpy(array).to(device) for name, array in computed.items()}
        outputs = ModelOutput(**tensors)
        vars(outputs).update(tensors)  # its subclasses have fields, which do this
        return outputs

    def get_input_embeddings(self) -> Never:
        """Refuse: what perturbs or differentiates the embeddings asks for them."""
        self._refuse("has no embeddings that could be changed, and no gradients")

    def _refuse(self, what: str) -> Never:
        raise UserError(
            f"a session of {self.engine} {what}: it computes outside torch, from {MODEL}. Use the run that it was made "
            "of"
        )

    def _compute(self) -> Compute:
        """Return the session, opened anew if torch's number of threads has changed since."""
        assert self.file is not None, "`load` or `open` comes first"
        threads = torch.get_num_threads()
        if self._session is None or self._session[0] != threads:
            self._session = (threads, _OPEN[self.engine](self.file, threads))
        return self._session[1]


def check_installed(engine: Engine) -> None:
    """Raise a ConfigError if `engine` is not installed."""
    if util.find_spec(engine) is None:
        raise ConfigError(f'{engine} is missing: pip install "peftlab[{_EXTRAS[engine]}]"')


def _onnxruntime(file: Path, threads: int) -> Compute:
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # waiting threads leave the CPU to others
    try:
        session = ort.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # its errors have no common class
        raise ValueError(f"{file.name}: onnxruntime cannot open it: {str(error).splitlines()[0]}") from error
    takes, gives = ([one.name for one in of] for of in (session.get_inputs(), session.get_outputs()))

    def compute(inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        return dict(zip(gives, session.run(gives, {name: inputs[name] for name in takes}), strict=True))

    return compute


@cache
def _openvino_core() -> Any:
    """Return the one core of this process, which is kept.

    Its CPU plugin replaces the stack for signals of the thread that loads it, and puts back the one that it found when
    it goes. Of several cores the first that goes frees a stack that a later one puts back: the next signal would end
    the process.
    """
    import openvino as ov

    return ov.Core()


def _openvino(file: Path, threads: int) -> Compute:
    # without the hint, a CPU that has bf16 would compute in it
    options = {"INFERENCE_NUM_THREADS": threads, "INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": "LATENCY"}
    try:
        model = _openvino_core().compile_model(file, "CPU", options)
    except Exception as error:  # as above
        raise ValueError(f"{file.name}: openvino cannot open it: {str(error).splitlines()[0]}") from error
    takes, gives = ([one.any_name for one in of] for of in (model.inputs, model.outputs))

    def compute(inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        results = model({name: inputs[name] for name in takes})
        return {name: np.array(results[place]) for place, name in enumerate(gives)}

    return compute


_OPEN: dict[Engine, Callable[[Path, int], Compute]] = {"onnxruntime": _onnxruntime, "openvino": _openvino}
