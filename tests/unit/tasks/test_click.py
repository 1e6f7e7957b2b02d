"""Clicks: the numbers of users and items."""

from __future__ import annotations

import pytest
from transformers import AutoTokenizer

from peftlab.data.interactions import Interactions
from peftlab.errors import DataError
from peftlab.tasks.click import Click
from peftlab.tasks.limits import Limits
from peftlab.tasks.processor import Processor
from peftlab.tasks.task import Selection


def test_numbers_of_an_input_stand_in_the_order_of_the_training(tmp_path, tiny_model):
    (tmp_path / "items.csv").write_text("item,title,price\na,A,100\nb,B,300\nc,C,500\n")
    (tmp_path / "users.csv").write_text("user,age\nu,20\n")
    (tmp_path / "interactions.csv").write_text("user,item,time,liked\nu,a,1,1\nu,b,2,0\nu,c,3,1\n")
    read = Interactions(users="users.csv", numbers=["age", "price"], label="liked")
    examples = read.read(dict.fromkeys(("train", "validation", "test"), tmp_path))["train"]
    task = Click(
        name="click", selection=Selection(metric="log_loss"), known_users=[], known_items=[], means=[0, 0], sds=[1, 1]
    )
    with pytest.raises(DataError, match=r"2 numbers up to 1e\+30, .* columns of items, .* and then those of users"):
        task.from_input({"text": "A", "numbers": ["20", 100]}, "new")
    with pytest.raises(DataError, match="2 numbers up to"):  # in fp32 it is infinite, and the probability no number
        task.from_input({"text": "A", "numbers": [1e39, 100]}, "new")
    asked = [task.from_input({"text": "A", "numbers": each}, "new") for each in ([100, 20], [None, 20])]
    processor = Processor("tokenizer", AutoTokenizer.from_pretrained(tiny_model))
    encode = lambda some: task.encode(some, processor, Limits(20, "truncate"))  # noqa: E731
    seen = task.collate(examples, encode(examples), [0]).inputs["numbers"]
    assert seen.tolist() == [[100, 20]]
    assert task.collate(asked, encode(asked), [0, 1]).inputs["numbers"].tolist() == [[100, 20], [0, 20]]
