"""Interactions: what is known, what is predicted, and what is kept out."""

import pytest

from peftlab.data.form import form_of
from peftlab.data.interactions import Interactions, read_history
from peftlab.errors import DataError
from peftlab.tasks.retrieval import Retrieval
from peftlab.tasks.task import Selection

ITEMS = "item,title,kind\na,Alpha,x\nb,Beta,y\nc,Gamma,x\nd,Delta,y\n"
ROWS = "user,item,time,stars\nu,b,2,5\nu,a,1,2\nv,c,5,4\nu,c,3,3\nv,a,4,1\nu,d,9,5\nv,b,6,5\nw,d,7,5\n"


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "items.csv").write_text(ITEMS)
    (tmp_path / "interactions.csv").write_text(ROWS)
    return tmp_path


def read(folder, **options):
    return Interactions(**options).read(dict.fromkeys(("train", "validation", "test"), folder))


def told(examples):
    titles = [[one.catalogue.items[n] for n in one.history] for one in examples]
    return [(one.user, "".join(own), one.catalogue.items[one.item]) for one, own in zip(examples, titles, strict=True)]


def test_the_last_of_each_user_is_tested_and_the_one_before_validates(folder):
    splits = read(folder, columns=["kind"], label="stars", positive=4)
    assert told(splits["train"]) == [("u", "", "a"), ("u", "a", "b"), ("v", "", "a"), ("w", "", "d")]
    assert told(splits["validation"]) == [("u", "ab", "c"), ("v", "a", "c")]
    assert told(splits["test"]) == [("u", "abc", "d"), ("v", "ac", "b")]
    first = splits["test"][0]
    assert (first.text(2), first.label, first.line, first.group) == ("Gamma; Beta", True, 7, "u")
    assert first.catalogue.texts[1] == "Beta. y"
    assert first.seen == {0, 1, 2}
    assert len({one.id for one in splits["train"]}) == 4


def test_two_moments_divide_all_users(folder):
    splits = read(folder, protocol="time", periods=[0.5, 0.75])
    assert [told(splits[name]) for name in splits] == [
        [("u", "", "a"), ("u", "a", "b"), ("u", "ab", "c"), ("v", "", "a")],
        [("v", "a", "c"), ("v", "ac", "b")],
        [("u", "abc", "d"), ("w", "", "d")],
    ]
    dated = ROWS.replace(",7,", ",1970-01-01T00:00:08+00:00,")
    (folder / "interactions.csv").write_text(dated)
    assert told(read(folder, protocol="time", periods=[5, 8])["test"]) == [("u", "abc", "d"), ("w", "", "d")]


def test_cold_items_are_in_no_training_example_and_tested_apart(folder):
    splits = read(folder, cold_items=1, cold_seed=3)
    (cold,) = splits["test"][0].catalogue.cold
    known = [one for split in ("train", "validation") for one in splits[split]]
    assert cold not in {one.item for one in known}
    assert cold not in {item for one in splits["train"] for item in one.history}
    assert {one.item for one in splits["test"] if one.is_cold} == {cold}
    assert splits["test"].counts["cold"] == sum(one.is_cold for one in splits["test"])


def test_items_that_are_new_after_training_are_cold(folder, caplog):
    splits = read(folder, protocol="time", periods=[0.5, 0.75])
    assert [one.is_cold for one in splits["test"]] == [True, True]  # d, twice
    assert [splits[name].counts.get("cold", 0) for name in ("train", "validation", "test")] == [0, 0, 2]
    task = Retrieval(name="retrieval", selection=Selection(metric="ndcg@10"))
    task.learn_labels(splits, None)
    assert not caplog.messages
    task.learn_labels({"validation": splits["test"]}, None)
    assert "chooses nothing" in caplog.text


def test_questions_have_no_users_and_no_histories(folder):
    (folder / "questions.csv").write_text("ask,item\nwhere?,a\nwho?,b\nwhen?,c\nwhy?,d\nhow?,a\n")
    splits = read(
        folder, interactions="questions.csv", user=None, time=None, query="ask", protocol="time", periods=[0.4, 0.8]
    )
    assert [one.text(9) for one in splits["test"]] == ["how?"]
    assert not any(one.history or one.is_cold for split in splits.values() for one in split)


@pytest.mark.parametrize(
    ("rows", "options", "message"),
    [
        (ROWS + "u,z,1,1\n", {}, r"interactions.csv:10: the item 'z' is not in items.csv"),
        (ROWS, {"user": "usr"}, r"no column 'usr'. Did you mean 'user'"),
        (ROWS + "u,a,soon,1\n", {}, "'soon' is no time"),
        (ROWS + "u,a,nan,1\n", {}, "'nan' is no time"),
        (ROWS, {"label": "item"}, "is no number"),
        (ROWS + "u,a,9,inf\n", {"label": "stars"}, r"interactions.csv:10: 'inf' is no number up to 1e\+30"),
        (ROWS + "u,a\n", {}, "expected 4 columns"),
        ("user,item,time\nu,a,1\nv,b,1\n", {}, "no user has three"),
        (ROWS, {"cold_items": 3}, "only 4 of 4 items occur"),
        (ROWS, {"numbers": ["age"]}, "has no column 'age', and users=null"),
        ("user,item,time\n", {}, "holds no row"),
        (ROWS + ",a,1,1\n", {}, r"interactions.csv:10: there is no user, and all such rows would be one's"),
    ],
)
def test_what_is_wrong_is_named(folder, rows, options, message):
    (folder / "interactions.csv").write_text(rows)
    with pytest.raises(DataError, match=message):
        read(folder, **options)


def test_an_item_or_a_user_twice_is_refused(folder):
    (folder / "items.csv").write_text(ITEMS + "a,Again,x\n")
    with pytest.raises(DataError, match=r"items.csv:6: the item 'a' again, first in line 2"):
        read(folder)
    (folder / "items.csv").write_text(ITEMS)
    (folder / "users.csv").write_text("user,age\nu,20\nv,30\nu,40\n")
    with pytest.raises(DataError, match=r"users.csv:4: the user 'u' again, first in line 2"):
        read(folder, users="users.csv", numbers=["age"])
    with pytest.raises(DataError, match="each row is a user of its own, of which that file knows nothing"):
        read(folder, user=None, protocol="time", users="users.csv", numbers=["age"])


def test_what_is_asked_may_have_the_names_of_the_data():
    form = form_of(Interactions(user="customer", query="search"))
    asked = {"text": "Socks", "customer": "u7", "item": "i3", "search": "warm"}
    assert form.usual(asked) == {**asked, "user": "u7", "query": "warm"}
    assert form.usual({"text": "Socks"}) == {"text": "Socks"}


def test_a_history_is_read_from_a_file(folder):
    catalogue = read(folder)["train"][0].catalogue
    (folder / "mine.csv").write_text("item,when\nc,1\na,2\n")
    assert list(read_history(folder / "mine.csv", "item", catalogue)) == [2, 0]
    (folder / "mine.csv").write_text("item\nq\n")
    with pytest.raises(DataError, match="the item 'q' is not among those of the run"):
        list(read_history(folder / "mine.csv", "item", catalogue))
