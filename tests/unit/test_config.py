"""From a composed configuration to plain values to objects: what is refused, and how it is told."""

from __future__ import annotations

import functools
import importlib
import json
import os
import sys
from pathlib import Path

import pytest
import yaml
from lightning.pytorch.callbacks import EarlyStopping

import peftlab.training
from peftlab.composing.compose import conf_dir
from peftlab.config import build, resolve, validate
from peftlab.errors import ConfigError
from peftlab.loggers.metrics_csv import MetricsCsv
from peftlab.methods.method import Method
from peftlab.runs.identity import deciding_part
from peftlab.specs import ALLOWED_PREFIXES
from peftlab.terminal.exits import user_exits

OWN_FILES = ["model=folder", "model.path=somewhere", "data=files", "data.path=somewhere"]


@pytest.fixture
def refused(compose_config):
    """Return the message with which a configuration is refused."""

    def message(*overrides: str) -> str:
        with pytest.raises(ConfigError) as error:
            validate(resolve(compose_config(*OWN_FILES, *overrides)))
        return str(error.value)

    return message


@pytest.fixture
def imported(monkeypatch) -> list[str]:
    """Record the names of modules that are asked for from now on."""
    names: list[str] = []
    real = importlib.import_module
    monkeypatch.setattr(importlib, "import_module", lambda name, *rest: names.append(name) or real(name, *rest))
    return names


# --- resolve ---------------------------------------------------------------------------------------------------------


def plain(value: object) -> bool:
    if isinstance(value, dict):
        return all(type(key) is str and plain(child) for key, child in value.items())
    if isinstance(value, list):
        return all(map(plain, value))
    return type(value) in (str, int, float, bool, type(None))


def test_the_resolved_configuration_is_plain(compose_config):
    config = resolve(compose_config(*OWN_FILES))
    assert plain(config)
    assert "${" not in json.dumps(config)
    assert "hydra" not in config
    assert config["optimizer"]["lr"] == config["peft"]["learning_rate"]
    assert config["data"]["source"]["path"] == "somewhere"


@pytest.mark.parametrize(("native", "precision"), [(True, "bf16-mixed"), (False, "32-true")])
def test_auto_becomes_what_it_means_here(compose_config, monkeypatch, native, precision):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setattr("peftlab.devices.hardware.cpu_is_faster_in_bf16", lambda: native)
    trainer = resolve(compose_config("trainer=auto"))["trainer"]
    assert (trainer["accelerator"], trainer["precision"]) == ("cpu", precision)
    # whether there are activations to keep depends on the model: the run settles it
    assert [key for key, value in trainer.items() if value == "auto"] == ["cache_activations"]


def test_what_is_not_auto_stays(compose_config):
    trainer = resolve(compose_config("trainer=cpu", "trainer.precision=32-true", "trainer.accumulate=3"))["trainer"]
    assert (trainer["accelerator"], trainer["precision"], trainer["accumulate"]) == ("cpu", "32-true", 3)


@pytest.mark.parametrize(("overrides", "key"), [(["data=files"], "data.path"), (["model=folder"], "model.path")])
def test_a_missing_value_is_named(compose_config, overrides, key):
    with pytest.raises(ConfigError) as error:
        resolve(compose_config(*overrides))
    assert str(error.value) == f"{key} is missing: give it a value, {key}=..."


def test_a_broken_interpolation_is_named(compose_config):
    with pytest.raises(ConfigError, match=r"^optimizer\.head_lr: .*optimizer\.lrr"):
        resolve(compose_config("optimizer.head_lr=${optimizer.lrr}"))


# --- validate: keys and values ---------------------------------------------------------------------------------------


def test_a_good_configuration_becomes_objects(compose_config):
    spec = validate(resolve(compose_config(*OWN_FILES)))
    assert spec.peft.name == "lora"
    assert isinstance(spec.callbacks["early_stopping"], EarlyStopping)
    assert isinstance(spec.logger["csv"], functools.partial)
    assert spec.logger["csv"].func is MetricsCsv
    assert spec.run_name == "ner-files-lora"


