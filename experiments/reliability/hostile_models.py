"""Hostile model folders, adapters and caches: odd headers, types, JSON, names, links, pickles and code.

A run that a spoilt folder lets through is repeated with another file of it changed, one that something names perhaps:
the identity changes then, or nothing of the result does.
"""

from __future__ import annotations

import json
import os
import pickle
import random
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from jail import Ended, Jail
from safetensors.numpy import load_file, save_file
from tiny import overrides

JSON = ("config.json", "tokenizer.json", "tokenizer_config.json", "adapter_config.json", "labels.json")
TYPES = ["F8_E4M3", "F8_E5M2", "F4", "I8", "U8", "BOOL", "C64", "F64", "BF16", "F16", "I32", "I64", "X", ""]


def case(draw: random.Random, jail: Jail) -> str:
    """Try one; return what it is."""
    return draw.choices([_model, _adapter, _cache], [4, 4, 1])[0](draw, jail)


def _model(draw: random.Random, jail: Jail) -> str:
    folder = Path(shutil.copytree(jail.base / "model", jail.here / "model"))
    what = _spoil(draw, folder, jail, MODEL_SPOILS)
    _twice(draw, jail, folder, overrides(folder, jail.base / "data", "budget.max_steps=2"))
    return f"model: {what}"


def _adapter(draw: random.Random, jail: Jail) -> str:
    folder = Path(shutil.copytree(jail.base / "run0" / "adapter", jail.here / "adapter"))
    what = _spoil(draw, folder, jail, ADAPTER_SPOILS)
    given = overrides(jail.base / "model", jail.base / "data", "budget.max_steps=2", f"adapter={folder}")
    _twice(draw, jail, folder, given)
    return f"adapter: {what}"


