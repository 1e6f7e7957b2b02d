from __future__ import annotations

import json
from pathlib import Path

import pytest

from peftlab.errors import SourceError
from peftlab.models.model_files import deciding_files, named_files

CONFIG, TOKENIZER, INDEX = "config.json", "tokenizer_config.json", "model.safetensors.index.json"


def model_of(folder: Path, files: dict[str, object]) -> Path:
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content if isinstance(content, str) else json.dumps(content))
    return folder


class TestNamedFiles:
    @pytest.mark.parametrize(
        "files",
        [
            {INDEX: {"weight_map": {"a": "weights-1.safetensors", "b": "weights-1.safetensors"}}},
            {INDEX: {"metadata": {}, "weight_map": {"a": "shards/one.safetensors"}}},
            {CONFIG: {"transformers_weights": "consolidated.safetensors"}},
            {CONFIG: {"configuration_files": ["config.4.0.0.json", "config.json"]}},
            {TOKENIZER: {"fast_tokenizer_files": ["tokenizer.4.0.0.json"]}},
            {
                CONFIG: {"transformers_weights": "own.safetensors.index.json"},
                "own.safetensors.index.json": {"weight_map": {"a": "far.safetensors"}},
            },
            {
                CONFIG: {"configuration_files": ["config.5.0.0.json"]},
                "config.5.0.0.json": {"transformers_weights": "far.safetensors"},
            },
        ],
    )
    def test_what_the_files_name_makes_the_model(self, tmp_path: Path, files):
        folder = model_of(tmp_path, {"model-1.safetensors": "", **files})
        names = named_files(folder)
        assert names
        for name in names - files.keys():
            assert name not in deciding_files(folder, False)
            model_of(folder, {name: "{}"})
            assert name in deciding_files(folder, False)

    @pytest.mark.parametrize("name", ["../x.safetensors", "/x.safetensors", "a/../../x.safetensors", "..", "a\\..\\x"])
    @pytest.mark.parametrize(
        "files",
        [
            {INDEX: {"weight_map": {"a": "NAME"}}},
            {CONFIG: {"transformers_weights": "NAME"}},
            {CONFIG: {"configuration_files": ["NAME"]}},
            {TOKENIZER: {"fast_tokenizer_files": ["NAME"]}},
        ],
    )
    def test_none_is_outside_the_folder(self, tmp_path: Path, files, name):
        folder = model_of(tmp_path, json.loads(json.dumps(files).replace('"NAME"', json.dumps(name))))
        with pytest.raises(SourceError, match=r"it names '.*', which is outside the model's folder"):
            named_files(folder)

    @pytest.mark.parametrize("key", ["vocab", "merges", "gguf_file"])
    def test_nor_does_a_tokenizer_open_files_by_their_paths(self, tmp_path: Path, key):
        with pytest.raises(SourceError, match=f"{key} makes the tokenizer read a file"):
            named_files(model_of(tmp_path, {TOKENIZER: {key: "/elsewhere"}}))
        assert named_files(model_of(tmp_path, {TOKENIZER: {key: None}})) == set()

    @pytest.mark.parametrize("content", ["", "{", "[]", "null", "1", "[" * 100_000, '{"weight_map": 1}', "\udcff"])
    def test_what_is_no_json_of_settings_names_nothing(self, tmp_path: Path, content):
        for name in (CONFIG, TOKENIZER, INDEX):
            (tmp_path / name).write_bytes(content.encode(errors="surrogateescape"))
        assert named_files(tmp_path) == set()

    def test_files_that_name_one_another(self, tmp_path: Path):
        folder = model_of(
            tmp_path,
            {CONFIG: {"configuration_files": ["b.json"]}, "b.json": {"configuration_files": ["b.json", "config.json"]}},
        )
        assert named_files(folder) == {"b.json", "config.json"}


class TestDecidingFiles:
    def test_usual_layouts_are_what_they_were(self, tmp_path: Path):
        names = {CONFIG, "tokenizer.json", TOKENIZER, "vocab.txt", "merges.txt", "special_tokens_map.json"}
        single = model_of(tmp_path / "single", dict.fromkeys([*names, "model.safetensors", "README.md"], "{}"))
        assert deciding_files(single, False) == {*names, "model.safetensors"}
        shards = {f"model-0000{n}-of-00002.safetensors": "{}" for n in (1, 2)}
        index = {INDEX: {"metadata": {}, "weight_map": dict(zip("ab", shards, strict=True))}}
        sharded = model_of(tmp_path / "sharded", dict.fromkeys(names, "{}") | shards | index)
        assert deciding_files(sharded, False) == {*names, *shards, INDEX}
        pickled = {
            "pytorch_model.bin.index.json": {"weight_map": {"a": "pytorch_model-1.bin"}},
            "pytorch_model-1.bin": "",
        }
        both = model_of(single, pickled)
        assert deciding_files(both, True) == {*names, "model.safetensors"}

    def test_pickled_weights_are_named_only_where_they_may_be_read(self, tmp_path: Path):
        index = {"pytorch_model.bin.index.json": {"weight_map": {"a": "own-1.bin"}}, "own-1.bin": ""}
        folder = model_of(tmp_path, index)
        assert deciding_files(folder, True) == set(index)
        with pytest.raises(SourceError, match="no model\\.safetensors"):
            deciding_files(folder, False)

    @pytest.mark.parametrize("name", ["weights-1.bin", "adapter_model.bin", "x.pt", "x"])
    def test_what_safetensors_name_is_no_pickle(self, tmp_path: Path, name):
        index = {"weight_map": {"a": name}}
        folder = model_of(tmp_path, {INDEX: index, name: "", "model-1.safetensors": ""})
        with pytest.raises(SourceError, match="is no file of safetensors"):
            deciding_files(folder, True)
