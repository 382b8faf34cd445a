"""sources_dir: one file a team; a bad one drops only itself."""

from __future__ import annotations

from pathlib import Path

import pytest
from fakes import adapters

from taskq_exporter.api import Options, Snapshot
from taskq_exporter.config.load import load_config
from taskq_exporter.config.sources import Config, ConfigError

ADAPTERS = adapters(fake={"collect": lambda: Snapshot(), "options": lambda: Options})


def team(*names: str, extra: str = "") -> str:
    return "sources:\n" + "".join(f"  - {{name: {name}, adapter: fake, url: 'x://h'{extra}}}\n" for name in names)


@pytest.fixture
def main(tmp_path: Path) -> Path:
    (tmp_path / "sources.d").mkdir()
    path = tmp_path / "config.yaml"
    path.write_text("defaults: {timeout: 2s, queue_ttl: 1h}\nsources_dir: sources.d\n")
    return path


def put(main: Path, **files: str) -> None:
    for name, text in files.items():
        (main.parent / "sources.d" / f"{name}.yaml").write_text(text)


def load(main: Path, before: Config | None = None) -> Config:
    return load_config(main, ADAPTERS, {"SECRET": "x"}, before)


def names(config: Config) -> list[str]:
    return [source.config.name for source in config.sources]


def test_each_file_has_the_defaults_of_the_main_file_and_its_own(main: Path) -> None:
    put(main, b=team("b1", "b2"), a="defaults: {timeout: 3s}\n" + team("a", extra=", queue_ttl: 2h"))
    config = load(main)
    assert names(config) == ["a", "b1", "b2"]
    assert [(s.config.timeout, s.config.queue_ttl) for s in config.sources] == [(3, 7200), (2, 3600), (2, 3600)]
    assert config.sources[1].where == f"{main.parent}/sources.d/b.yaml:2:36"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (team("a", extra=", nonsense: 1"), "2:44: unknown key 'nonsense'"),
        ("sources: [", "2:1: not valid YAML"),
        ("state: {dir: /x}\n" + team("x"), "1:1: unknown key 'state'; there are defaults, sources"),
        ("defaults: {timeout: soon}\n" + team("x"), "1:21: timeout: "),
        (team("a"), "2:12: source name 'a' is used twice; it is first in "),
        (team("main"), "2:12: source name 'main' is used twice; it is first in "),
        (team("x", extra=", annotations: {a: '${NOWHERE}'}"), "2:61: environment variable NOWHERE is not set"),
        ("", "1:1: the file must be a mapping"),
    ],
)
def test_a_bad_file_drops_only_itself(main: Path, text: str, message: str) -> None:
    main.write_text(main.read_text() + team("main"))
    put(main, a=team("a"), bad=text, c=team("c"))
    config = load(main)
    assert names(config) == ["main", "a", "c"]
    assert [bool(file.error) for file in config.files] == [False, True, False]
    assert config.files[1].error.startswith(f"{main.parent}/sources.d/bad.yaml:{message}")


def test_the_sources_that_a_bad_file_had_stay(main: Path) -> None:
    put(main, a=team("a"), b=team("b1", "b2"))
    before = load(main)
    put(main, a=team("a", "b2"), b="sources: [")
    config = load(main, before)
    assert names(config) == ["a", "b2", "b1"]  # another file has taken the other
    again = load(main, config)
    assert names(again) == ["a", "b2", "b1"]
    put(main, b=team("b3"))
    assert names(load(main, again)) == ["a", "b2", "b3"]


def test_a_file_that_is_gone_takes_its_sources_with_it(main: Path) -> None:
    put(main, a=team("a"), b="sources: []")
    before = load(main)
    assert [(file.path.name, file.error) for file in before.files] == [("a.yaml", ""), ("b.yaml", "")]
    (main.parent / "sources.d" / "a.yaml").unlink()
    assert names(load(main, before)) == []


def test_what_kubernetes_and_editors_leave_is_no_file_of_a_team(main: Path) -> None:
    """A mounted ConfigMap: a.yaml -> ..data/a.yaml, ..data -> ..2026_01_01."""
    folder = main.parent / "sources.d"
    real = folder / "..2026_01_01"
    real.mkdir()
    (real / "a.yaml").write_text(team("a"))
    (folder / "..data").symlink_to(real.name)
    (folder / "a.yaml").symlink_to("..data/a.yaml")
    put(main, **{".hidden": team("hidden")})
    (folder / "a.yaml~").write_text(team("old"))
    (folder / "folder.yaml").mkdir()
    (folder / "b.yml").write_text(team("b"))
    assert names(load(main)) == ["a", "b"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("sources_dir: nowhere", "1:14: sources_dir {dir}/nowhere cannot be read: No such file or directory"),
        ("sources_dir: [a]", "1:14: sources_dir must be the path of a directory"),
        ("sources_dir: ''", "1:14: sources_dir must be the path of a directory"),
    ],
)
def test_a_folder_that_cannot_be_read_is_a_mistake(main: Path, text: str, message: str) -> None:
    main.write_text(text)
    with pytest.raises(ConfigError) as caught:
        load(main)
    assert str(caught.value) == f"{main}:{message}".replace("{dir}", str(main.parent))
