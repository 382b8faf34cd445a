"""What the demo waits for, from pages as the exporter writes them."""

from __future__ import annotations

from taskq_exporter_demo.pages import follows, has_run

PAGE = """\
# TYPE taskq_tasks gauge
taskq_tasks{source="shop",queue="emails",state="ready"} 0
taskq_tasks{source="web",queue="default",state="ready"} 0
# TYPE taskq_tasks_finished counter
taskq_tasks_finished_total{source="shop",queue="emails",task="a",outcome="succeeded"} 4
taskq_tasks_finished_total{source="shop",queue="emails",task="b",outcome="failed"} 1
taskq_tasks_finished_total{source="web",queue="default",task="c",outcome="succeeded"} 3
taskq_tasks_finished_total{source="web",queue="default",task="c",outcome="failed"} 0
"""


def test_has_run_wants_a_success_and_a_failure_of_each() -> None:
    assert has_run(PAGE, ["shop"])
    assert not has_run(PAGE, ["shop", "web"]), "no failure yet"
    assert not has_run(PAGE, ["shop", "billing"]), "not on the page"
    assert not has_run(PAGE.replace('taskq_tasks{source="shop"', 'taskq_tasks{source="other"'), ["shop"])
    assert not has_run("", ["shop"])


def test_follows_wants_a_follower_of_each() -> None:
    page = 'taskq_source_follower_up{source="shop"} 1\ntaskq_source_follower_up{source="web"} 0\n'
    assert follows(page, ["shop"])
    assert not follows(page, ["shop", "web"])
    assert not follows("", ["shop"])
