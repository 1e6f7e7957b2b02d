from __future__ import annotations

import itertools
import math

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from peftlab.errors import ConfigError
from peftlab.sweep.space import Choice, Interval, Space, grid
from peftlab.sweep.spec import SweepSpec

PARSER = OverridesParser.create()


def hydra_reads(override):
    return PARSER.parse_override(override).value()


def space_of(*arguments, method=None, **spec):
    return Space.parse(arguments, SweepSpec(**spec), method=method)


def cells_of(space):
    return [" ".join(proposal.overrides) for proposal in grid(space)]


class TestCommandLine:
    def test_overrides_are_fixed_or_dimensions_or_seeds(self):
        space = space_of("+experiment=ner_lora", "peft=lora,head", "~logger", "optimizer.lr=1e-4,3e-4", "seed=0,1,2")
        assert space.fixed == ("+experiment=ner_lora", "~logger")
        assert space.dimensions == (
            Choice("peft", ("lora", "head")),
            Choice("optimizer.lr", ("0.0001", "0.0003"), ordered=True),
        )
        assert space.seeds == (0, 1, 2)

    @pytest.mark.parametrize(
        ("argument", "dimension"),
        [
            ("a=choice(x,y)", Choice("a", ("x", "y"))),
            ("a=choice(x)", Choice("a", ("x",))),
            ("a=x,x,y", Choice("a", ("x", "y"))),
            ("a=range(1,4)", Choice("a", ("1", "2", "3"), ordered=True)),
            ("a=range(0,1,0.5)", Choice("a", ("0.0", "0.5"), ordered=True)),
            ("a=3,2,1", Choice("a", ("3", "2", "1"), ordered=True)),
            ("a=1,3,2", Choice("a", ("1", "3", "2"))),
            ("a=true,false", Choice("a", ("True", "False"))),
            ("a=null,1", Choice("a", ("null", "1"))),
            ("a=[b,c],[]", Choice("a", ("[b,c]", "[]"))),
            ("a={b:1},{b:2}", Choice("a", ("{b:1}", "{b:2}"))),
            ("a='x y','1'", Choice("a", ("'x y'", "'1'"))),
            ("+a@b.c=x,y", Choice("+a@b.c", ("x", "y"))),
            ("++a=x,y", Choice("++a", ("x", "y"))),
            ("a=interval(1,8)", Interval("a", 1, 8, integer=True)),
            ("a=interval(1,8.0)", Interval("a", 1.0, 8.0)),
            ("a=float(interval(1,8))", Interval("a", 1.0, 8.0)),
            ("a=int(interval(1.0,8.0))", Interval("a", 1, 8, integer=True)),
            ("a=tag(log,interval(1e-5,1e-2))", Interval("a", 1e-5, 1e-2, log=True)),
            ("a=tag(log,interval(1,64))", Interval("a", 1, 64, log=True, integer=True)),
        ],
    )
    def test_kinds(self, argument, dimension):
        assert space_of(argument).dimensions == (dimension,)

    def test_a_shuffled_choice_is_shuffled_in_the_same_way_by_the_same_seed(self):
        orders = [space_of("a=shuffle(range(0,50))", seed=seed).dimensions[0] for seed in (0, 0, 1)]
        assert orders[0] == orders[1] != orders[2]
        assert sorted(map(int, orders[0].texts)) == list(range(50))
        assert not orders[0].ordered

    @pytest.mark.parametrize("argument", ["seed=0,1", "seed=choice(0,1)", "seed=range(0,2)"])
    def test_seeds_are_no_dimension(self, argument):
        space = space_of(argument)
        assert (space.seeds, space.dimensions, space.fixed) == ((0, 1), (), ())

    def test_one_seed_is_fixed(self):
        assert space_of("seed=3").fixed == ("seed=3",)
        assert space_of("seed=3").seeds == ()

    @pytest.mark.parametrize(
        ("argument", "parts"),
        [
            ("seed=interval(0,9)", ["seed=interval(0,9)", "not searched over", "seed=0,1,2"]),
            ("seed=tag(log,interval(1,9))", ["not searched over"]),
            ("seed=a,b", ["seed=a,b", "whole numbers"]),
            ("a=tag(lg,interval(1,9))", ["a=tag(lg,interval(1,9))", "'lg'", "Allowed: log"]),
            ("a=tag(log,choice(1,9))", ["the tag log goes with an interval"]),
            ("a=interval(9,1)", ["a=interval(9,1)", "not lower"]),
            ("a=interval(0,inf)", ["not lower"]),
            ("a=tag(log,interval(0,1))", ["above 0"]),
            ("a=range(1,1)", ["a=range(1,1)", "no value"]),
            ("a=intervall(1,2)", ["a=intervall(1,2)", "grammar", "Unknown function"]),
            ("a=choice(", ["a=choice(", "grammar"]),
            ("a=glob(*)", ["a=glob(*)", "list them"]),
            ("sweep.search=random,tpe", ["'sweep.search'", "as a whole"]),
            ("sweep=grid,search", ["'sweep'", "as a whole"]),
            ("hydra/launcher=a,b", ["'hydra/launcher'"]),
            ("hydra.verbose=true,false", ["'hydra.verbose'"]),
            ("existing=auto,skip", ["'existing'"]),
        ],
    )
    def test_what_cannot_be_swept_is_refused(self, argument, parts):
        with pytest.raises(ConfigError) as error:
            space_of(argument)
        assert all(part in str(error.value) for part in parts), error.value

    @pytest.mark.parametrize("first", ["a=1", "a=null", "+a=1", "++a=1"])
    def test_of_a_key_that_is_given_twice_the_last_counts(self, first):
        space = space_of(first, "b=0", "a=1,2")
        assert space.fixed == ("b=0",)
        assert [one.texts for one in space.dimensions] == [("1", "2")]
        assert space_of("a=1,2", "a=3").fixed == ("a=3",)
        assert space_of("seed=0,1", "seed=2").seeds == ()

    def test_glob_knows_the_options_where_hydra_does(self):
        class Loader:
            def get_group_options(self, group, results_filter=None):
                return {"peft": ["full", "head", "lora", "rslora"]}[group]

        space = Space.parse(["peft=glob(*lora)"], SweepSpec(), config_loader=Loader())
        assert space.dimensions == (Choice("peft", ("lora", "rslora")),)

    @pytest.mark.parametrize(
        "arguments",
        [("seed=0,1", "seed=2,3"), ("a=1,2", "b=3", "a=choice(4,5)"), ("a=interval(0,1)", "a=3,4"), ("p=x,y", "p=z,w")],
    )
    def test_a_key_that_is_swept_twice(self, arguments):
        with pytest.raises(ConfigError, match="is swept more than once: write all its values in one list"):
            space_of(*arguments)


