"""Whether a scheduler lives, by what is heard of it; the clock is simulated."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from taskq_exporter_celery.options import CeleryOptions
from taskq_exporter_celery.schedulers import LIMIT, Schedulers

from taskq_exporter.adapters import Adapters
from taskq_exporter.config.load import load_config
from taskq_exporter.config.sources import ConfigError

DAY = 86400.0
ORIGIN = "gen7@beat-host"
NODE = "celerybeat@beat-host"


class World:
    """Schedulers, a clock, and a checkpoint that is written as the follower does."""

    def __init__(self, *schedulers: dict[str, Any]) -> None:
        self.options = CeleryOptions(schedulers=schedulers)  # type: ignore[arg-type]
        self.now = 1_000_000.0
        self.kept = "null"
        self.start()

    def start(self) -> None:
        """Start, from the checkpoint where there is one."""
        self.it = Schedulers(self.options, ttl=DAY, now=self.now)
        self.it.restore(json.loads(self.kept))
        self.it.resume(self.now)

    def wait(self, seconds: float, step: float = 0.5) -> None:
        until = self.now + seconds
        while self.now < until:
            self.now = min(self.now + step, until)
            if (kept := self.it.sweep(self.now)) is not None:
                self.kept = json.dumps(kept)

    def ask(self, *nodes: str) -> None:
        """A round of remote control, 30 s after the last."""
        self.wait(30)
        self.it.answered(nodes, self.now)
        self.wait(0.5)

    def up(self) -> dict[str, bool | None]:
        return {s.name: s.up for s in self.it.stats()}

    def beats(self) -> dict[str, float | None]:
        return {s.name: s.last_beat for s in self.it.stats()}

    def advice(self) -> list[str]:
        return [f"{f.level}: {f.text}" for f in self.it.findings()]


def test_one_that_nobody_knows_of_is_not_shown() -> None:
    world = World()
    world.it.sent("t", ORIGIN, world.now)
    world.ask()
    assert world.up() == {}
    assert world.it.findings() == []


def test_a_configured_one_is_shown_before_it_is_heard_of_and_down_after_its_silence() -> None:
    world = World({"name": "beat", "max_silence": "2m"})
    assert (world.up(), world.beats()) == ({"beat": None}, {"beat": 0.0})
    world.wait(119)
    assert world.up() == {"beat": None}
    world.wait(2)
    assert (world.up(), world.beats()) == ({"beat": False}, {"beat": 0.0})


def test_the_tasks_that_it_sends_are_its_signs_of_life() -> None:
    world = World({"name": "beat", "max_silence": 120, "tasks": ["tick*"]})
    world.it.sent("tick.a", ORIGIN, world.now)
    heard = world.now
    for _ in range(5):
        world.wait(50)
        world.it.sent("other", ORIGIN, world.now)
        assert world.beats() == {"beat": heard}
        assert world.up() == {"beat": world.now - heard <= 120}
    world.it.sent("tick.b", "gen8@elsewhere", world.now)
    world.wait(0.5)
    assert world.up() == {"beat": True}


def test_each_scheduler_has_its_own_tasks() -> None:
    world = World(
        {"name": "a", "max_silence": 60, "tasks": ["a.*"]}, {"name": "b", "max_silence": 60, "tasks": ["b.*"]}
    )
    for _ in range(3):
        world.wait(30)
        world.it.sent("a.x", ORIGIN, world.now)
    world.wait(1)
    assert world.up() == {"a": True, "b": False}


def test_a_nightly_schedule_is_silent_all_day_and_not_down() -> None:
    world = World()
    world.it.learned(ORIGIN)
    world.it.sent("nightly", ORIGIN, world.now)
    heard = world.now
    world.wait(DAY - 60, step=30)
    assert (world.up(), world.beats()) == ({"beat": None}, {"beat": heard})
    assert [line.split(":")[0] for line in world.advice()] == ["note"], "it may be made to tell"
    world.it.sent("nightly", ORIGIN, world.now)
    world.wait(DAY - 60, step=30)
    assert world.beats() == {"beat": heard + DAY - 60}


def test_the_message_that_teaches_who_is_a_beat_was_its_beat() -> None:
    """Its task-sent came before anybody looked at the message."""
    world = World()
    world.it.sent("nightly", ORIGIN, world.now)
    sent = world.now
    world.wait(3)
    world.it.sent("t", "gen9@web", world.now)
    world.it.learned(ORIGIN)
    assert world.beats() == {"beat": sent}
    world.wait(3)
    world.it.sent("another", ORIGIN, world.now)
    assert world.beats() == {"beat": world.now}


def test_answers_to_pings() -> None:
    """One round without an answer is no death, the second is; another host is the same beat."""
    world = World()
    world.ask(NODE)
    assert world.up() == {"beat": True}
    world.ask()
    assert world.up() == {"beat": True}
    answered = world.beats()["beat"]
    world.ask()
    assert world.up() == {"beat": False}
    assert world.beats() == {"beat": answered}
    assert world.advice()[0].startswith("problem: beat is down: it answers no ping, for ")
    world.ask("celerybeat@another")
    assert world.up() == {"beat": True}


def test_rounds_in_quick_succession_are_one() -> None:
    """Workers that start make us ask; meanwhile a beat may be connecting to the broker anew."""
    world = World()
    world.ask(NODE)
    for _ in range(10):
        world.wait(1)
        world.it.answered(["celery@w"], world.now)
    assert world.up() == {"beat": True}
    world.ask()
    assert world.up() == {"beat": False}


def test_where_no_round_succeeds_any_more_it_is_not_known() -> None:
    """The right to ask was taken away: what was true must not be said for ever."""
    world = World()
    world.ask(NODE)
    world.wait(60)
    assert world.up() == {"beat": True}
    world.wait(61)
    assert world.up() == {"beat": None}


def test_one_that_answers_no_more_and_sends_lives() -> None:
    """It was started anew without remote control."""
    world = World()
    world.ask(NODE)
    world.it.learned(ORIGIN)
    world.ask()
    world.ask()
    assert world.up() == {"beat": False}
    world.it.sent("t", ORIGIN, world.now)
    assert world.up() == {"beat": None}
    world.ask()
    world.ask()
    assert world.up() == {"beat": None}


def test_answers_are_signs_of_life_of_the_one_that_is_configured() -> None:
    world = World({"name": "cron", "max_silence": "2m"})
    for _ in range(6):
        world.ask(NODE)
        assert world.up() == {"cron": True}
    for _ in range(2):
        world.ask()
    assert world.up() == {"cron": False}, "before max_silence has passed: it answers no more"


@pytest.mark.parametrize("down_time", [1, 10_000])
def test_a_dead_one_stays_dead_after_a_restart(down_time: float) -> None:
    world = World({"name": "beat", "max_silence": "2m"})
    world.it.sent("t", ORIGIN, world.now)
    world.it.learned(ORIGIN)
    heard = world.now
    world.wait(121)
    assert world.up() == {"beat": False}
    world.now += down_time
    world.start()
    for _ in range(3):
        assert (world.up(), world.beats()) == ({"beat": False}, {"beat": heard})
        world.wait(1)
    world.it.sent("t", ORIGIN, world.now)
    world.wait(0.5)
    assert world.up() == {"beat": True}, "its producer is remembered"


def test_one_that_died_without_pings_stays_dead_after_a_restart() -> None:
    world = World()
    world.ask(NODE)
    world.ask()
    world.ask()
    heard = world.beats()
    world.now += 3600
    world.start()
    assert (world.up(), world.beats()) == ({"beat": False}, heard)
    world.ask()
    assert world.up() == {"beat": False}
    world.ask(NODE)
    assert world.up() == {"beat": True}


def test_one_that_dies_while_we_are_down_is_down_after_two_rounds() -> None:
    world = World()
    world.ask(NODE)
    world.start()
    assert world.up() == {"beat": None}, "not asked yet"
    world.ask()
    world.ask()
    assert world.up() == {"beat": False}


def test_nobody_is_silent_while_we_are_deaf() -> None:
    """A live one is not declared dead because the exporter, or its connection, was away."""
    world = World({"name": "beat", "max_silence": "2m", "tasks": ["t"]})
    world.it.sent("t", ORIGIN, world.now)
    world.wait(60)
    for restart in (world.start, lambda: world.it.resume(world.now)):
        world.now += 3600
        restart()
        world.wait(0.5)
        assert world.up() == {"beat": True}
    world.wait(121)
    assert world.up() == {"beat": False}


def test_redbeats_keys_decide() -> None:
    """Whether it lives is told by due times, which collect reads; pings and sent tasks are its."""
    world = World()
    world.ask(NODE)
    world.it.redbeat(True, 5.0)
    assert (world.up(), list(world.beats())) == ({"redbeat": None}, ["redbeat"])
    assert world.beats()["redbeat"] > 5, "it answered later than an entry ran"
    world.ask()
    world.ask()
    assert world.up() == {"redbeat": None}
    assert world.it.findings() == []
    world.it.redbeat(False, None)
    assert world.up() == {"redbeat": False}, "it was here, and is gone"
    world.wait(0.5)
    world.start()
    world.it.redbeat(False, None)
    assert world.up() == {"redbeat": False}


def test_redbeat_beside_a_celery_beat_that_is_configured() -> None:
    world = World({"name": "beat", "max_silence": "2m"})
    world.it.redbeat(True, 5.0)
    world.ask(NODE)
    assert world.up() == {"beat": True, "redbeat": None}
    assert world.beats()["redbeat"] == 5.0


def test_what_is_gone_is_forgotten() -> None:
    world = World({"name": "kept", "max_silence": "2m", "tasks": ["t"]}, {"name": "beat"})
    world.it.redbeat(True, 5.0)
    assert list(world.up()) == ["kept", "beat", "redbeat"]
    world.it.redbeat(False, None)
    world.wait(DAY + 120, step=30)
    assert list(world.up()) == ["kept", "beat"]
    unconfigured = World()
    unconfigured.ask(NODE)
    unconfigured.wait(DAY + 120, step=30)
    assert unconfigured.up() == {}
    assert json.loads(unconfigured.kept)["known"] == {}


def test_a_checkpoint_is_told_what_changed_and_the_time_once_a_minute() -> None:
    world = World({"name": "beat", "max_silence": "2m", "tasks": ["t"]})
    world.wait(0.5)
    world.kept = "null"
    world.wait(59)
    assert world.kept == "null"
    world.wait(2)
    assert world.kept != "null"
    world.kept = "null"
    world.it.sent("t", ORIGIN, world.now)
    world.wait(0.5)
    assert json.loads(world.kept)["known"]["beat"][0] == world.now - 0.5


@pytest.mark.parametrize("state", [None, 7, [], {}, {"known": {"beat": [1]}}, {"known": {"a": None}, "listened": 1}])
def test_a_checkpoint_of_something_else(state: Any) -> None:
    it = Schedulers(CeleryOptions(), ttl=DAY, now=1.0)
    it.restore(state)
    it.resume(2.0)
    assert it.sweep(3.0) is not None


def test_hostile_names_do_not_fill_the_memory() -> None:
    it = Schedulers(CeleryOptions(schedulers=[{"name": "beat", "tasks": ["*x"]}]), ttl=DAY, now=1.0)  # type: ignore[list-item]
    for i in range(3 * LIMIT):
        it.sent(f"task{i}", f"gen{i}@h", 1.0)
        it.learned(f"gen{i}@h")
    assert max(len(it._sent), len(it._origins), len(it._by_task)) <= LIMIT


@pytest.mark.parametrize(
    ("written", "message"),
    [
        ("schedulers: [{name: beat}, {name: beat}]", "5:17: schedulers: the scheduler beat is there twice"),
        (
            "schedulers: [{name: a}, {name: b, tasks: [x]}]",
            "5:17: schedulers: of several schedulers, a is only told apart by its tasks: name them",
        ),
        ("schedulers: [{max_silence: 2m}]", "5:18: missing key 'name'"),
        ("schedulers: [{name: beat, max_silence: 0}]", "5:44: schedulers.0.max_silence: must be greater than 0"),
        (
            "schedulers: [{name: beat, max_silnce: 2m}]",
            "5:31: unknown key 'max_silnce'; did you mean 'max_silence'?",
        ),
        ("schedulers: beat", "5:17: schedulers: must be a list"),
        ("redbeat: maybe", "5:14: redbeat: must be 'auto', True or False"),
    ],
)
def test_what_is_wrong_in_the_configuration_is_said(written: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(f"sources:\n  - name: shop\n    adapter: celery\n    url: redis://h\n    {written}\n")
    with pytest.raises(ConfigError) as caught:
        load_config(path, Adapters(), {})
    assert str(caught.value) == f"{path}:{message}"
