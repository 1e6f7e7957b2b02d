from __future__ import annotations

from peftlab.tasks.confusion import ClassRow, class_table, report_text

ROWS = [
    ClassRow(name="a", precision=0.5, recall=1.0, f1=2 / 3, support=1, predicted=2),
    ClassRow(name="longer name", precision=1.0, recall=0.5, f1=2 / 3, support=2, predicted=1),
]


def test_a_table_for_loggers():
    assert class_table(ROWS, "label") == (
        ["label", "precision", "recall", "f1", "support", "predicted"],
        [["a", 0.5, 1.0, 2 / 3, 1, 2], ["longer name", 1.0, 0.5, 2 / 3, 2, 1]],
    )


def test_a_table_for_people():
    assert report_text(ROWS, {"macro": (0.75, 0.75, 2 / 3)}) == (
        "             precision  recall      f1  support\n"
        "a               0.5000  1.0000  0.6667        1\n"
        "longer name     1.0000  0.5000  0.6667        2\n"
        "macro           0.7500  0.7500  0.6667        3"
    )