class TestSpaceOfTheConfiguration:
    def test_adds_dimensions(self):
        space = space_of("a=1,2", space={"optimizer.lr": "tag(log, interval(1e-5, 1e-2))", "b": "x,y"})
        assert [one.key for one in space.dimensions] == ["a", "optimizer.lr", "b"]

    def test_the_command_line_goes_first(self):
        space = space_of("a=7", "+b=1,2", space={"a": "1,2", "b": "3,4"}, methods={"lora": {"b": "5,6"}}, method="lora")
        assert space.dimensions == (Choice("+b", ("1", "2"), ordered=True),)
        assert space.fixed == ("a=7",)
        assert cells_of(space) == ["+b=1", "+b=2"]

    def test_dimensions_of_a_method_hold_there_alone(self):
        space = space_of("peft=lora,head", "a=1,2", methods={"lora": {"peft.r": "4,8"}, "full": {"b": "1,2"}})
        assert cells_of(space) == [
            *("peft=lora a=1 peft.r=4", "peft=lora a=1 peft.r=8", "peft=lora a=2 peft.r=4", "peft=lora a=2 peft.r=8"),
            *("peft=head a=1", "peft=head a=2"),
        ]
        assert space.size == 6

    def test_dimensions_of_a_method_replace_common_ones(self):
        space = space_of("peft=lora,head", space={"lr": "1,2", "a": "x,y"}, methods={"head": {"lr": "30,40,50"}})
        assert {cell.split()[-1] for cell in cells_of(space) if "head" in cell} == {"lr=30", "lr=40", "lr=50"}
        assert space.size == len(set(cells_of(space))) == 2 * 2 + 3 * 2

    @pytest.mark.parametrize("arguments", [["peft=lora"], []])
    def test_the_method_may_be_fixed_or_a_default(self, arguments):
        space = space_of(*arguments, methods={"lora": {"peft.r": "4,8"}, "head": {"a": "1,2"}}, method="lora")
        assert cells_of(space) == ["peft.r=4", "peft.r=8"]

    def test_a_single_value_is_a_choice_of_one(self):
        assert cells_of(space_of("peft=lora,head", methods={"head": {"lr": "1e-3"}})) == [
            "peft=lora",
            "peft=head lr=0.001",
        ]

    @pytest.mark.parametrize(
        ("spec", "parts"),
        [
            ({"space": {"seed": "0,1"}}, ["sweep.space.seed", "not searched over", "seed=0,1,2"]),
            ({"methods": {"lora": {"seed": "0,1"}}}, ["sweep.methods.lora.seed"]),
            ({"methods": {"lora": {"peft": "a,b"}}}, ["sweep.methods.lora.peft"]),
            ({"space": {"a": "interval(2,1)"}}, ["sweep.space.a=interval(2,1)"]),
            ({"space": {"a": "interval(2"}}, ["sweep.space.a=interval(2", "grammar"]),
            ({"space": {"sweep.search": "a,b"}}, ["sweep.space.sweep.search"]),
        ],
    )
    def test_what_cannot_be_swept_is_refused(self, spec, parts):
        with pytest.raises(ConfigError) as error:
            space_of("peft=lora", **spec)
        assert all(part in str(error.value) for part in parts), error.value

    def test_methods_without_a_method_are_refused(self):
        with pytest.raises(ConfigError, match="peft=lora,head"):
            space_of("a=1,2", methods={"lora": {"r": "1,2"}, "head": {}})

    def test_a_method_that_is_none_is_refused_with_the_nearest(self):
        class Loader:
            def get_group_options(self, group, results_filter=None):
                return ["lora", "head"]

        with pytest.raises(ConfigError, match=r"sweep.methods.lroa.*Did you mean 'lora'"):
            Space.parse(["peft=lora"], SweepSpec(methods={"lroa": {"r": "1,2"}}), config_loader=Loader())


