from __future__ import annotations

from collections import Counter

import pytest

from taskq_exporter.config.shard import Shard

NAMES = [f"team-{i}/queue-{i % 7}" for i in range(2000)]


def owners(count: int) -> dict[str, int]:
    shards = [Shard(i, count) for i in range(count)]
    found = {name: [shard.index for shard in shards if shard.has(name)] for name in NAMES}
    assert all(len(owning) == 1 for owning in found.values())  # each source is watched once
    return {name: owning[0] for name, owning in found.items()}


def test_the_shares_are_even_and_stable() -> None:
    owned = owners(5)
    assert all(330 < n < 470 for n in Counter(owned.values()).values())
    assert [owned[name] for name in NAMES[:8]] == [0, 2, 2, 3, 2, 3, 1, 3]  # the same in every process and version


def test_one_more_share_takes_only_its_own() -> None:
    five, six = owners(5), owners(6)
    moved = {name for name in NAMES if five[name] != six[name]}
    assert moved == {name for name in NAMES if six[name] == 5}


def test_one_exporter_has_all() -> None:
    assert all(Shard().has(name) for name in NAMES)


@pytest.mark.parametrize(
    ("text", "hostname", "shard"),
    [("0/1", "", "0/1"), ("2/3", "exporter-0", "2/3"), ("hostname/3", "taskq-exporter-2", "2/3")],
)
def test_how_a_share_is_named(text: str, hostname: str, shard: str) -> None:
    assert str(Shard.parse(text, hostname)) == shard


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("3/3", "from 0 to 2"),
        ("0/0", "from 0 to 0"),
        ("1", "not I/N"),
        ("-1/3", "not I/N"),
        ("hostname/3", "'web' does not end in -NUMBER"),
    ],
)
def test_what_is_no_share(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Shard.parse(text, "web")