@pytest.mark.parametrize(
    ("override", "parts"),
    [
        ("+unknwon=1", ["'unknwon'", "Allowed: ", "existing"]),
        ("+sed=1", ["'sed'", "Did you mean 'seed'?"]),
        ("+data.batchsize=3", ["'data.batchsize'", "Did you mean 'batch_size'?", "eval_batch_size"]),
        ("+data.splits.trian=x", ["'data.splits.trian'", "Did you mean 'train'?", "Allowed: test, train, validation"]),
        ("+data.format.tag=2", ["'data.format.tag'", "tag_column"]),
        ("+data.source.foo=1", ["'data.source.foo'", "Allowed: licence, path"]),
        ("+task.selection.metrics=loss", ["'task.selection.metrics'", "Did you mean 'metric'?"]),
        ("+peft.lora_alfa=3", ["'peft.lora_alfa'", "Did you mean 'lora_alpha'?"]),
        ("+callbacks.early_stopping.patiance=3", ["'callbacks.early_stopping.patiance'", "Did you mean 'patience'?"]),
        ("+optimizer.algorithm.beta=1", ["'optimizer.algorithm.beta'", "Did you mean 'betas'?"]),
        ("+logger.csv.flush=1", ["'logger.csv.flush'", "save_dir"]),
    ],
)
def test_an_unknown_key_is_named_with_the_nearest(refused, override, parts):
    message = refused(override)
    assert message.startswith("there is no key ")
    for part in parts:
        assert part in message


@pytest.mark.parametrize(
    ("override", "start", "part"),
    [
        ("seed=x", "seed = 'x': ", "integer"),
        ("seed=-1", "seed = -1: ", "greater than or equal to 0"),
        ("existing=skp", "existing = 'skp': ", "should be one of auto, resume, rerun, skip. Did you mean 'skip'?"),
        ("optimizer.lr=fast", "optimizer.lr = 'fast': ", "number"),
        ("optimizer.lr=0", "optimizer.lr = 0: ", "greater than 0"),
        ("optimizer.weight_decay=-1", "optimizer.weight_decay = -1: ", "greater than or equal to 0"),
        ("data.batch_size=0", "data.batch_size = 0: ", "greater than or equal to 1"),
        ("data.batch_size=2.5", "data.batch_size = 2.5: ", "integer"),
        ("data.long=cut", "data.long = 'cut': ", "should be one of split, truncate"),
        ("data.format.scheme=iob", "data.format.scheme = 'iob': ", "Did you mean 'iob1'?"),
        ("data.splits.train=[a]", "data.splits.train = ['a']: ", "string"),
        ("trainer.accelerator=cpus", "trainer.accelerator = 'cpus': ", "Did you mean 'cpu'?"),
        ("trainer.deterministic=maybe", "trainer.deterministic = 'maybe': ", "boolean"),
        ("model.dropout=1.5", "model.dropout = 1.5: ", "less than 1"),
        ("task.selection.mode=up", "task.selection.mode = 'up': ", "should be one of max, min"),
        ("task.selection.metric=entity_f", "task.selection.metric = 'entity_f'", "Did you mean 'entity_f1'?"),
        ("scheduler.warmup_steps=ten", "scheduler.warmup_steps = 'ten': ", "integer"),
        ("scheduler.warmup_fraction=2", "scheduler.warmup_fraction = 2: ", "less than or equal to 1"),
        ("budget.validate_every=0", "budget.validate_every = 0: ", "greater than 0"),
        ("peft.target=3", "peft.target = 3: ", "string"),
        ("peft.peft_type=LORRA", "peft.peft_type = 'LORRA'", "Did you mean 'LORA'?"),
        ("callbacks.early_stopping.patience=long", "callbacks.early_stopping.patience = 'long': ", "integer"),
        ("callbacks.early_stopping.mode=up", "callbacks.early_stopping: ", "`mode`"),
        ("optimizer.algorithm.eps=small", "optimizer.algorithm.eps = 'small': ", "number"),
        ("optimizer.algorithm.betas=[2,3]", "optimizer.algorithm: ", "beta"),
        ("allow=my_package", "allow = 'my_package' ", "allow=[my_package]"),
        ("allow=[os.path]", "allow = ['os.path'] ", "allow=[my_package]"),
    ],
)
def test_a_wrong_value_is_named_with_what_is_allowed(refused, override, start, part):
    message = refused(override)
    assert message.startswith(start)
    assert part in message


def test_two_warmups_are_refused(refused):
    message = refused("scheduler.warmup_steps=10", "scheduler.warmup_fraction=0.1")
    assert message.startswith("scheduler: give warmup_steps or warmup_fraction, not both")
    assert "scheduler.warmup_fraction=null" in message


