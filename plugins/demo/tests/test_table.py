"""The table of the queues, from pages as the exporter writes them."""

from __future__ import annotations

from taskq_exporter_demo.table import follows, has_run, render, rows

PAGE = """\
# TYPE taskq_tasks gauge
taskq_tasks{source="shop",queue="emails",state="ready"} 12
taskq_tasks{source="shop",queue="emails",state="running"} 2
taskq_tasks{source="shop",queue="emails",state="failed"} 7
taskq_tasks{source="web",queue="default",state="ready"} 0
# TYPE taskq_oldest_task_age_seconds gauge
taskq_oldest_task_age_seconds{source="shop",queue="emails",state="ready"} 3.6
taskq_oldest_task_age_seconds{source="shop",queue="emails",state="running"} 60
# TYPE taskq_tasks_finished counter
taskq_tasks_finished_total{source="shop",queue="emails",task="a",outcome="succeeded"} 4
taskq_tasks_finished_total{source="shop",queue="emails",task="b",outcome="succeeded"} 5
taskq_tasks_finished_total{source="shop",queue="emails",task="b",outcome="failed"} 1
taskq_tasks_finished_total{source="web",queue="default",task="c",outcome="succeeded"} 3
taskq_tasks_finished_total{source="web",queue="default",task="c",outcome="failed"} 0
"""


def test_adds_up_tasks_and_leaves_out_what_is_not_known() -> None:
    assert [line.split() for line in render(rows(PAGE))] == [
        ["source", "queue", "ready", "scheduled", "running", "oldest", "done", "failed", "retried"],
        ["shop", "emails", "12", "-", "2", "4s", "9", "1", "-"],
        ["web", "default", "0", "-", "-", "-", "3", "0", "-"],
    ]


def test_columns_are_aligned() -> None:
    assert len({len(line) for line in render(rows(PAGE))}) == 1


def test_has_run_wants_a_success_and_a_failure_of_each() -> None:
    assert has_run(PAGE, ["shop"])
    assert not has_run(PAGE, ["shop", "web"]), "no failure yet"
    assert not has_run(PAGE, ["shop", "billing"]), "not on the page"
    assert not has_run("", ["shop"])


def test_follows_wants_a_follower_of_each() -> None:
    page = 'taskq_source_follower_up{source="shop"} 1\ntaskq_source_follower_up{source="web"} 0\n'
    assert follows(page, ["shop"])
    assert not follows(page, ["shop", "web"])
    assert not follows("", ["shop"])
