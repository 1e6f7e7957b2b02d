"""Trains the student of a ladder for as long without a teacher: ``alone.py FOLDER EPOCHS``."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from peftlab.one_run import run
from peftlab.use.compression.slicing import LEARNING_RATE
from peftlab.use.derive import against
from peftlab.use.finished import load

folder, epochs = Path(sys.argv[1]), int(sys.argv[2])
rungs = {rung["step"]: rung for rung in json.loads((folder / "ladder.json").read_text())["rungs"]}
cut, distilled = load(rungs["drop_layers=3"]["run"]), load(rungs[f"distil={epochs}"]["run"])
config = {key: value for key, value in cut.config.items() if key != "derived"} | {
    "adapter": str(cut.folder.adapter.absolute()),
    "optimizer": {**cut.config["optimizer"], "lr": LEARNING_RATE},
    "budget": {**cut.config["budget"], "max_epochs": epochs, "max_steps": None, "max_passes": None},
    "name": "student-alone",
    "run_dir": str(folder / "alone"),
    "existing": "skip",
}
record = run(config)
gain = against(load(record.folder), distilled).difference
result = {"alone": record.score("test", "entity_f1"), "gain": gain.value, "low": gain.low, "high": gain.high}
(folder / "alone.json").write_text(json.dumps(result) + "\n")
