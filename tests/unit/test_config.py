from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import pytest
from fakes import adapters

from taskq_exporter.api import AdapterError, Options, Snapshot
from taskq_exporter.config.durations import duration
from taskq_exporter.config.load import load_config
from taskq_exporter.config.sources import ConfigError, make_source
from taskq_exporter.log import redact

DATA = Path(__file__).parents[1] / "data" / "config"


class FakeOptions(Options):
    expands: ClassVar = {"aliases": "alias"}
    core_defaults: ClassVar = {"duty_cycle": 0.05}
    schemes: ClassVar = ("fake", "x", "redis", "postgresql")
    alias: str = "default"
    depth: int = 1
    prefix: str = "p"


ADAPTERS = adapters(fake={"collect": lambda: Snapshot(), "options": lambda: FakeOptions})


def load(path: Path, **env: str) -> Any:
    return load_config(path, ADAPTERS, {"EMPTY": "", **env})


@pytest.mark.parametrize("path", sorted(DATA.glob("invalid-*.yml")), ids=lambda p: p.stem)
def test_every_invalid_file_has_its_exact_message(path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        load(path)
    assert str(caught.value).replace(f"{path}:", "") + "\n" == path.with_suffix(".txt").read_text()


def test_every_message_belongs_to_a_file() -> None:
    assert {p.stem for p in DATA.glob("*.txt")} == {p.stem for p in DATA.glob("*.yml")}


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "config.yaml"
    path.write_text(text)
    return path


def test_a_good_file(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        """
defaults: {timeout: 2s, queue_ttl: 1h}
state: {dir: /var/lib/x}
sources:
  - &one
    name: shop
    adapter: fake
    url: redis://${USER_NAME}:$$ecret@host/${DB:-3}
    queues: {exclude: ["tmp.*"], expected: [emails]}
    prefix: acme
  - <<: *one
    name: web
    timeout: 1m30s
    duty_cycle: 0.5
""",
    )
    config = load(path, USER_NAME="me")
    shop, web = config.sources
    source = make_source(shop)
    assert source.url() == "redis://me:$ecret@host/3"
    assert (source.timeout, source.queue_ttl, shop.config.duty_cycle) == (2.0, 3600.0, 0.05)
    assert (web.config.timeout, web.config.duty_cycle) == (90.0, 0.5)
    assert shop.options.prefix == "acme"
    assert source.queues.wants("emails")
    assert not source.queues.wants("tmp.1")
    assert str(config.state_dir) == "/var/lib/x"
    assert "ecret" not in repr(source) + repr(shop.config) + repr(config)


def test_an_empty_variable_is_set(tmp_path: Path) -> None:
    entry = "prefix: '${EMPTY}', alias: '${EMPTY:-other}', depth: '${UNSET:-2}'"
    [source] = load(write(tmp_path, f"sources: [{{name: a, adapter: fake, url: 'x://h', {entry}}}]")).sources
    assert (source.options.prefix, source.options.alias, source.options.depth) == ("", "other", 2)


def test_nesting_without_end_is_a_message(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="nested more than 100 deep"):
        load(write(tmp_path, "sources: " + "[" * 100_000 + "]" * 100_000))


def test_the_password_of_a_file_that_is_refused_is_known(tmp_path: Path) -> None:
    with pytest.raises(ConfigError):
        load(write(tmp_path, "sources: [{name: a, adapter: nope, url: 'x://u:correct-horse@h'}]"))
    assert redact("correct-horse") == "***"


def test_one_entry_expands_into_several_sources(tmp_path: Path) -> None:
    path = write(tmp_path, "sources: [{name: web, adapter: fake, url: 'x://h', aliases: [default, low], depth: 2}]")
    sources = load(path).sources
    assert [(s.config.name, s.options.alias, s.options.depth) for s in sources] == [
        ("web/default", "default", 2),
        ("web/low", "low", 2),
    ]


def test_a_url_file_is_read_at_each_connect(tmp_path: Path) -> None:
    secret = tmp_path / "url"
    path = write(tmp_path, f"sources: [{{name: a, adapter: fake, url_file: {secret}}}]")
    source = make_source(load(path).sources[0])
    with pytest.raises(AdapterError, match="url_file"):
        source.url()
    secret.write_text("redis://one\n")
    assert source.url() == "redis://one"
    secret.write_text("redis://:battery-staple@two\n")
    assert source.url() == "redis://:battery-staple@two"
    assert redact("cannot use battery-staple") == "cannot use ***"


def test_the_fingerprint_names_what_is_counted_and_no_password(tmp_path: Path) -> None:
    def fingerprint(entry: str) -> str:
        return load(write(tmp_path, f"sources: [{{name: a, adapter: fake, {entry}}}]")).sources[0].fingerprint()

    base = fingerprint("url: 'x://u:one@h/1'")
    assert fingerprint("url: 'x://u:two@h/1', timeout: 9s") == base
    assert fingerprint("url: 'x://u:one@h/2'") != base
    assert fingerprint("url: 'x://u:one@h/1', alias: other") != base
    assert fingerprint("url: 'x://u:one@h/1', task_labels: [queue]") != base
    assert fingerprint("url: 'x://u:one@h/1', buckets: {run: [1, 2]}") != base
    objective = "url: 'x://u:one@h/1', objectives: [{{queue: q, ratio: 0.9, start_within: {}}}]"
    assert fingerprint(objective.format("30s")) == base
    assert fingerprint(objective.format("45s")) != base
    assert fingerprint("url: 'x://h/1?user=u&password=one'") == fingerprint("url: 'x://v:two@h/1'")
    assert fingerprint("url: 'x://h?db=1'") != fingerprint("url: 'x://h?db=2'")
    assert fingerprint("url: 'postgresql:///app?host=db1'") != fingerprint("url: 'postgresql:///app?host=db2'")


def test_objectives_are_bounds_of_the_wait_histogram(tmp_path: Path) -> None:
    def bounds(*waits: str) -> tuple[float, ...]:
        objectives = "".join(f"{{queue: q{i}, ratio: 0.9, start_within: {wait}}}, " for i, wait in enumerate(waits))
        entry = f"{{name: a, adapter: fake, url: 'x://h', buckets: {{wait: [1, 60]}}, objectives: [{objectives}]}}"
        return load(write(tmp_path, f"sources: [{entry}]")).sources[0].config.bounds().wait

    assert bounds() == (1, 60)
    assert bounds("45s", "90s", "60s", "45s") == (1, 45, 60, 90)
    assert len(bounds("1s", *(f"{n}m" for n in range(1, 12)))) == 12
    with pytest.raises(ConfigError, match="objectives: 11 different start_within"):
        bounds(*(f"{n}m" for n in range(2, 13)))
    for wait in ("0s", "2w"):  # no bound; one that a page writes as 1.2e+06, and Prometheus does not find
        with pytest.raises(ConfigError, match="start_within: must be"):
            bounds(wait)


@pytest.mark.parametrize("host", ["h1:5432,h2:5432", "host:abc", "[::1", "h1/a;x://{}@h2"])
def test_every_url_has_a_fingerprint(host: str, tmp_path: Path) -> None:
    def fingerprint(userinfo: str) -> str:
        url = f"x://{userinfo}@{host.format(userinfo)}/db"
        path = write(tmp_path, f"sources: [{{name: a, adapter: fake, url: '{url}'}}]")
        return load(path).sources[0].fingerprint()

    assert fingerprint("u:one") == fingerprint("v:two") == fingerprint("u:with/slash")


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("500ms", 0.5), ("1m30s", 90), ("24h", 86400), ("7d", 604800), (5, 5), (0.25, 0.25)],
)
def test_durations(text: object, seconds: float) -> None:
    assert duration(text) == seconds


@pytest.mark.parametrize("text", ["", "5", "s", "-5s", "5 s", "1.5s", True, None, [], 10**401, "1" * 401 + "s"])
def test_not_durations(text: object) -> None:
    with pytest.raises(ValueError, match="duration"):
        duration(text)
