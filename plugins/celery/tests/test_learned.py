"""Which queue the tasks of a name go to; the clock is simulated."""

from __future__ import annotations

from taskq_exporter_celery.learned import LASTS, NAMES, Learned


def test_a_name_has_a_queue_until_it_is_seen_in_another() -> None:
    learned = Learned()
    assert learned.queue("t") == ""
    learned.learn("t", "a")
    assert learned.queue("t") == "a"
    learned.learn("t", "b")
    learned.learn("t", "b")
    assert learned.queue("t") == ""


def test_what_a_generation_knew_is_known_in_the_next_and_then_forgotten() -> None:
    learned = Learned()
    learned.sweep(1e9)
    for name, queues in {"used": "a", "unused": "a", "moved": "a", "two": "ab"}.items():
        for queue in queues:
            learned.learn(name, queue)
    learned.sweep(1e9 + LASTS)
    assert [learned.queue(name) for name in ("used", "unused", "two")] == ["a", "a", ""]
    for name, queue in {"used": "a", "moved": "b", "two": "a"}.items():
        learned.learn(name, queue)
    assert learned.queue("moved") == learned.queue("two") == ""
    learned.sweep(1e9 + 2 * LASTS)
    assert [learned.queue(name) for name in ("used", "unused")] == ["a", ""]


def test_names_that_never_end_are_learned_up_to_a_limit() -> None:
    learned = Learned()
    for generation in range(3):
        learned.sweep(1e9 + generation * LASTS)
        for i in range(NAMES + 1):
            learned.learn(f"{generation}-{i}", "a")
        assert learned.queue(f"{generation}-0") == "a"
        assert learned.queue(f"{generation}-{NAMES}") == ""