def test_one_warmup_is_enough(compose_config):
    spec = validate(resolve(compose_config("scheduler.warmup_steps=10", "scheduler.warmup_fraction=null")))
    assert spec.scheduler.warmup(1000) == 10


def test_a_budget_without_an_end_is_refused(refused):
    assert "budget.max_epochs, max_steps or max_passes" in refused("budget.max_epochs=null")


def test_a_missing_group_is_named(refused):
    assert refused("~scheduler").startswith("scheduler is missing")


def test_every_mistake_is_told_at_once(refused):
    message = refused("data.batch_size=0", "data.max_tokens=x")
    assert "data.batch_size = 0" in message
    assert "data.max_tokens = 'x'" in message


# --- targets: what may be named --------------------------------------------------------------------------------------

REFUSED_BY_NAME = """
builtins.eval builtins.exec builtins.__import__ builtins.open eval __builtins__.eval os.system os.popen os.remove
os.execv posix.system subprocess.run subprocess.Popen shutil.rmtree pathlib.Path importlib.import_module
importlib.util.spec_from_file_location runpy.run_path runpy.run_module pkgutil.resolve_name
code.InteractiveInterpreter code.interact codeop.compile_command types.FunctionType operator.attrgetter
functools.partial pickle.loads pickle.Unpickler marshal.loads shelve.open joblib.load yaml.unsafe_load numpy.load
numpy.memmap ctypes.CDLL multiprocessing.Process threading.Thread socket.create_connection urllib.request.urlretrieve
webbrowser.open pip._internal.main pip._internal.cli.main.main setuptools.setup venv.create hydra.utils.instantiate
hydra.utils.call hydra.utils.get_method omegaconf.OmegaConf.load torch.load torch.hub.load torch.jit.load
torch.package.PackageImporter torch.utils.cpp_extension.load torch.optimal.Thing transformers.pipeline
transformers.AutoModel.from_pretrained peft.PeftModel.from_pretrained huggingface_hub.snapshot_download wandb.init
lightning.pytorch.LightningModule.load_from_checkpoint lightning.pytorch.Trainer lightning.pytorch.cli.LightningCLI
lightning.pytorch.utilities.model_helpers.os.system lightning.pytorch.profilers.AdvancedProfiler
lightning.pytorch.plugins.environments.LightningEnvironment lightning.pytorch.strategies.DeepSpeedStrategy
torchmetrics.image.fid.FrechetInceptionDistance torchmetrics.text.bert.BERTScore torchmetrics.functional.accuracy
canary.Canary canary.peftlab.Canary peftlab peftlabx.Thing ..peftlab.sources.FilesSource peftlab.
peftlab..sources.FilesSource torch.optim./../canary.Canary torch.optim.C:canary.Canary
""".split()  # noqa: SIM905 - sixty quoted names would be sixty lines
"""Refused by their names, before anything is imported."""

REFUSED_BY_KIND = """
peftlab.run peftlab.one_run.run peftlab.one_run.Tuner peftlab.errors.UserError peftlab.runs.record.RunRecord.load
peftlab.sources.Path
peftlab.transfer.wheels.subprocess peftlab.transfer.wheels.subprocess.Popen peftlab.transfer.unpacking.zipfile.ZipFile
peftlab.terminal.streams.os peftlab.terminal.streams.os.system peftlab.specs.importlib
peftlab.specs.importlib.import_module peftlab.config.functools.partial torch.optim.Nothing
torch.optim.nothing.Thing torch.optim.adamw.adamw torch.optim.Optimizer.load_state_dict
torch.optim.lr_scheduler.warnings torch.optim.lr_scheduler.warnings.catch_warnings torch.optim.lr_scheduler.partial
torch.optim.lr_scheduler.LambdaLR torch.optim.swa_utils.AveragedModel lightning.pytorch.callbacks.ModelCheckpoint
lightning.pytorch.callbacks.OnExceptionCheckpoint lightning.pytorch.callbacks.model_checkpoint.shutil
lightning.pytorch.callbacks.model_checkpoint.shutil.rmtree lightning.pytorch.loggers.wandb.os.system
lightning.pytorch.loggers.tensorboard.os
""".split()  # noqa: SIM905 - sixty quoted names would be sixty lines
"""Under an allowed prefix, and no class of a kind that a configuration may name, or one that is defined elsewhere."""

