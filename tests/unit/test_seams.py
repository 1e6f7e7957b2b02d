"""The privates of libraries: each does on a real object what it is used for, and stands in no other module."""

from __future__ import annotations

import argparse
import ast
import copy
import functools
import inspect
import io
import logging
import os
import signal
import subprocess
import sys
from contextlib import nullcontext
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import lightning as L
import numpy as np
import pytest
import torch
import yaml
from hydra import compose, initialize_config_dir
from hydra._internal import defaults_list
from hydra._internal.config_repository import CachingConfigRepository, ConfigRepository
from hydra._internal.config_search_path_impl import ConfigSearchPathImpl
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import HydraException
from hydra.types import RunMode
from lightning.pytorch.loggers import MLFlowLogger, TensorBoardLogger
from omegaconf import OmegaConf
from omegaconf import base as omegaconf_base
from prometheus_client import Counter
from prometheus_client.multiprocess import MultiProcessCollector
from sacrebleu.metrics import CHRF
from safetensors.torch import load_file, save_file
from sklearn.ensemble import HistGradientBoostingClassifier
from torch import nn
from torch.utils.flop_counter import FlopCounterMode
from transformers import AutoModel, AutoModelForSeq2SeqLM, BertConfig, BertModel, LlamaConfig, T5Config
from transformers.masking_utils import create_bidirectional_mask, create_causal_mask
from transformers.modeling_outputs import BaseModelOutput
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

import peftlab.loggers.wandb  # noqa: F401  # which sees to it that wandb reports no errors of its own
from peftlab import seams
from peftlab.composing.compose import conf_dir
from peftlab.seams import (
    absl,
    bitsandbytes,
    hydra,
    lightning,
    omegaconf,
    prometheus,
    python,
    pytorch,
    sacrebleu,
    sklearn,
    transformers,
    uvicorn,
    wandb,
)

ROOM = Path(seams.__file__).parent
SOURCES = [file for file in sorted(ROOM.parents[1].rglob("*.py")) if ROOM not in file.parents]

OF_NAMED_TUPLES = {"_replace", "_asdict", "_fields"}
"""Documented for everybody; their names begin so that they are no field's."""

OF_MODULES = {"os._exit"}
"""Documented as well."""


def is_private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__") and name not in {"_", *OF_NAMED_TUPLES}


@functools.cache
def tree_of(file: Path) -> ast.Module:
    return ast.parse(file.read_text(encoding="utf-8"))


@functools.cache
def own_names() -> set[str]:
    """Return every private name that something of ours has."""
    names = set()
    for file in SOURCES:
        for node in ast.walk(tree_of(file)):
            match node:
                case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
                    names.add(name)
                case ast.Name(id=name, ctx=ast.Store()) | ast.Attribute(attr=name, ctx=ast.Store()):
                    names.add(name)
    return {name for name in names if is_private(name)}


def privates_in(tree: ast.AST, own: set[str]) -> list[str]:
    """Return what a module uses of others that they keep to themselves."""
    found = []
    for node in ast.walk(tree):
        match node:
            case ast.ImportFrom(module=str(module), names=names) if module.partition(".")[0] != "peftlab":
                parts = [*module.split("."), *(name.name for name in names)]
                found += [f"{module} import {part}" for part in parts if is_private(part)]
            case ast.Import(names=names):
                found += [name.name for name in names if any(map(is_private, name.name.split(".")))]
            case ast.Attribute(value=ast.Name(id="self" | "cls"), attr=name) if is_private(name) and name not in own:
                found.append(ast.unparse(node))
            case ast.Attribute(value=value, attr=name) if is_private(name):
                inherited = ast.unparse(value) == "super()" and name in own
                if not inherited and not (isinstance(value, ast.Name) and value.id in ("self", "cls")):
                    found.append(ast.unparse(node))
            case ast.Call(
                func=ast.Name(id="getattr" | "setattr" | "delattr"), args=[_, ast.Constant(value=str(name)), *_]
            ):
                found += [ast.unparse(node)] if is_private(name) else []
    return [text for text in found if text not in OF_MODULES]


