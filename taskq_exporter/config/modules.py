"""The configuration's model of a module of probes: what the targets that a request may name have in common."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, SecretStr, model_validator

from taskq_exporter.config.durations import Period
from taskq_exporter.config.secretfiles import SUFFIX, secret_files, take_files
from taskq_exporter.runtime.targets import parse_allowed

__all__ = ["MODULE_KEYS", "ModuleConfig"]


def _glob(text: str) -> str:
    parse_allowed(text)
    return text


def _some(globs: tuple[str, ...]) -> tuple[str, ...]:
    if not globs:
        raise ValueError("must name at least one target that may be asked for")
    return globs


class ModuleConfig(BaseModel):
    """A module's own options, which stand beside those of a source."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    #: Which targets there may be: URLs without credentials, where `*` stands for a part of one name between dots.
    allow: Annotated[tuple[Annotated[str, AfterValidator(_glob)], ...], AfterValidator(_some)]
    #: What the exporter logs in as at each target.
    username: str = ""
    #: Sent to each target; a file is read at each connect.
    password: SecretStr | None = None
    #: The query of each target's URL, e.g. `{sslmode: verify-full}`.
    query: Annotated[dict[str, str], Field(repr=False)] = {}
    #: How many targets are watched at once.
    max_targets: Annotated[int, Field(ge=1)] = 1000
    #: So long after its last page a target is left, and its counters with it.
    idle_ttl: Period = 300.0

    @model_validator(mode="before")
    @classmethod
    def _secrets_from_files(cls, data: Any) -> Any:
        return take_files(cls, data) if isinstance(data, Mapping) else data


#: Every key of a module that a source has not.
MODULE_KEYS = (*ModuleConfig.model_fields, *(name + SUFFIX for name in secret_files(ModuleConfig)))