EARLY = "lightning.pytorch.callbacks.EarlyStopping"
SYSTEM = {"_target_": "os.system", "command": "touch escaped"}
HOSTILE_NODES = {
    "target of no text": {"_target_": 3},
    "target of nothing": {"_target_": None},
    "target in a list": {"_target_": ["os.system"]},
    "target within a target": {"_target_": SYSTEM},
    "null byte": {"_target_": "torch.optim.\0.Adam"},
    "line break": {"_target_": "peftlab.sources.FilesSource\nos.system"},
    "child": {"_target_": EARLY, "monitor": SYSTEM},
    "child of a child": {"_target_": EARLY, "monitor": {"a": {"b": SYSTEM}}},
    "in a list": {"_target_": EARLY, "monitor": [1, SYSTEM]},
    "in lists of lists": {"_target_": EARLY, "monitor": [[[SYSTEM]]]},
    "without a target of its own": {"monitor": SYSTEM},
    "partial": {"_target_": EARLY, "monitor": "x", "_partial_": True},
    "arguments": {"_target_": EARLY, "_args_": ["touch escaped"]},
    "recursive": {"_target_": EARLY, "monitor": "x", "_recursive_": False},
    "convert": {"_target_": EARLY, "monitor": "x", "_convert_": "all"},
    "mode": {"_target_": EARLY, "monitor": "x", "_mode_": "pass"},
}