def _cache(draw: random.Random, jail: Jail) -> str:
    """Train, change what is cached, and train again."""
    more = draw.choice([[], ["peft=head"], ["peft=head", "trainer.cache_activations=true"]])
    given = overrides(jail.base / "model", jail.base / "data", "budget.max_steps=4", "model.dropout=0", *more)
    given = [one for one in given if one not in ("budget.max_steps=24", "model.dropout=0.1")]
    first = _results(jail.train(*given, "run_dir=runs/1"), jail, "1")
    cached = sorted(path for path in (jail.here / "cache").rglob("*") if path.is_file())
    what = []
    for path in draw.sample(cached, min(len(cached), draw.choice([1, 2, 5]))):
        way = draw.choice(["bits", "zeros", "another", "gone", "folder", "short"])
        what.append(f"{way}({path.relative_to(jail.here)})")
        content = path.read_bytes()
        path.chmod(0o644)
        if way == "bits":
            at = draw.randrange(len(content) // 2, len(content)) if len(content) > 1 else 0
            path.write_bytes(
                content[:at] + bytes([content[at] ^ 1 << draw.randrange(8)] if content else b"x") + content[at + 1 :]
            )
        elif way == "zeros":
            path.write_bytes(content[: len(content) // 2] + bytes(len(content) - len(content) // 2))
        elif way == "another":
            path.write_bytes(draw.choice(cached).read_bytes() if draw.choice(cached).is_file() else b"")
        elif way == "short":
            path.write_bytes(content[: draw.randrange(len(content) + 1)])
        else:
            path.unlink()
            if way == "folder":
                path.mkdir()
    second = _results(jail.train(*given, "run_dir=runs/2"), jail, "2")
    _compare(jail, first, second, ", ".join(what))
    return f"cache {more}: {', '.join(what)}"


def _twice(draw: random.Random, jail: Jail, folder: Path, given: list[str]) -> None:
    given = [one for one in given if one != "budget.max_steps=24"]
    first = _results(jail.train(*given, "run_dir=runs/1"), jail, "1")
    if first is None:
        return
    usual = {*JSON, "README.md", "notes.txt", "metrics.csv", "evil.py"}
    files = sorted(path for root in (folder, jail.elsewhere) for path in root.rglob("*") if path.is_file())
    unusual = [path for path in files if path.name not in usual]
    path = draw.choice(unusual if unusual and draw.random() < 0.7 else files)
    _change(path)
    again = _results(jail.train(*given, "run_dir=runs/2"), jail, "2")
    _compare(jail, first, again, f"{path.relative_to(jail.root)} changed")


def _results(ended: Ended, jail: Jail, name: str) -> tuple[str, str] | None:
    """Return the identity of a run that has ended well, and its predictions."""
    run = jail.here / "runs" / name
    if not ended.done or not (run / "predictions" / "test.jsonl").exists():
        return None
    record = json.loads((run / "record.json").read_text())
    return record["identity"]["sha256"], (run / "predictions" / "test.jsonl").read_text()


def _compare(jail: Jail, first: tuple[str, str] | None, second: tuple[str, str] | None, what: str) -> None:
    if first and second and first[0] == second[0] and first[1] != second[1]:
        jail.fault("results changed under one identity", what)


def _change(path: Path) -> None:
    """Change what a file holds, so that it would change results."""
    if path.suffix == ".safetensors":
        try:
            tensors = load_file(path)
            save_file({name: tensor * np.array(-1.5, tensor.dtype) for name, tensor in tensors.items()}, path)
        except Exception:  # noqa: BLE001  # odd ones are changed as bytes
            path.write_bytes(path.read_bytes()[:-1] + b"\x3f")
        return
    text = path.read_text(errors="surrogateescape")
    for old, new in (('"gelu"', '"relu"'), ('"vocab": {', '"vocab": {"zzz": 0, '), ("paris", "sirap"), ("16", "8")):
        if old in text:
            path.write_text(text.replace(old, new), errors="surrogateescape")
            return
    path.write_text(text + "\n", errors="surrogateescape")


# What is done to a folder --------------------------------------------------------------------------------------------

Spoil = Callable[[random.Random, Path, Jail], object]


def _spoil(draw: random.Random, folder: Path, jail: Jail, spoils: list[Spoil]) -> str:
    chosen = [draw.choice(spoils) for _ in range(draw.choice([1, 1, 1, 2]))]
    said = []
    for spoil in chosen:
        try:
            said.append(f"{spoil.__name__} {spoil(draw, folder, jail) or ''}")
        except (
            OSError,
            ValueError,
            KeyError,
            StopIteration,
            AttributeError,
            TypeError,
        ):  # spoilt too much to spoil again
            continue
    return ", ".join(said)


def _weights(folder: Path) -> Path:
    return next(path for path in sorted(folder.glob("*.safetensors")))


def _settings(draw: random.Random, folder: Path) -> Path:
    return draw.choice([path for path in sorted(folder.glob("*.json")) if path.name in JSON])


def header(draw: random.Random, folder: Path, jail: Jail) -> str:
    """Change the header of the weights, and leave its length right or not."""
    path = _weights(folder)
    content = path.read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    entries: dict[str, Any] = json.loads(content[8 : 8 + length])
    name = draw.choice([key for key in entries if key != "__metadata__"])
    one = entries[name]
    way = draw.choice(["type", "shape", "offsets", "name", "metadata", "raw", "length", "body", "twice"])
    raw = b""
    if way == "type":
        one["dtype"] = draw.choice(TYPES)
    elif way == "shape":
        one["shape"] = draw.choice(
            [[], [0], [-1], [2**63], [2**40, 2**40], [1, *one["shape"]], one["shape"][::-1], ["1"], None]
        )
    elif way == "offsets":
        one["data_offsets"] = draw.choice([[0, 0], [0, 2**63], [-4, 0], [4, 0], [0], None, [0, len(content) * 2]])
    elif way == "name":
        odd = [
            "",
            "../../x",
            "a\0b",
            "\ud800",
            "x" * 10**5,
            "__metadata__",
            "\n",
            name + ".weight",
            name.upper(),
            "a b",
        ]
        entries[draw.choice(odd)] = entries.pop(name)
    elif way == "metadata":
        entries["__metadata__"] = draw.choice(
            [{"format": "tf"}, {"format": 1}, [], None, {"a": "x" * 10**6}, {"format": "pt2"}]
        )
    elif way == "raw":
        raw = draw.choice(
            [b"[]", b"{", b"{}", b'"x"', b"null", b"[" * 10**5, b'{"a": ' * 10**4, b" " * 100, b"\xff\xfe"]
        )
    elif way == "twice":
        text = json.dumps(entries)
        raw = (text[:-1] + f", {json.dumps(name)}: {json.dumps(one)}}}").encode()
    raw = raw or json.dumps(entries).encode(errors="surrogatepass")
    size, body = len(raw), content[8 + length :]
    if way == "length":
        size = draw.choice([0, 2**64 - 1, 2**40, len(content), size - 1, size + 1])
    if way == "body":
        body = draw.choice(
            [b"", body[:-1], body + b"\0", draw.randbytes(len(body)), bytes(len(body)), b"\xff" * len(body)]
        )
    path.write_bytes(struct.pack("<Q", size) + raw + body)
    return way


def types(draw: random.Random, folder: Path, jail: Jail) -> str:
    """Store all tensors, or one, in another type, with values to match or not."""
    path = _weights(folder)
    tensors = load_file(path)
    kind = draw.choice(
        ["int32", "int8", "bool", "float64", "float16", "complex64", "uint64", "nan", "inf", "huge", "empty"]
    )
    for name in draw.choice([list(tensors), draw.sample(list(tensors), 1)]):
        tensor = tensors[name]
        values = {"nan": np.nan, "inf": np.inf, "huge": 3e38}
        if kind in values:
            tensors[name] = np.full_like(tensor, values[kind])
        else:
            tensors[name] = tensor[:0] if kind == "empty" else tensor.astype(kind)
    save_file(tensors, path, metadata={"format": "pt"})
    return kind


def tensors(draw: random.Random, folder: Path, jail: Jail) -> str:
    """Take tensors away, add some, or give them names of others."""
    path = _weights(folder)
    stored = load_file(path)
    names = list(stored)
    way = draw.choice(["less", "more", "swapped", "none", "shaped"])
    name, other = draw.sample(names, 2)
    if way == "less":
        del stored[name]
    elif way == "more":
        stored[draw.choice(["extra.weight", name + ".x", "base_model." + name, "evil\u202e"])] = stored[name]
    elif way == "swapped":
        stored[name], stored[other] = stored[other], stored[name]
    elif way == "none":
        stored = {}
    else:
        stored[name] = stored[name].reshape(1, *stored[name].shape)
    save_file(stored, path, metadata={"format": "pt"})
    return way


def shape_of_json(draw: random.Random, folder: Path, jail: Jail) -> str:
    """Put another JSON, or none, in the place of a file."""
    path = _settings(draw, folder)
    text = draw.choice(
        [
            *(
                b"[]",
                b'"x"',
                b"null",
                b"1",
                b"{}",
                b"",
                b"{",
                b"[" * 10**5,
                b'{"a":' * 10**5,
                b"\xff\xfe{\0}\0",
                b"NaN",
            ),
            *(b"\xef\xbb\xbf{}", b"{} {}", b"{'a': 1}", b'{"a": 1e999}', b'{"a": ' + b"9" * 5000 + b"}", b"\0" * 4096),
        ]
    )
    path.write_bytes(text)
    return f"{path.name}: {text[:12]!r}"


def value_in_json(draw: random.Random, folder: Path, jail: Jail) -> str:
    """Give keys of a file values of other types."""
    path = draw.choice(
        [path for path in sorted(folder.glob("*.json")) if path.name in JSON and path.name != "labels.json"]
    )
    known = json.loads(path.read_text())
    odd = [
        None,
        -1,
        0,
        2**62,
        10**9,
        1e300,
        "x",
        "os.system",
        "../x",
        [],
        {},
        ["x"],
        [[1]],
        {"a": 1},
        True,
        "\ud800",
        "\0",
        "",
    ]
    for key in draw.sample(sorted(known), min(len(known), draw.choice([1, 1, 3]))):
        value = known[key]
        known[key] = draw.choice(odd)
        if isinstance(value, dict) and value and draw.random() < 0.7:
            known[key] = value | {draw.choice(sorted(map(str, value))): draw.choice(odd)}
    path.write_text(json.dumps(known))
    return path.name


def hint(draw: random.Random, folder: Path, jail: Jail) -> str:
    """Name code, other files, other models or backends in the settings."""
    path = _settings(draw, folder)
    (folder / "evil.py").write_text(f"open({str(jail.canary / 'remote')!r}, 'w')\nclass Evil: pass\n")
    hints: list[dict[str, Any]] = [
        {
            "auto_map": {
                "AutoConfig": "evil.Evil",
                "AutoModelForTokenClassification": "evil.Evil",
                "AutoTokenizer": "evil.Evil",
            }
        },
        {"auto_map": {"AutoTokenizer": ["evil.Evil", None]}, "tokenizer_class": "Evil"},
        {"auto_map": "evil.Evil", "model_type": "evil"},
        {"auto_mapping": {"base_model_class": "Evil", "parent_library": "evil"}},
        {"auto_mapping": {"base_model_class": "system", "parent_library": "os"}},
        {"_attn_implementation": "evil/kernel", "attn_implementation": "evil/kernel"},
        {
            "quantization_config": {
                "quant_method": draw.choice(["bitsandbytes", "gptq", "evil", "torchao"]),
                "load_in_8bit": True,
            }
        },
        {
            "transformers_weights": draw.choice(
                ["../../elsewhere/x.safetensors", "/x.safetensors", "adapter_model.bin", "x.bin"]
            )
        },
        {"configuration_files": [draw.choice(["config.4.0.0.json", "../config.4.0.0.json"])]},
        {"fast_tokenizer_files": [draw.choice(["tokenizer.4.0.0.json", "../../elsewhere/tokenizer.4.0.0.json"])]},
        {"vocab": str(jail.elsewhere / "vocab.txt"), "vocab_file": str(jail.elsewhere / "vocab.txt")},
        {"tokenizer_file": str(jail.elsewhere / "tokenizer.json"), "gguf_file": "../x.gguf"},
        {"tokenizer_class": draw.choice(["os.system", "PreTrainedTokenizer", "LlamaTokenizer", "Evil", 1])},
        {"base_model_name_or_path": draw.choice([str(jail.elsewhere), "evil/model", {"a": 1}, "\0"])},
        {"_name_or_path": "evil/model", "name_or_path": str(jail.elsewhere)},
        {"peft_type": draw.choice(["evil", "LORA", "TRAINABLE_TOKENS", 1, None, ["LORA"]]), "task_type": "evil"},
        {"loftq_config": {"x": 1}, "init_lora_weights": draw.choice(["pissa", "evil", "eva", {"a": 1}])},
        {"target_modules": draw.choice(["(a+)+$", ".*", {"a": 1}, 1, "all-linear", ["../x"]])},
        {"rank_pattern": {"(a+)+$": 1}, "layers_to_transform": 10**9},
        {"modules_to_save": draw.choice([["evil"], "all", {"a": 1}, 1])},
        {"chat_template": "{{ cycler.__init__.__globals__.os.system('touch " + str(jail.canary / "jinja") + "') }}"},
    ]
    chosen = draw.choice(hints)
    path.write_text(json.dumps(json.loads(path.read_text()) | chosen))
    return f"{path.name}: {json.dumps(chosen)[:200]}"


def shards(draw: random.Random, folder: Path, jail: Jail) -> str:
    """Divide the weights, with an index that names files of all sorts."""
    stored = load_file(folder / "model.safetensors")
    names = sorted(stored)
    cut = draw.randrange(1, len(names))
    where = draw.choice(
        [
            *("model-00001-of-00002.safetensors", "weights-1.safetensors", "../outside.safetensors", "a/b.safetensors"),
            *(
                str(jail.elsewhere / "x.safetensors"),
                "weights.bin",
                "model-2.safetensors.tmp",
                "a/../../outside.safetensors",
                1,
            ),
        ]
    )
    (folder / "model.safetensors").unlink()
    if isinstance(where, str):
        (folder / where).parent.mkdir(exist_ok=True)
        save_file({name: stored[name] for name in names[:cut]}, folder / where, metadata={"format": "pt"})
    second = "model-00002-of-00002.safetensors"
    save_file({name: stored[name] for name in names[cut:]}, folder / second, metadata={"format": "pt"})
    weight_map = {name: where if n < cut else second for n, name in enumerate(names)}
    index = {"metadata": {"total_size": 1}, "weight_map": weight_map}
    if draw.random() < 0.2:
        index = draw.choice(
            [{}, {"weight_map": weight_map}, {"metadata": {}, "weight_map": [1]}, {"metadata": 1, "weight_map": {}}]
        )
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    return str(where)


def named(draw: random.Random, folder: Path, jail: Jail) -> str:
    """Put what decides into a file that another one names."""
    way = draw.choice(["weights", "config", "tokenizer"])
    if way == "weights":
        name = draw.choice(["own.safetensors", "a/own.safetensors"])
        (folder / name).parent.mkdir(exist_ok=True)
        shutil.move(folder / "model.safetensors", folder / name)
        settings = folder / "config.json"
        changes: dict[str, Any] = {"transformers_weights": name}
    elif way == "config":
        shutil.copy(folder / "config.json", folder / "config.4.0.0.json")
        settings, changes = folder / "config.json", {"configuration_files": ["config.4.0.0.json"]}
    else:
        name = draw.choice(["tokenizer.4.0.0.json", "a/tokenizer.4.0.0.json"])
        (folder / name).parent.mkdir(exist_ok=True)
        shutil.move(folder / "tokenizer.json", folder / name)
        settings, changes = folder / "tokenizer_config.json", {"fast_tokenizer_files": [name]}
    settings.write_text(json.dumps(json.loads(settings.read_text()) | changes))
    return way


def pickled(draw: random.Random, folder: Path, jail: Jail) -> str:
    """Put pickles with code where weights may be looked for."""

    class Evil:
        def __reduce__(self) -> tuple[Any, ...]:
            return os.mkdir, (str(jail.canary / "unpickled"),)

    content = pickle.dumps({"weight": Evil()})
    names = [
        "pytorch_model.bin",
        "adapter_model.bin",
        "model.safetensors",
        "tokenizer.pkl",
        "optimizer.pt",
        "rng_state.pth",
    ]
    names += ["adapter_model.safetensors", "training_args.bin", "tokenizer.json", "config.json", "pytorch_model-1.bin"]
    name = draw.choice(names)
    if name.endswith(".bin") and draw.random() < 0.6:
        _weights(folder).unlink()
    (folder / name).write_bytes(content)
    return name


def vocabulary(draw: random.Random, folder: Path, jail: Jail) -> str:
    """Spoil the tokenizer's own JSON."""
    path = folder / "tokenizer.json"
    known = json.loads(path.read_text())
    vocab = known["model"]["vocab"]
    way = draw.choice(["ids", "same", "lost", "huge", "type", "added", "post", "pre", "none"])
    if way == "ids":
        known["model"]["vocab"] = {word: draw.choice([n + 10**6, -n, n * 1.5]) for word, n in vocab.items()}
    elif way == "same":
        known["model"]["vocab"] = dict.fromkeys(vocab, 0)
    elif way == "lost":
        known["model"]["vocab"] = {
            word: n for word, n in vocab.items() if word != draw.choice(["[UNK]", "[CLS]", "[PAD]"])
        }
    elif way == "huge":
        known["model"]["vocab"] = vocab | {f"w{n}": len(vocab) + n for n in range(10**5)}
    elif way == "type":
        known["model"]["type"] = draw.choice(["BPE", "Unigram", "WordPiece", "evil", 1])
    elif way == "added":
        known["added_tokens"] = draw.choice([[{"id": 10**6, "content": "x", "special": True}], 1, [{"id": 0}], []])
    elif way == "post":
        known["post_processor"] = draw.choice([None, {"type": "evil"}, {"type": "ByteLevel"}, 1])
    elif way == "pre":
        regex = {"type": "Split", "pattern": {"Regex": "(a+)+$"}, "behavior": "Isolated", "invert": False}
        known["pre_tokenizer"] = draw.choice([None, regex, {"type": "evil"}])
    else:
        del known["model"]
    path.write_text(json.dumps(known))
    return way


def another_file(draw: random.Random, folder: Path, jail: Jail) -> str:
    """Make a file a pipe, a folder, a link, or take it away."""
    names = sorted(path.name for path in folder.iterdir())
    names += ["vocab.txt", "added_tokens.json", "special_tokens_map.json", "chat_template.jinja", "adapter_config.json"]
    name = draw.choice([*names, "generation_config.json", "model.safetensors.index.json"])
    path = folder / name
    way = draw.choice(["pipe", "folder", "gone", "zero", "dangling", "loop", "out", "json", "closed"])
    content = path.read_bytes() if path.exists() else b"{}"
    path.unlink(missing_ok=True)
    if way == "pipe":
        os.mkfifo(path)
    elif way == "folder":
        path.mkdir()
    elif way == "out":
        (jail.elsewhere / name).write_bytes(content)
        path.symlink_to(jail.elsewhere / name)
    elif way == "json":
        path.write_text(draw.choice(["{}", "[]", '{"[PAD]": 5, "paris": 7}', '{"peft_type": "LORA"}']))
    elif way == "closed":
        path.write_bytes(content)
        path.chmod(0)
    elif way != "gone":
        path.symlink_to({"zero": "/dev/zero", "dangling": "nowhere", "loop": name}[way])
    return f"{name}: {way}"


def labels(draw: random.Random, folder: Path, jail: Jail) -> str:
    """Spoil the names of an adapter's labels."""
    odd: list[Any] = [
        [],
        {},
        None,
        ["LOC"],
        ["LOC", "LOC"],
        ["\ud800", ""],
        [1, 2],
        "LOC",
        {"0": "LOC"},
        ["x" * 10**6],
        [["LOC"]],
    ]
    value = draw.choice(odd)
    (folder / "labels.json").write_text(json.dumps(value))
    return json.dumps(value)[:60]


BOTH: list[Spoil] = [
    header,
    header,
    types,
    tensors,
    shape_of_json,
    value_in_json,
    value_in_json,
    hint,
    hint,
    pickled,
    another_file,
]
MODEL_SPOILS: list[Spoil] = [*BOTH, shards, shards, named, named, vocabulary]
ADAPTER_SPOILS: list[Spoil] = [*BOTH, labels]