@pytest.mark.slow
def test_no_other_module_uses_privates_of_a_library():
    own = own_names()
    found = {str(file): privates_in(tree_of(file), own) for file in SOURCES}
    assert {file: names for file, names in found.items() if names} == {}


@pytest.mark.slow
def test_a_private_is_found():
    own = own_names()
    for line in (
        "from omegaconf._utils import get_yaml_loader",
        "from lightning.fabric.utilities.load import _METADATA_FILENAME",
        "import hydra._internal.utils",
        "trainer._signal_connector",
        "self._option_string_actions",
        "getattr(model, '_init_weights')",
    ):
        assert len(privates_in(ast.parse(line), own)) == 1, line


def test_every_function_is_called_here():
    tree = ast.parse(Path(__file__).read_text(encoding="utf-8"))
    called = {ast.unparse(node) for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    called |= {"python.run_exit_functions"}  # in a process of its own
    for library in (
        absl,
        bitsandbytes,
        hydra,
        lightning,
        omegaconf,
        prometheus,
        python,
        pytorch,
        sacrebleu,
        sklearn,
        transformers,
        uvicorn,
        wandb,
    ):
        name = library.__name__.rpartition(".")[2]
        own = [
            one.__name__
            for one in vars(library).values()
            if inspect.isfunction(one) and one.__module__ == library.__name__
        ]
        assert {f"{name}.{function}" for function in own if not is_private(function)} <= called


# --- Python ----------------------------------------------------------------------------------------------------------


def test_the_options_of_a_parser():
    parser = argparse.ArgumentParser(add_help=False)
    action = parser.add_argument("--out", "-o")
    assert python.options_of(parser) == {"--out": action, "-o": action}


def test_the_file_of_a_caller():
    def called() -> str:
        return python.calling_file(1)

    assert called() == python.calling_file(0) == __file__


def test_exit_functions_run_once():
    """In a process of its own, whose other ones are nobody's."""
    code = (
        "import atexit; from peftlab.seams import python; atexit.register(print, 'over'); python.run_exit_functions()"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ended.stdout == "over\n"


# --- OmegaConf and Hydra ---------------------------------------------------------------------------------------------


def test_yaml_is_read_and_written_as_omegaconf_does():
    assert yaml.load("a: 1e-3", omegaconf.yaml_loader()) == {"a": 0.001}

    class Dumper(omegaconf.yaml_dumper()):
        pass

    Dumper.add_representer(str, omegaconf.text_node)
    assert yaml.dump({"a": "1e-3", "b": "one"}, Dumper=Dumper) == "a: '1e-3'\nb: one\n"


def test_a_section_is_looked_at_without_resolving():
    config = OmegaConf.create({"a": {"b": 1}, "none": None, "number": 1, "missing": "???", "elsewhere": "${gone}"})
    assert hydra.section(config, "a") == {"b": 1}
    assert [hydra.section(config, key) for key in ("none", "number", "missing", "elsewhere", "gone")] == [None] * 5


def test_interpolations_pass_through_what_stands_in_for_their_resolution():
    texts = []

    def noting(resolve):
        def stand_in(*args, **kwargs):
            node = resolve(*args, **kwargs)
            texts.append(hydra.raw_value(node))
            return node

        return stand_in

    config = OmegaConf.create({"a": "text", "b": "${a}"})
    with hydra.changed_interpolation(noting):
        assert OmegaConf.to_container(config, resolve=True) == {"a": "text", "b": "text"}
    assert texts == ["text"]
    assert config.b == "text"
    assert texts == ["text"]  # no longer


@pytest.mark.slow
def test_composition_passes_through_what_stands_in_for_its_parts(tmp_path):
    (tmp_path / "config.yaml").write_text("defaults: [group: one]\nseed: 1\n")
    (tmp_path / "group").mkdir()
    (tmp_path / "group" / "one.yaml").write_text("a: 1\n")
    files, folders, composed, loaded = [], [], [], []

    def reading(load):
        def stand_in(repository, config_path):
            files.append(config_path)
            folders.append(hydra.folder_with(repository, config_path))
            return load(repository, config_path)

        return stand_in

    def composing(load):
        return lambda *args, **kwargs: composed.append(load(*args, **kwargs)) or composed[-1]

    class Loader(omegaconf.yaml_loader()):
        def __init__(self, stream):
            loaded.append(stream)
            super().__init__(stream)

    with (
        hydra.changed_config_files(reading),
        hydra.changed_composition(composing),
        hydra.reading_yaml_with(Loader),
        initialize_config_dir(str(tmp_path), version_base="1.3"),
    ):
        assert GlobalHydra in hydra.singletons()
        compose("config")
    assert {"config", "group/one"} <= {path.removesuffix(".yaml") for path in files}
    assert str(tmp_path) in folders
    assert [dict(config.group) for config in composed] == [{"a": 1}]
    assert len(loaded) >= 2
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        compose("config")
    assert len(composed) == 1


def test_a_command_composes_once(tmp_path):
    """Hydra's own two compositions are the oracle."""
    (tmp_path / "group").mkdir()
    (tmp_path / "group" / "one.yaml").write_text("a: 1")
    (tmp_path / "config.yaml").write_text("defaults: [group: one, _self_]\nb: 1")
    (tmp_path / "missing.yaml").write_text("defaults:\n- group: ???")
    (tmp_path / "sweep.yaml").write_text("defaults: [config, _self_]\nhydra: {mode: MULTIRUN}")
    loads = []

    def counted(load):
        return lambda *args, **kwargs: loads.append(args) or load(*args, **kwargs)

    def command(name, overrides, run_mode, once):
        """Ask for the mode and compose, as Hydra does; return the mode, what is composed, and in how many times."""
        loads.clear()
        with (
            hydra.changed_composition(counted),
            hydra.composed_once() if once else nullcontext(),
            initialize_config_dir(str(tmp_path), version_base="1.3"),
        ):
            mode = GlobalHydra.instance().hydra.get_mode(name, overrides)
            more = [] if mode == run_mode else [f"hydra.mode={run_mode.name}"]
            try:
                config = GlobalHydra.instance().hydra.compose_config(name, [*overrides, *more], run_mode)
            except HydraException as error:
                return mode, str(error), len(loads)
        if config.hydra.mode is None:
            config.hydra.mode = run_mode
        return mode, OmegaConf.to_container(config), len(loads)

    for name, overrides, run_mode, count in (
        ("config", [], RunMode.RUN, 1),
        ("config", ["b=2", "hydra.verbose=true"], RunMode.RUN, 1),
        ("config", ["b=2,3"], RunMode.MULTIRUN, 1),
        ("sweep", ["b=2"], RunMode.MULTIRUN, 1),
        ("config", ["b=2,3"], RunMode.RUN, 1),  # refused: this is a sweep
        ("config", ["c=2"], RunMode.RUN, 2),
        ("missing", [], RunMode.RUN, 2),
        ("missing", [], RunMode.MULTIRUN, 2),
    ):
        *expected, twice = command(name, overrides, run_mode, once=False)
        *found, times = command(name, overrides, run_mode, once=True)
        assert found == expected
        assert (times, twice) == (count, 2), (name, overrides)


def test_a_file_has_another_version_once_it_has_changed(tmp_path):
    path = ConfigSearchPathImpl()
    path.append("main", f"file://{tmp_path}")
    repository, file = ConfigRepository(path), tmp_path / "a.yaml"
    assert hydra.version_of(repository, "a") is None
    file.write_text("b: 1")
    assert hydra.version_of(repository, "a") is None  # just written
    versions = []
    for text, time in (("b: 1", 1), ("b: 2", 2), ("b: 10", 2)):
        file.write_text(text)
        os.utime(file, (time, time))
        versions.append(hydra.version_of(repository, "a"))
    assert len({*versions}) == 3
    assert hydra.version_of(repository, "a.yaml") == versions[-1]


def test_what_hydra_has_in_store_is_shared_and_what_it_loads_is_not():
    store = ConfigStore.instance()
    assert copy.deepcopy(store) is not store
    with hydra.shared_config_store(), hydra.shared_config_store():
        assert copy.deepcopy(store) is store
        repository = ConfigRepository(ConfigSearchPathImpl())
        assert CachingConfigRepository(repository).delegate is not repository
        one, two = (store.load("hydra/config.yaml").node for _ in range(2))
        assert one == two
        assert one is not two
    assert copy.deepcopy(store) is not store


def test_a_leaf_is_looked_at_without_resolving():
    config = OmegaConf.create({"a": {"b": 1}, "none": None, "missing": "???", "elsewhere": "${gone}", "list": [1]})
    raw = {key: hydra.raw_value(node) for key in config if (node := hydra.leaf(config, key)) is not None}
    assert raw == {"none": None, "missing": "???", "elsewhere": "${gone}"}
    assert hydra.leaf(config, "gone") is None


def test_an_interpolation_is_parsed_once(monkeypatch):
    with hydra.parsing_once():
        for _ in range(2):
            assert OmegaConf.to_container(OmegaConf.create({"a": "${b}", "b": 1}), resolve=True) == {"a": 1, "b": 1}
        assert omegaconf_base.parse.cache_info().misses == 1
    assert not hasattr(omegaconf_base.parse, "cache_info")


def test_choices_are_mapped_for_the_defaults_that_refer_to_them(tmp_path, monkeypatch):
    mapped = []
    create = defaults_list._create_interpolation_map
    monkeypatch.setattr(defaults_list, "_create_interpolation_map", lambda *of: [mapped.append(of), create(*of)][1])
    for file, text in (
        ("config", "defaults: [group: one, other: '${group}']"),
        ("group/one", "a: 1"),
        ("group/two", "a: 2"),
        ("other/one", "b: 1"),
        ("other/two", "b: 2"),
    ):
        (tmp_path / file).parent.mkdir(exist_ok=True)
        (tmp_path / f"{file}.yaml").write_text(text)
    with hydra.choices_mapped_if_interpolated(), initialize_config_dir(str(tmp_path), version_base="1.3"):
        assert compose("config", ["group=two"]) == {"group": {"a": 2}, "other": {"b": 2}}
        assert len(mapped) == 1
        is_group = hydra.group_test(GlobalHydra.instance().config_loader(), "config", [])
    assert [is_group(key) for key in ("group", "other", "a", "group.a")] == [True, True, False, False]


# --- Lightning -------------------------------------------------------------------------------------------------------


QUIET = {"enable_checkpointing": False, "enable_progress_bar": False, "enable_model_summary": False}


class Step(L.LightningModule):
    """One weight, whose steps are logged."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(()))

    def training_step(self, batch, batch_idx):
        self.log("loss", self.weight)
        return self.weight

    def validation_step(self, batch, batch_idx):
        pass

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


class Noting(L.pytorch.loggers.CSVLogger):
    """Notes under which step something is logged."""

    steps: tuple[int | None, ...] = ()

    def log_metrics(self, metrics, step=None):
        self.steps += (step,)


def test_steps_are_logged_under_the_number_that_was_set(tmp_path):
    class Moved(L.Callback):
        def on_train_batch_start(self, trainer, *_):
            lightning.count_steps_for_loggers(trainer, 100 + trainer.global_step)

    logger = Noting(tmp_path)
    trainer = L.Trainer(
        max_steps=2, logger=logger, log_every_n_steps=1, callbacks=[Moved()], accelerator="cpu", **QUIET
    )
    trainer.fit(Step(), torch.utils.data.DataLoader([0, 1]))
    assert logger.steps == (100, 101)


class Hooks(L.Callback):
    """Notes what happens, and logs by itself."""

    def __init__(self) -> None:
        self.notes: list[object] = []

    def on_train_batch_start(self, trainer, module, batch, batch_idx):
        self.notes.append(("start", trainer.global_step, int(batch), batch_idx))

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
        module.log("mine", float(batch_idx))
        self.notes.append(("end", trainer.global_step, float(outputs["loss"]), batch_idx, trainer.is_last_batch))

    def on_validation_end(self, trainer, module):
        self.notes.append(("validated", trainer.global_step))


class ByItself(Step):
    """The same weight, which takes its steps itself."""

    def on_fit_start(self):
        lightning.shorten_steps(self.trainer, self.take)

    def take(self, batch):
        loss = self.weight.detach().clone()
        self.weight.grad = torch.ones(())
        self.trainer.optimizers[0].step()
        return {"loss": loss}

    def training_step(self, batch, batch_idx):
        return self.weight


def test_steps_taken_the_short_way_are_counted_like_others(tmp_path):
    def fit(module):
        logger, hooks = Noting(tmp_path), Hooks()
        trainer = L.Trainer(
            max_epochs=2, logger=logger, log_every_n_steps=2, callbacks=[hooks], accelerator="cpu",
            val_check_interval=2, check_val_every_n_epoch=None, num_sanity_val_steps=0, **QUIET,
        )  # fmt: skip
        trainer.fit(module, torch.utils.data.DataLoader([0, 1, 2]), torch.utils.data.DataLoader([0]))
        trainer.save_checkpoint(file := tmp_path / "last.ckpt")
        return hooks.notes, logger.steps, torch.load(file, weights_only=True)

    class Plain(Step):
        def training_step(self, batch, batch_idx):
            return self.weight

    own, theirs = fit(ByItself()), fit(Plain())
    assert own[:2] == theirs[:2]
    assert {key: own[2][key] for key in ("loops", "global_step", "epoch")} == {
        key: theirs[2][key] for key in ("loops", "global_step", "epoch")
    }
    assert own[2]["state_dict"] == theirs[2]["state_dict"]
    assert len(own[0]) == 6 + 6 + 3


def test_callbacks_that_act_within_a_step_are_noticed():
    class Within(L.Callback):
        def on_after_backward(self, trainer, module):
            pass

    for callback, does in ((Hooks(), False), (Within(), True)):
        assert lightning.acts_within_steps(L.Trainer(callbacks=[callback], logger=False, **QUIET)) is does


def test_progress_is_counted_and_prolonged(tmp_path):
    """In an epoch of three batches that ends two steps later than it was to, with a validation after each."""

    class Watch(L.Callback):
        done: tuple[int, ...] = ()

        def on_train_start(self, trainer, module):
            lightning.allow_steps(trainer, 2)

        def on_train_batch_end(self, trainer, *_):
            self.done += (lightning.batches_done(trainer),)
            trainer.save_checkpoint(tmp_path / "checkpoint")

    watch, data = Watch(), torch.utils.data.DataLoader([0, 1, 2])
    trainer = L.Trainer(max_steps=1, val_check_interval=1, logger=False, callbacks=[watch], accelerator="cpu", **QUIET)
    trainer.fit(Step(), data, data)
    assert (trainer.global_step, watch.done) == (3, (0, 1, 2))  # the batch that has just been trained on counts later
    checkpoint = torch.load(tmp_path / "checkpoint", weights_only=True)
    current = lightning.training_progress(checkpoint)["current"]
    assert (current["ready"], current["completed"]) == (3, 2)
    assert lightning.validation_progress(checkpoint)["total"]["completed"] == 6


@pytest.mark.parametrize("left_alone", [True, False])
def test_lightning_registers_no_signal_handlers(left_alone):
    """And would, else this test would say nothing."""
    handlers = []

    class Look(L.Callback):
        def on_train_start(self, *_):
            handlers.append(signal.getsignal(signal.SIGTERM))

    before = signal.getsignal(signal.SIGTERM)
    trainer = L.Trainer(max_steps=1, logger=False, callbacks=[Look()], accelerator="cpu", **QUIET)
    if left_alone:
        lightning.leave_signals_alone(trainer)
    trainer.fit(Step(), torch.utils.data.DataLoader([0]))
    assert (handlers == [before]) == left_alone
    assert signal.getsignal(signal.SIGTERM) == before


def test_the_file_of_a_sharded_checkpoint_has_a_name():
    assert lightning.metadata_file() == "meta.pt"


def test_parameters_are_named_by_their_sections():
    assert lightning.flat_parameters({"a": {"b": 1, "c": None}}) == {"a/b": 1, "a/c": None}


def test_events_are_dropped_from_a_step_on(tmp_path):
    loader = pytest.importorskip("tensorboard.backend.event_processing.event_file_loader")
    logger = TensorBoardLogger(tmp_path, name="", version="")
    lightning.purge_events_from(logger, 7)
    logger.experiment.close()
    (file,) = tmp_path.glob("events.*")
    assert [event.step for event in loader.EventFileLoader(str(file)).Load() if event.session_log.status] == [7]


def test_an_mlflow_run_is_gone_on_with(tmp_path, monkeypatch):
    pytest.importorskip("mlflow")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    first, second = (MLFlowLogger("e", tracking_uri=tmp_path.as_uri()) for _ in range(2))
    lightning.go_on_in_mlflow(second, first.run_id)
    assert (second.run_id, second.experiment_id) == (first.run_id, first.experiment_id)


# --- PyTorch and Transformers ----------------------------------------------------------------------------------------


def test_recording_memory_that_has_ended_is_no_error():
    """torch says so by a RuntimeError; where it is built without CUDA, by one too."""
    assert hasattr(torch._C, "_cuda_endAllocateToPool")
    pytorch.end_recording_memory(torch.device("cuda", 0), (0, 1))


def test_the_leaves_of_an_output():
    one, two = torch.ones(1), torch.ones(2)
    assert pytorch.leaves({"a": (one, [2]), "b": BaseModelOutput(last_hidden_state=two)}) == [one, 2, two]


def test_the_leaves_of_several_outputs_are_mapped_together():
    one, other = {"a": [1, (2,)], "b": 3}, {"a": [10, (20,)], "b": 30}
    assert pytorch.mapped(lambda x, y: x + y, one, other) == {"a": [11, (22,)], "b": 33}


def test_the_norm_of_all_tensors():
    tensors = [torch.tensor([3.0]), torch.tensor([[0.0, 4.0]]), torch.zeros(2)]
    assert pytorch.norm_of_all(tensors) == nn.utils.get_total_norm(tensors) == 5


def test_another_tensor_takes_the_place_of_a_parameter():
    layer = nn.Linear(2, 2, bias=False)
    weight, x = layer.weight, torch.ones(2)
    with pytorch.attribute_replaced(layer, "weight", 2 * weight):
        doubled = layer(x)
        assert dict(layer.named_parameters()) == {"weight": weight}
        assert layer.state_dict()["weight"].data_ptr() == weight.data_ptr()
    torch.testing.assert_close(doubled, 2 * layer(x))
    with pytorch.attribute_replaced(layer, "forward", lambda x: -x):
        with pytorch.attribute_replaced(layer, "forward", lambda x: x + 1):
            assert torch.equal(layer(x), x + 1)
        assert torch.equal(layer(x), -x)
    assert vars(layer).keys() == vars(nn.Linear(2, 2)).keys()


def test_a_fused_optimizer_leaves_unscaling_to_the_scaler():
    optimizer = torch.optim.AdamW([nn.Parameter(torch.ones(2))], fused=True)
    assert optimizer._step_supports_amp_scaling
    pytorch.unscale_before_step(optimizer)
    assert not optimizer._step_supports_amp_scaling


def test_the_missing_kernel_of_bitsandbytes_is_hidden_and_nothing_else(capsys):
    spec = find_spec("bitsandbytes")
    if spec is not None:  # its source, for it warns on some CPUs only
        source = (Path(spec.submodule_search_locations[0]) / "backends" / "cpu" / "ops.py").read_text(encoding="utf-8")
        assert f'"{bitsandbytes._BEGINNING}: %s.' in source
        assert "logging.getLogger(__name__)" in source
    handler, logger = logging.StreamHandler(), logging.getLogger(bitsandbytes._LOGGER)
    logger.addHandler(handler)
    try:
        bitsandbytes.hide_missing_kernel()
        bitsandbytes.hide_missing_kernel()
        logger.warning(f"{bitsandbytes._BEGINNING}: %s. Please", "no module")
        logger.warning("another one")
    finally:
        logger.removeHandler(handler)
    assert capsys.readouterr().err == "another one\n"
    assert len(logger.filters) == 1


def test_absl_closes_no_stream(monkeypatch, capsys):
    from absl import logging as logging_of_absl

    handler = logging_of_absl.get_absl_handler().python_handler
    handler.setStream(sys.stderr)
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    absl.leave_streams_open()
    handler.close()  # as configuring logging anew does
    handler.stream.write("still heard")
    assert "still heard" in sys.stderr.getvalue()
    monkeypatch.undo()
    print("open", file=sys.stderr)
    assert capsys.readouterr().err == "open\n"


def test_transformers_tells_kinds_of_models():
    kinds = {config: transformers.kind_of(config()) for config in (BertConfig, LlamaConfig, T5Config)}
    assert kinds == {BertConfig: "encoder", LlamaConfig: "decoder", T5Config: "encoder-decoder"}
    assert transformers.has_head(AutoModelForSeq2SeqLM, T5Config())
    assert not transformers.has_head(AutoModelForSeq2SeqLM, LlamaConfig())


def test_attention_and_weights_of_an_architecture():
    config = BertConfig(vocab_size=8, hidden_size=8, num_hidden_layers=1, num_attention_heads=1, intermediate_size=8)
    model = BertModel(config)
    assert transformers.has_sdpa(model)
    for attention in ("eager", "sdpa"):
        assert transformers.attention_of(AutoModel.from_config(config, attn_implementation=attention)) == attention
    layer = nn.Linear(64, 64)
    with torch.no_grad():
        layer.weight.fill_(5.0)
    transformers.draw_weights(model, layer)
    assert layer.weight.detach().std() == pytest.approx(config.initializer_range, rel=0.1)
    assert not layer.bias.any()


def test_a_model_keeps_no_names_that_its_tensors_had(tmp_path):
    config = BertConfig(vocab_size=8, hidden_size=8, num_hidden_layers=1, num_attention_heads=1, intermediate_size=8)
    BertModel(config).save_pretrained(tmp_path / "plain")
    stored = load_file(tmp_path / "plain" / "model.safetensors")
    renamed = {f"old_{name}" if name.startswith("pooler") else name: tensor for name, tensor in stored.items()}
    save_file(renamed, tmp_path / "plain" / "model.safetensors", {"format": "pt"})
    model = BertModel.from_pretrained(tmp_path / "plain", key_mapping={"^old_pooler": "pooler"})
    names = []
    for folder in ("as it was", "as it is"):
        model.save_pretrained(tmp_path / folder)
        names.append(load_file(tmp_path / folder / "model.safetensors").keys())
        transformers.save_as_it_is(model)
    assert names == [renamed.keys(), stored.keys()]


def test_masks_are_built_whatever_a_batch_holds():
    """And left out otherwise: a library that no longer asks would leave what is replaced here without a use."""
    config = BertConfig(vocab_size=8, hidden_size=8, num_hidden_layers=1, num_attention_heads=1, intermediate_size=8)
    config._attn_implementation = "sdpa"
    embeddings, full = torch.zeros(2, 5, 8), torch.ones(2, 5, dtype=torch.int64)
    for build in (create_bidirectional_mask, partial(create_causal_mask, past_key_values=None)):
        assert build(config=config, inputs_embeds=embeddings, attention_mask=full) is None
        with transformers.masks_always_built():
            mask = build(config=config, inputs_embeds=embeddings, attention_mask=full)
        assert mask is not None
        assert mask.shape == (2, 1, 5, 5)
        assert build(config=config, inputs_embeds=embeddings, attention_mask=full) is None


# --- Prometheus's client ---------------------------------------------------------------------------------------------


def test_metrics_keep_their_values_in_files_whenever_the_library_was_imported(tmp_path):
    with prometheus.values_in_files(tmp_path):
        Counter("inside", "A counter.", registry=None).inc(3)
        assert os.environ[prometheus.FOLDER] == str(tmp_path)
    Counter("outside", "A counter.", registry=None).inc(5)
    (file,) = tmp_path.iterdir()
    assert file.name == f"counter_{os.getpid()}.db"
    counted = {metric.name: metric.samples[0].value for metric in MultiProcessCollector.merge([str(file)])}
    assert counted == {"inside": 3}
    assert prometheus.FOLDER not in os.environ


# --- sacreBLEU -------------------------------------------------------------------------------------------------------


def test_statistics_of_texts_add_up_to_those_of_a_corpus():
    metric, written, gold = CHRF(), ["the river flows", "rome"], ["a river flows", "Rome"]
    counts = [sacrebleu.statistics(metric, *both) for both in zip(written, gold, strict=True)]
    assert all(type(count) is int for one in counts for count in one)
    expected = metric.corpus_score(written, [gold]).score
    assert metric._compute_score_from_stats(np.sum(counts, axis=0).tolist()).score == expected > 0


# --- scikit-learn ----------------------------------------------------------------------------------------------------


def test_boosted_trees_have_their_nodes():
    matrix = np.random.default_rng(0).normal(size=(200, 2))
    classifier = HistGradientBoostingClassifier(max_iter=1, max_leaf_nodes=2).fit(matrix, matrix[:, 0] > 0)
    baseline, (tree,) = sklearn.boosted_trees(classifier)
    assert baseline == pytest.approx(np.log((matrix[:, 0] > 0).mean() / (matrix[:, 0] <= 0).mean()))
    assert tree["is_leaf"].tolist() == [0, 1, 1]
    below = matrix[:, tree["feature_idx"][0]] <= tree["num_threshold"][0]
    margins = baseline + tree["value"][np.where(below, tree["left"][0], tree["right"][0])]
    assert margins == pytest.approx(classifier.decision_function(matrix))


# --- Weights & Biases ------------------------------------------------------------------------------------------------


def test_wandb(monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "offline")
    assert wandb.wandb_id() != wandb.wandb_id()


@pytest.mark.slow  # ten seconds for W&B's service; what it does to a run that was: tests/slow/test_wandb_server.py
def test_a_wandb_run_that_never_was_is_forgotten(monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "offline")
    wandb.forget_wandb_run("never-begun", 0.5)


def test_who_is_logged_in(monkeypatch):
    assert not wandb.is_logged_in("https://api.wandb.ai")
    monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
    assert wandb.is_logged_in("https://api.wandb.ai")


class Doubled(nn.Module):
    """A module whose forward torch.compile takes, as it is none of torch's own."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * 2


@pytest.mark.slow
def test_a_module_is_compiled_after_the_counting_of_its_arithmetic():
    """Code that has run under a dispatch mode would never be compiled, without a word."""
    module, x, graphs = Doubled(), torch.ones(3), []

    def backend(graph, inputs):
        graphs.append(graph)
        return graph.forward

    assert isinstance(pytorch.uncompiled(module), nullcontext)
    assert not pytorch.is_compiled(module)
    module.compile(backend=backend)
    before = pytorch.compile_seconds()
    with pytorch.uncompiled(nn.Sequential(module)), FlopCounterMode(display=False):
        module(x)
    assert graphs == []
    module(x)
    assert len(graphs) == 1
    assert pytorch.compile_seconds() > before


# --- uvicorn ---------------------------------------------------------------------------------------------------------


def test_connections_within_bounds_are_uvicorns():
    """What they do is tested on a real listener, in ``serving/access/test_connections.py``."""
    bounds = uvicorn.Bounds(seconds=1, connections=2)
    protocol = uvicorn.bounded(bounds)
    assert protocol.bounds is bounds
    overridden = {name for name in vars(protocol.__base__) if not name.startswith("_") and name != "bounds"}
    assert overridden <= {name for name in dir(HttpToolsProtocol) if callable(getattr(HttpToolsProtocol, name))}


def test_hooks_act_on_what_is_given_as_in_a_forward_pass():
    layer = torch.nn.Linear(2, 2)
    assert not pytorch.is_hooked(layer)
    layer.register_forward_pre_hook(lambda _, args: (args[0] + 1,))
    layer.register_forward_pre_hook(lambda _, args, kwargs: (args, kwargs), with_kwargs=True)
    assert pytorch.pre_hooked(layer)
    layer.register_forward_hook(lambda _, args, output: output + args[0])
    layer.register_forward_hook(lambda *_: None, with_kwargs=True)
    x = torch.ones(1, 2)
    args, kwargs = pytorch.after_pre_hooks(layer, (x,), {})
    output = pytorch.after_hooks(layer, args, kwargs, layer.forward(*args))
    assert torch.equal(output, layer(x))
    assert not pytorch.is_sharded(layer)
