"""What is said while nothing is found in the environment."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from fakes import adapters
from structlog.testing import capture_logs

from taskq_exporter.api import AdapterError, Detected, Reason, Snapshot
from taskq_exporter.config.environment import detect
from taskq_exporter.log import redact


async def test_a_server_that_is_down_is_one_line_for_each_adapter() -> None:
    answers: list[Any] = []

    async def look(env: Mapping[str, str]) -> Iterable[Detected]:
        answer = answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer  # type: ignore[no-any-return]

    hooks = {"collect": lambda: Snapshot(), "detect": look}
    both = adapters(one=hooks, two=hooks)
    failing: dict[str, str] = {}

    async def said(answer: Any) -> list[str]:
        answers[:] = [answer]
        with capture_logs() as lines:
            await detect(both, {}, failing)
        return [f"{line['log_level']} {line['adapter']} {line['event']}" for line in lines]

    down = [f"warning {name} cannot look for sources" for name in ("one", "two")]
    assert await said(AdapterError(Reason.CONNECT, "refused, 1st time")) == down
    assert await said(AdapterError(Reason.CONNECT, "refused, 2nd time")) == []
    assert await said(AdapterError(Reason.AUTH, "no password")) == down
    assert await said(AdapterError(Reason.AUTH, "no password")) == []
    assert await said([]) == [f"info {name} can look for sources again" for name in ("one", "two")]
    assert await said([]) == []
    assert await said(RuntimeError("bug")) == [f"error {name} bug in adapter" for name in ("one", "two")]
    assert await said(RuntimeError("bug")) == []


async def test_the_password_of_what_is_found_is_known() -> None:
    async def look(env: Mapping[str, str]) -> Iterable[Detected]:
        return [Detected(name="a", url="x://u:found-password@h")]

    [source] = await detect(adapters(one={"collect": lambda: Snapshot(), "detect": look}), {})
    assert source.config.name == "a"
    assert redact("found-password") == "***"