@pytest.fixture
def canary(tmp_path, monkeypatch):
    """A module that tells when it is imported, and a check that nothing has been run, written or imported."""
    (tmp_path / "canary.py").write_text("import os\nos.environ['CANARY'] = 'imported'\n\nclass Canary: ...\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delenv("CANARY", raising=False)
    ran: list[object] = []
    for name in ("os.system", "os.popen", "subprocess.Popen.__init__", "torch.load", "torch.hub.load"):
        monkeypatch.setattr(name, lambda *args, **options: ran.append((args, options)))
    files, modules = set(tmp_path.iterdir()), set(sys.modules)

    def check(may_import: tuple[str, ...] = ()) -> None:
        assert ran == []
        assert "CANARY" not in os.environ
        assert set(tmp_path.iterdir()) == files
        assert {name for name in set(sys.modules) - modules if not name.startswith(may_import or "\0")} == set()

    return check


@pytest.fixture(scope="module")
def good(compose_config) -> dict[str, object]:
    config = resolve(compose_config(*OWN_FILES))
    validate(config)  # imports the classes that it names itself, which are no matter of what a test adds to it
    return config


def ends_with_2(config: dict[str, object], capsys) -> str:
    """Return the message with which the command would end."""
    with pytest.raises(SystemExit) as end, user_exits():
        validate(config)
    assert end.value.code == 2
    message = capsys.readouterr().err
    assert message.startswith("error: ")
    assert "Traceback" not in message
    return message


ARGUMENTS = {"command": "touch escaped", "args": ["touch", "escaped"], "path": "escaped", "checkpoint_path": "escaped"}


@pytest.mark.one_in(4, "slow")
@pytest.mark.parametrize("target", REFUSED_BY_NAME)
def test_a_hostile_name_is_refused_before_any_import(good, canary, capsys, imported, target):
    message = ends_with_2({**good, "callbacks": {"x": {"_target_": target, **ARGUMENTS}}}, capsys)
    assert message.startswith(f"error: callbacks.x._target_: '{target}' may not be named here. Allowed are classes of ")
    assert "allow=[my_package]" in message
    assert imported == []
    canary()


@pytest.mark.parametrize("target", REFUSED_BY_KIND)
def test_what_is_no_class_of_an_allowed_kind_is_never_called(good, canary, capsys, target):
    message = ends_with_2({**good, "callbacks": {"x": {"_target_": target, **ARGUMENTS}}}, capsys)
    assert message.startswith("error: callbacks.x")
    canary(may_import=ALLOWED_PREFIXES)


@pytest.mark.parametrize("node", HOSTILE_NODES.values(), ids=HOSTILE_NODES)
def test_a_hostile_node_is_refused_at_any_depth(good, canary, capsys, imported, node):
    message = ends_with_2({**good, "callbacks": {"x": node}}, capsys)
    assert "callbacks.x" in message
    assert imported == []
    canary()


@pytest.mark.parametrize("group", ["model", "data", "task", "peft", "optimizer", "scheduler", "trainer", "budget"])
def test_nothing_is_made_before_every_name_is_checked(good, canary, capsys, imported, group):
    message = ends_with_2({**good, group: {**good[group], "x": SYSTEM}}, capsys)
    assert message.startswith(f"error: {group}.x._target_: 'os.system' may not be named here")
    assert imported == []
    canary()


@pytest.mark.parametrize(
    "options",
    [
        {"megatron_config": {"tensor_model_parallel_size": 1}, "megatron_core": "canary"},
        {"megatron_core": "canary"},
        {"auto_mapping": {"base_model_class": "Canary", "parent_library": "canary"}},
        {"target_modules": ["query"]},
        {"modules_to_save": ["bert"]},
        {"base_model_name_or_path": "escaped"},
    ],
)
def test_options_of_the_library_that_import_or_override_are_none(good, canary, capsys, options):
    message = ends_with_2({**good, "peft": {**good["peft"], **options}}, capsys)
    assert message.startswith(f"error: peft.{next(iter(options))} is no option: ")
    canary()


@pytest.mark.parametrize(
    "allow", [["os.path"], [""], ["a b"], ["../canary"], "canary", [["canary"]], [3], {"canary": 1}]
)
def test_what_is_no_list_of_packages_allows_nothing(good, canary, capsys, allow):
    node = {"_target_": "canary.Canary"}
    assert ends_with_2({**good, "allow": allow, "callbacks": {"x": node}}, capsys).startswith("error: allow = ")
    canary()


@pytest.mark.parametrize("package", ["os", "antigravity", "builtins", "peftlab", "torch", "lightning"])
def test_what_is_no_package_of_ones_own_is_not_allowed(good, capsys, imported, package):
    assert f"{package} is no package of your own" in ends_with_2({**good, "allow": [package]}, capsys)
    assert imported == []


@pytest.mark.parametrize(
    "target",
    ["canary.__main__.X", "canary._inner.X", "canary.__main__", "pytorch_optimizer.__main__.X", "torch.optim._adamw.X"],
)
def test_what_is_private_is_not_imported(good, canary, capsys, imported, target):
    node = {"_target_": target}
    assert "is private" in ends_with_2({**good, "allow": ["canary"], "callbacks": {"x": node}}, capsys)
    assert imported == []
    canary()


@pytest.mark.parametrize(
    ("peft", "key"),
    [
        *(("lora", key) for key in ("r", "lora_alpha", "rank_pattern.query")),
        *(("adalora", "init_r"), ("vera", "r"), ("vblora", "num_vectors"), ("fourierft", "n_frequency")),
        *(("houlsby", "bottleneck"), ("mam", "prefix"), ("compacter", "n"), ("loreft", "rank"), ("unipelt", "rank")),
        *(("prompt_tuning", "num_virtual_tokens"), ("p_tuning", "encoder_num_layers")),
        ("prefix_tuning", "encoder_hidden_size"),
    ],
)
@pytest.mark.parametrize("size", [10**8, 2**70])
def test_a_size_that_no_model_has_is_refused(peft, key, size):
    node = yaml.safe_load((conf_dir() / "peft" / f"{peft}.yaml").read_text(encoding="utf-8"))
    outer, _, inner = key.partition(".")
    with pytest.raises(ConfigError, match=rf"^peft\.{key} = {size}: should be less than or equal to"):
        build({**node, outer: {inner: size} if inner else size}, "peft")


def test_a_seed_is_no_size():
    node = yaml.safe_load((conf_dir() / "peft" / "vera.yaml").read_text(encoding="utf-8"))
    assert build({**node, "projection_prng_key": 2**31}, "peft").options["projection_prng_key"] == 2**31


def test_processes_that_load_data_are_counted(refused):
    assert refused("data.workers=1000000").startswith("data.workers = 1000000: should be less than or equal to 1024")


@pytest.mark.parametrize("group", ["callbacks", "logger"])
@pytest.mark.parametrize("value", [["a", "b"], "csv", 3])
def test_a_section_of_several_that_is_none(good, group, value):
    with pytest.raises(ConfigError, match=rf"^{group} is .*; expected a section"):
        resolve({**good, group: value})


def test_the_callbacks_of_a_run_itself_are_not_named():
    folder = Path(peftlab.training.__file__).parent
    for module in sorted(file.stem for file in folder.glob("[!_]*.py")):
        for name in vars(importlib.import_module(f"peftlab.training.{module}")):
            with pytest.raises(ConfigError, match="may not be named here"):
                build({"_target_": f"peftlab.training.{module}.{name}", "folder": "elsewhere"}, "callbacks.x")


def test_texts_of_a_model_in_shards_are_refused(compose_config):
    config = resolve(compose_config("task=seq2seq", "data=source_target", "data.path=x", "trainer=cpu"))
    config["trainer"]["strategy"] = "fsdp"
    with pytest.raises(ConfigError, match=r"strategy=fsdp must compute each token together.* task\.generate\.at=never"):
        validate(config)
    config["task"]["generate"]["at"] = "never"
    validate(config)


@pytest.mark.parametrize("name", ["../escaped", "/tmp/peftlab-escaped", "a/../../escaped", ".."])
def test_a_name_stays_below_the_folder_of_runs(good, canary, capsys, name):
    assert ends_with_2({**good, "name": name}, capsys).startswith(f"error: name = '{name}': must name a folder below")
    canary()


def test_a_misspelt_class_is_told_with_the_nearest():
    with pytest.raises(ConfigError, match=r"there is no 'Headd' in peftlab\.methods\.selection\. Did you mean 'Head'"):
        build({"_target_": "peftlab.methods.selection.Headd"}, "peft")


def test_a_class_of_a_package_that_is_missing_names_the_extra(monkeypatch):
    def missing(name):
        raise ModuleNotFoundError(name="bitsandbytes")

    monkeypatch.setattr(importlib, "import_module", missing)
    with pytest.raises(ConfigError, match=r'package that is not installed: pip install "peftlab\[quantize\]"'):
        build({"_target_": "bitsandbytes.optim.AdamW8bit"}, "optimizer.algorithm")


@pytest.mark.parametrize(
    "key", ["data.format._target_", "data.source._target_", "optimizer.algorithm._target_", "peft._target_"]
)
def test_targets_are_checked_at_every_depth(refused, imported, key):
    assert refused(f"{key}=os.system").startswith(f"{key}: 'os.system' may not be named here")
    assert "os" not in imported


# --- a package of the user's -----------------------------------------------------------------------------------------

PACKAGE = '''
from pathlib import Path

from pydantic.dataclasses import dataclass

from peftlab.methods.method import Method
from peftlab.runs.identity import deciding_part

(Path(__file__).parent / "imported").touch()


@dataclass(kw_only=True)
class Mine(Method):
    """Trains nothing."""

    strength: int = 1

    def apply(self, model, context):
        return model.requires_grad_(False)


def function(**options):
    raise AssertionError("a function was called")
'''


@pytest.fixture
def package(tmp_path, monkeypatch) -> Path:
    """A package `users_own` on the path, which leaves a file `imported` when it is imported."""
    folder = tmp_path / "users_own"
    folder.mkdir()
    (folder / "__init__.py").touch()
    (folder / "methods.py").write_text(PACKAGE)
    monkeypatch.syspath_prepend(tmp_path)
    yield folder
    for name in [name for name in sys.modules if name.split(".")[0] == "users_own"]:
        del sys.modules[name]


MINE = ["peft=full", "peft._target_=users_own.methods.Mine", "+peft.strength=2"]


def test_an_allowed_package_may_be_named(compose_config, package):
    spec = validate(resolve(compose_config(*OWN_FILES, *MINE, "allow=[users_own]")))
    assert isinstance(spec.peft, Method)
    assert type(spec.peft).__name__ == "Mine"
    assert spec.peft.strength == 2


@pytest.mark.parametrize("allow", ["allow=[]", "allow=[users]", "allow=[methods]"])
def test_no_other_package_may(refused, package, allow):
    assert refused(*MINE, allow).startswith("peft._target_: 'users_own.methods.Mine' may not be named here")
    assert not (package / "imported").exists()


def test_its_keys_and_values_are_checked_too(refused, package):
    assert refused(*MINE, "allow=[users_own]", "peft.strength=x").startswith("peft.strength = 'x': ")


@pytest.mark.parametrize("name", ["function", "Path"])
def test_its_functions_and_imports_are_no_targets(package, name):
    with pytest.raises(ConfigError, match="not of a kind that a configuration may name"):
        build({"_target_": f"users_own.methods.{name}"}, "peft", ("users_own",))


class TestDirections:
    """Whether more is better is a property of the score: nobody has to say it, and nobody can say otherwise."""

    MINE = ("+callbacks.mine._target_=lightning.pytorch.callbacks.EarlyStopping", "+callbacks.mine.monitor=")

    def resolved(self, compose_config, *overrides):
        config = resolve(compose_config(*OWN_FILES, *overrides))
        validate(config)
        return config

    @pytest.mark.parametrize(
        ("overrides", "selection", "stopping"),
        [
            ([], "max", "max"),
            (["task.selection.metric=loss"], "min", "min"),
            (["task.selection.metric=loss", "task.selection.mode=min"], "min", "min"),
            (["task.selection.metric=entity_recall"], "max", "max"),
            (["callbacks.early_stopping.monitor=validation/loss"], "max", "min"),
            (["callbacks.early_stopping.monitor=train/loss"], "max", "min"),
            (["task.selection.metric=loss", "callbacks.early_stopping.monitor=validation/entity_f1"], "min", "max"),
            (["callbacks.early_stopping.monitor=train/grad_norm", "callbacks.early_stopping.mode=min"], "max", "min"),
        ],
    )
    def test_they_are_settled(self, compose_config, overrides, selection, stopping):
        config = self.resolved(compose_config, *overrides)
        assert config["task"]["selection"]["mode"] == selection
        assert config["callbacks"]["early_stopping"]["mode"] == stopping

    @pytest.mark.parametrize(
        ("overrides", "message"),
        [
            (
                ["task.selection.metric=loss", "task.selection.mode=max"],
                "task.selection.mode = 'max': of loss, less is",
            ),
            (["task.selection.mode=min"], "task.selection.mode = 'min': of entity_f1, more is better"),
            (
                ["callbacks.early_stopping.monitor=validation/loss", "callbacks.early_stopping.mode=max"],
                "callbacks.early_stopping.mode = 'max': of validation/loss, less is better",
            ),
            (
                ["callbacks.early_stopping.mode=min"],
                "callbacks.early_stopping.mode = 'min': of validation/entity_f1, more is better",
            ),
            (
                ["callbacks.early_stopping.monitor=train/grad_norm"],
                "callbacks.early_stopping.mode is null, and it is unknown whether more of 'train/grad_norm' is better",
            ),
            # Lightning's own default is min, whatever is watched
            ([MINE[0], f"{MINE[1]}validation/entity_f1"], "callbacks.mine.mode = 'min': of validation/entity_f1, more"),
            (
                [*MINE[:1], f"{MINE[1]}train/loss", "+callbacks.mine.mode=max"],
                "callbacks.mine.mode = 'max': of train/loss",
            ),
        ],
    )
    def test_one_that_is_not_the_scores_is_refused(self, refused, overrides, message):
        assert refused(*overrides).startswith(message)

    @pytest.mark.parametrize("metric", ["entity_f1", "loss"])
    def test_saying_it_makes_no_other_run(self, compose_config, metric):
        mode = {"entity_f1": "max", "loss": "min"}[metric]
        told = ["task.selection.mode=" + mode, "callbacks.early_stopping.mode=" + mode, "task.top_k=2"]
        silent, spoken = (
            deciding_part(self.resolved(compose_config, f"task.selection.metric={metric}", *more))
            for more in ([], told)
        )
        assert silent == spoken
        assert "class_weights" not in silent["task"]
        weighted = self.resolved(compose_config, "task.class_weights={PER: 2}")
        assert deciding_part(weighted)["task"]["class_weights"] == {"PER": 2}


@pytest.mark.slow
def test_a_budget_of_passes_counts_those_of_regularisers(compose_config):
    def steps(*overrides):
        budget = ["budget.max_epochs=null", "budget.max_passes=6"]
        return validate(resolve(compose_config(*budget, *overrides))).max_steps(of_epoch=10)

    assert steps() == 60
    assert steps("regularizer=[rdrop]") == 30
    assert steps("regularizer=[rdrop]", "regularizer.rdrop.strength=0") == 60
    assert steps("regularizer=[vat,sam]") == 10  # three passes, and their gradient twice
    assert steps("budget.max_steps=7") == 7
