"""config.example.yaml is a good configuration, and leaves out no option."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import BaseModel

from taskq_exporter.adapters import Adapters
from taskq_exporter.config.load import load_config
from taskq_exporter.config.modules import ModuleConfig
from taskq_exporter.config.settings import Core, SourceConfig, StateConfig
from taskq_exporter.config.sources import Config

EXAMPLE = Path(__file__).parents[2] / "config.example.yaml"


@pytest.fixture(scope="module")
def adapters() -> Adapters:
    return Adapters()


@pytest.fixture(scope="module")
def config(adapters: Adapters) -> Config:
    return load_config(EXAMPLE, adapters, {"CELERY_BROKER_URL": "redis://broker/0"})


def uncommented() -> str:
    """The example with every optional line as if it were written."""
    return re.sub(r"^( *)# (\w+: )", r"\1\2", EXAMPLE.read_text(), flags=re.MULTILINE)


def options(model: type[BaseModel]) -> Iterator[str]:
    """The names of a model's fields, and of the models in them."""
    for name, field in model.model_fields.items():
        yield field.alias or name
        for inner in (field.annotation, *getattr(field.annotation, "__args__", ())):
            if isinstance(inner, type) and issubclass(inner, BaseModel):
                yield from options(inner)


def test_it_loads(config: Config) -> None:
    assert [source.config.name for source in config.sources] == [
        "shop",
        "web/default",
        "web/mails",
        "mails",
        "billing",
        "flow",
        "allocator",
        "machine",
    ]


def test_the_defaults_that_it_shows_are_the_defaults(config: Config) -> None:
    web = next(source.config for source in config.sources if source.config.name == "web/default")
    for name in Core.model_fields:
        if name == "limits":
            assert web.caps() == Core().caps()
            assert web.label_sets() == Core().label_sets()
        else:
            assert getattr(web, name) == getattr(Core(), name), name


def test_it_names_every_option(adapters: Adapters) -> None:
    text = uncommented()
    models = [SourceConfig, StateConfig, ModuleConfig, *(adapters.get(name).options for name in adapters.names)]
    for name in (name for model in models for name in options(model)):
        assert re.search(rf"(?<!\w){name}:", text), f"config.example.yaml does not show the option {name}"


def test_what_is_commented_out_would_load_too(adapters: Adapters, tmp_path: Path) -> None:
    # instead of alias, database
    text = re.sub(r"^ *(aliases|databases|virtual_hosts): .*$", "", uncommented(), flags=re.MULTILINE)
    (tmp_path / "sources.d").mkdir()
    path = tmp_path / "config.yaml"
    path.write_text(text)
    assert len(load_config(path, adapters, {"CELERY_BROKER_URL": "redis://broker/0"}).sources) == 7
