"""A plugin that breaks the contract does not load, and says why; the other ones do."""

from __future__ import annotations

from collections.abc import Iterator
from math import inf
from typing import Any, ClassVar

import pytest
from fakes import adapters

from taskq_exporter.adapters import LoadError
from taskq_exporter.api import AdapterError, Family, Options, Reason, Snapshot


class CoreName(Options):
    timeout: int = 1


class CoreNameOfMany(Options):
    expands: ClassVar = {"queues": "queue"}
    queue: str = ""


def fails() -> Any:
    raise RuntimeError("broken plugin")


def family(
    name: str = "taskq_fake_x", kind: Any = "gauge", labels: tuple[str, ...] = (), buckets: tuple[float, ...] = ()
) -> Family:
    return Family(name=name, kind=kind, help="Help.", labels=labels, buckets=buckets)


def load(**hooks: Any) -> Any:
    return adapters(fake={"collect": lambda: Snapshot(), **hooks}).get("fake")


@pytest.mark.parametrize(
    ("hooks", "message"),
    [
        ({"options": fails}, "options() or families() failed: RuntimeError: broken plugin"),
        ({"families": fails}, "options() or families() failed: RuntimeError: broken plugin"),
        ({"families": lambda: ["taskq_fake_x"]}, "options() or families() failed: AttributeError"),
        ({"options": lambda: dict}, "options() must return a subclass of taskq_exporter.api.Options"),
        ({"options": lambda: CoreName}, "its option 'timeout' has the name of a core option"),
        ({"options": lambda: CoreNameOfMany}, "its option 'queues' has the name of a core option"),
        (
            {"families": lambda: [family("taskq_other_x")]},
            "not a gauge, counter or histogram taskq_fake_…",
        ),
        ({"families": lambda: [family("taskq_fake_x y")]}, "'taskq_fake_x y' is not a gauge, counter"),
        ({"families": lambda: [family(kind="histogram")]}, "histograms, and only they, have buckets"),
        ({"families": lambda: [family(kind="gauge", buckets=(1.0,))]}, "histograms, and only they, have buckets"),
        ({"families": lambda: [family(kind="histogram", buckets=(1.0, 1.0))]}, "have buckets, which rise"),
        ({"families": lambda: [family(kind="histogram", buckets=(1.0, inf))]}, "without +Inf"),
        ({"families": lambda: [family(labels=("le",))]}, "'le' cannot be a label of it"),
        ({"families": lambda: [family(kind="counter")]}, "counters, and only they, are named …_total"),
        ({"families": lambda: [family("taskq_fake_x_total")]}, "counters, and only they, are named …_total"),
        ({"families": lambda: [family(labels=("source",))]}, "'source' cannot be a label of it"),
        ({"families": lambda: [family(labels=("a-b",))]}, "'a-b' cannot be a label of it"),
        ({"families": lambda: [family(labels=("__a",))]}, "'__a' cannot be a label of it"),
        ({"families": lambda: [family(labels=("a", "a"))]}, "stands twice"),
        ({"families": lambda: [family(), family()]}, "stands twice"),
    ],
)
def test_a_broken_contract_is_a_load_error(hooks: dict[str, Any], message: str) -> None:
    with pytest.raises(LoadError) as caught:
        load(**hooks)
    assert str(caught.value).startswith("adapter 'fake'")
    assert message in str(caught.value)


def test_one_broken_plugin_is_a_line_among_the_others() -> None:
    good = {"collect": lambda: Snapshot()}
    rows = adapters(bad={**good, "options": fails}, good=good).describe()
    assert [(name, bool(error)) for name, *_, error in rows] == [("bad", True), ("good", False)]


def test_families_may_come_one_by_one() -> None:
    def families() -> Iterator[Family]:
        yield family()
        yield family("taskq_fake_y_total", "counter", ("queue",))

    assert list(load(families=families).families) == ["taskq_fake_x", "taskq_fake_y_total"]


def test_a_reason_may_be_its_word() -> None:
    assert AdapterError("busy", "locked").reason is Reason.BUSY
    with pytest.raises(ValueError, match="weather"):
        AdapterError("weather", "rain")
