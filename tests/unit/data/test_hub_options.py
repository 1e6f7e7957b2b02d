"""Every data set on the hub is read from files that lie where its repository has them."""

from __future__ import annotations

import fnmatch

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from peftlab.composing.compose import conf_dir
from peftlab.data.hub_source import HubDataSource
from peftlab.sources import Fetched
from peftlab.use import data_set

FILES = {file.stem: yaml.safe_load(file.read_text(encoding="utf-8")) for file in (conf_dir() / "data").glob("*.yaml")}
NAMED = {
    name: option
    for name, option in FILES.items()
    if option["source"]["_target_"].endswith("HubDataSource") and "path" not in option
}
CELLS = {
    "TextRows": {"label": lambda n: n % 2},
    "NumberRows": {"label": lambda n: n / 7},
    "SeveralLabelRows": {"labels": lambda n: [["joy"], [], ["joy", "anger"]][n % 3]},
    "QuestionRows": {"answers": lambda n: {"text": ["number"], "answer_start": [8]}},  # in "context number 1 of 200"
    "SentenceRows": {"words": lambda n: ["在", "京", str(n)], "tags": lambda n: ["O", "B-LOC", "O"]},
}
"""The value of a column of the n-th row, by the reader and the setting that names the column; others are texts."""

NO_COLUMNS = {"separator", "scheme", "invalid_tags"}

TASKS = {"stsb": "regression", "go_emotions": "multilabel", "msra_ner": "ner", "squad": "qa", "squad_v2": "qa"}
"""The tasks of all but classification."""


def rows_of(option, number):
    settings = dict(option["format"]["rows"])
    own = CELLS[settings.pop("_target_").rpartition(".")[2]]
    columns = {key: column for key, column in settings.items() if isinstance(column, str) and key not in NO_COLUMNS}
    return {
        column: [own[key](n) if key in own else f"{column} number {n} of {number}" for n in range(number)]
        for key, column in columns.items()
    }


def test_there_are_options_to_test():
    assert {"sst2", "ag_news", "msra_ner", "go_emotions"} <= set(NAMED)


@pytest.mark.one_in(3, "exhaustive")
@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(NAMED))
def test_its_files_are_found_and_its_columns_read(name, tmp_path, monkeypatch):
    option = NAMED[name]
    for size, split in ((200, "train"), (30, "validation"), (40, "test")):
        if isinstance(place := option["splits"][split], str):
            file = place.replace("*", "00000-of-00001") if "*" in place else f"{place}/0000.parquet"
            assert any(fnmatch.fnmatch(file, pattern) for pattern in option["source"]["files"])
            (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
            pq.write_table(pa.table(rows_of(option, size)), tmp_path / file)
    monkeypatch.setattr(HubDataSource, "fetch", lambda self: Fetched(folder=tmp_path, origin="hub:x"))
    card = data_set.card_of(name)
    assert card.task == TASKS.get(name, "classification")
    assert card.splits["train"].rows >= 150
    assert card.splits["test"].rows == 40
    assert card.splits["validation"].rows > 0
