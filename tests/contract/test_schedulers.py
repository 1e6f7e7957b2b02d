"""What every schedule of ``conf/scheduler/`` must hold. A new file there is tested without a change here."""

from __future__ import annotations

import pytest
import torch
from omegaconf import OmegaConf

from peftlab.composing.compose import conf_dir
from peftlab.errors import ConfigError

FILES = {path.stem: OmegaConf.load(path) for path in sorted((conf_dir() / "scheduler").glob("*.yaml"))}
TOTAL = 100


def optimizer_of(*rates):
    return torch.optim.SGD([{"params": [torch.nn.Parameter(torch.zeros(1))], "lr": lr} for lr in rates])


def rates(schedule, total=TOTAL, lr=1.0):
    """The learning rate of every step, and the one after the last."""
    optimizer = optimizer_of(lr)
    scheduler = schedule.attach(optimizer, total)
    found = [optimizer.param_groups[0]["lr"]]
    for _ in range(total):
        optimizer.step()
        scheduler.step()
        found.append(optimizer.param_groups[0]["lr"])
    return found


@pytest.fixture
def schedule(spec):
    return lambda name, *overrides: spec(f"scheduler={name}", *overrides).scheduler


@pytest.mark.parametrize("name", FILES)
class TestEverySchedule:
    @pytest.mark.one_in(3, "slow")
    @pytest.mark.parametrize(
        ("steps", "fraction", "peak"), [("null", 0.1, 10), (25, "null", 25), ("null", "null", 0), (0, "null", 0)]
    )
    def test_it_rises_in_a_straight_line_and_never_again(self, name, steps, fraction, peak, schedule):
        found = rates(schedule(name, f"scheduler.warmup_steps={steps}", f"scheduler.warmup_fraction={fraction}"))
        assert found[:peak] == pytest.approx([step / peak for step in range(peak)])
        assert found[peak] == 1
        assert all(a >= b for a, b in zip(found[peak:], found[peak + 1 :], strict=False))
        assert all(0 <= rate <= 1 for rate in found)

    def test_as_it_stands_it_has_a_warmup(self, name, schedule):
        found = rates(schedule(name))
        assert found[0] == 0
        assert max(found) == 1

    def test_the_highest_rate_scales_all_others(self, name, schedule):
        assert rates(schedule(name), lr=3e-4) == pytest.approx([3e-4 * rate for rate in rates(schedule(name))])

    def test_groups_keep_their_own_rates(self, name, schedule):
        optimizer = optimizer_of(0.1, 0.7)
        scheduler = schedule(name).attach(optimizer, TOTAL)
        for _ in range(TOTAL):
            optimizer.step()
            scheduler.step()
            first, second = (group["lr"] for group in optimizer.param_groups)
            assert second == pytest.approx(7 * first)

    def test_it_goes_on_from_its_state_as_if_never_stopped(self, name, schedule):
        expected = rates(schedule(name))
        optimizer = optimizer_of(1.0)
        scheduler = schedule(name).attach(optimizer, TOTAL)
        for _ in range(40):
            optimizer.step()
            scheduler.step()
        resumed = optimizer_of(1.0)
        again = schedule(name).attach(resumed, TOTAL)
        resumed.load_state_dict(optimizer.state_dict())
        again.load_state_dict(scheduler.state_dict())
        for step in range(40, TOTAL):
            assert resumed.param_groups[0]["lr"] == expected[step]
            resumed.step()
            again.step()

    @pytest.mark.parametrize("total", [1, 2, 7])
    def test_the_shortest_runs(self, name, total, schedule):
        found = rates(schedule(name), total)
        assert all(0 <= rate <= 1 for rate in found)
        assert max(found) == 1

    def test_two_warmups_are_one_too_many(self, name, schedule):
        with pytest.raises(ConfigError, match="give warmup_steps or warmup_fraction, not both"):
            schedule(name, "scheduler.warmup_steps=5", "scheduler.warmup_fraction=0.1")


@pytest.mark.parametrize("name", [name for name, file in FILES.items() if "min_factor" in file])
def test_the_least_rate_is_where_it_ends(name, schedule):
    found = rates(schedule(name, "scheduler.min_factor=0.25"))
    assert found[-1] == pytest.approx(0.25)
    assert min(found[10:]) == pytest.approx(0.25)  # after the warm-up