class TestGrid:
    def test_cells_come_in_order_and_seeds_change_first(self):
        assert cells_of(space_of("seed=0,1", "a=1,2", "b=x,y")) == [
            *("a=1 b=x seed=0", "a=1 b=x seed=1", "a=1 b=y seed=0", "a=1 b=y seed=1"),
            *("a=2 b=x seed=0", "a=2 b=x seed=1", "a=2 b=y seed=0", "a=2 b=y seed=1"),
        ]

    def test_without_dimensions_there_is_one_cell(self):
        assert [proposal.overrides for proposal in grid(space_of("a=1"))] == [()]

    @pytest.mark.parametrize("text", ["interval(0.1,0.2)", "interval(1,3)"])
    def test_an_interval_asks_for_a_search(self, text):
        with pytest.raises(ConfigError, match=r"a: an interval has no cells.*sweep=search"):
            grid(space_of(f"a={text}"))


few = settings(max_examples=25, deadline=None)  # Hydra's parser takes milliseconds
KEYS = st.sampled_from(["a", "optimizer.lr", "+x.y", "++z", "group@package.of"])
TEXTS = st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs", "Zl", "Zp"]), max_size=8)
FLOATS = st.floats(allow_nan=False, allow_infinity=False)


def quoted(text):
    """As a user would quote it for Hydra."""
    return "'" + text.replace("'", r"\'") + "'"


class TestRoundTrip:
    @pytest.mark.slow
    @few
    @given(
        KEYS,
        st.lists(st.one_of(FLOATS, st.integers(), st.booleans(), st.none()), min_size=2, max_size=5, unique_by=repr),
    )
    def test_plain_values(self, key, values):
        written = ["null" if value is None else repr(value) for value in values]
        space = space_of(f"{key}={','.join(written)}")
        for value, proposal in itertools.zip_longest(values, grid(space)):
            found = hydra_reads(*proposal.overrides)
            assert (type(found), repr(found)) == (type(value), repr(value))
            assert space.params_of(proposal.overrides) == ({key: proposal.overrides[0].partition("=")[2]}, None)

    @pytest.mark.slow
    @few
    @given(KEYS, st.lists(TEXTS, min_size=2, max_size=4, unique=True))
    def test_texts(self, key, values):
        assume(not any("\\" in value for value in values))  # how to quote those for Hydra is the user's business
        space = space_of(f"{key}={','.join(map(quoted, values))}")
        assert [hydra_reads(*proposal.overrides) for proposal in grid(space)] == values

    @pytest.mark.slow
    @few
    @given(st.lists(st.lists(st.integers() | FLOATS | TEXTS.filter(str.isalpha), max_size=3), min_size=2, max_size=4))
    def test_lists(self, values):
        def reads(value):
            return hydra_reads("a=[" + ",".join(quoted(v) if isinstance(v, str) else repr(v) for v in value) + "]")

        written = [
            "[" + ",".join(quoted(v) if isinstance(v, str) else repr(v) for v in value) + "]" for value in values
        ]
        space = space_of(f"a=choice({','.join(written)})")
        found = [repr(hydra_reads(*proposal.overrides)) for proposal in grid(space)]
        assert found == list(dict.fromkeys(repr(reads(value)) for value in values))

    @pytest.mark.slow
    @few
    @given(FLOATS, FLOATS, st.floats(0, 1))
    def test_numbers_of_an_interval(self, one, other, share):
        low, high = sorted([one, other])
        value = min(max(low + share * (high / 2 - low / 2) * 2, low), high)
        assume(math.isfinite(value))
        space = space_of(f"a=interval({low!r},{high!r})")
        overrides = space.overrides_of({"a": value})
        assert repr(hydra_reads(*overrides)) == repr(value)
        assert space.params_of(overrides) == ({"a": value}, None)

    @pytest.mark.slow
    @few
    @given(st.integers(), st.integers(), st.data())
    def test_whole_numbers_of_an_interval(self, one, other, data):
        low, high = sorted([one, other])
        space = space_of(f"a=interval({low},{high})")
        value = data.draw(st.integers(low, high))
        overrides = space.overrides_of({"a": value})
        assert hydra_reads(*overrides) == value
        assert space.params_of(overrides) == ({"a": value}, None)


class TestParamsOf:
    SPACE = space_of(
        "peft=lora,head",
        "lr=tag(log,interval(1e-5,1e-2))",
        "seed=0,1",
        methods={"lora": {"r": "interval(4,8)", "b": "x,y"}},
    )

    @pytest.mark.parametrize(
        ("overrides", "params", "seed"),
        [
            ("peft=head lr=0.001 seed=1", {"peft": "head", "lr": 0.001}, 1),
            ("seed=0 lr=1e-3 peft=head", {"peft": "head", "lr": 0.001}, 0),
            ("peft=lora lr=0.01 r=4 b=x seed=1", {"peft": "lora", "lr": 0.01, "r": 4, "b": "x"}, 1),
            ("peft='lora' lr=0.01 r=4 b=x seed=1", None, None),  # another value: a quoted text is no option's name
            ("peft=head lr=0.001 seed=2", None, None),
            ("peft=head lr=0.001", None, None),
            ("peft=head lr=0.1 seed=1", None, None),
            ("peft=head lr=high seed=1", None, None),
            ("peft=full lr=0.001 seed=1", None, None),
            ("peft=head lr=0.001 r=4 seed=1", None, None),
            ("peft=lora lr=0.001 r=4 seed=1", None, None),
            ("peft=lora lr=0.001 r=4.5 b=x seed=1", None, None),
            ("peft=lora lr=0.001 r=9 b=x seed=1", None, None),
            ("peft=lora lr=0.001 r=4 b=z seed=1", None, None),
            ("peft=head lr=0.001 lr=0.001 seed=1", None, None),
            ("", None, None),
        ],
    )
    def test_gives_the_point_or_nothing(self, overrides, params, seed):
        assert self.SPACE.params_of(overrides.split()) == (params and (params, seed))

    def test_values_are_told_however_they_are_written(self):
        assert space_of("a=1e-4,3e-4").params_of(["a=1e-4"]) == ({"a": "0.0001"}, None)

    def test_the_example_is_a_point(self):
        params, seed = self.SPACE.params_of(self.SPACE.example())
        assert self.SPACE.overrides_of(params, seed) == self.SPACE.example()

    def test_within_a_method(self):
        lora = self.SPACE.within("lora")
        assert [one.key for one in lora.dimensions] == ["peft", "lr", "r", "b"]
        assert lora.params_of(["peft=head", "lr=0.001", "seed=1"]) is None
        assert lora.params_of(["peft=lora", "lr=0.001", "r=5", "b=y", "seed=1"]) is not None


def test_what_takes_a_key_away_stays_beside_what_puts_it_back():
    arguments = ["~callbacks.progress", "+callbacks.progress={a: 1}", "lr=1", "lr=2"]
    assert Space.parse(arguments, SweepSpec()).fixed == ("~callbacks.progress", "+callbacks.progress={a: 1}", "lr=2")


@pytest.mark.parametrize(
    "arguments",
    [
        ["peft=combined", "peft@peft.first=houlsby", "peft@peft.second=lora"],
        ["semi=fixmatch", "augment=swap", "augment@semi.strong.swap=typo", "+augment@semi.weak.typo=typo"],
    ],
    ids=" ".join,
)
def test_choices_from_one_group_for_several_packages_are_all_kept(arguments):
    assert Space.parse([*arguments, "seed=0,1"], SweepSpec()).fixed == tuple(arguments)


def test_such_choices_may_be_swept_each():
    space = Space.parse(["peft=combined", "peft@peft.first=houlsby,lora", "peft@peft.second=bitfit,ia3"], SweepSpec())
    assert [one.key for one in space.dimensions] == ["peft@peft.first", "peft@peft.second"]
