"""`taskq-exporter --config.check`, without a process for each."""

from __future__ import annotations

import io
import os
from contextlib import redirect_stderr, redirect_stdout
from unittest.mock import patch

from taskq_exporter import cli

__all__ = ["config_check"]


def config_check(*flags: str, **env: str) -> tuple[int, str]:
    """The exit status and all that it prints, with some more environment."""
    printed = io.StringIO()
    with patch.dict(os.environ, env), redirect_stdout(printed), redirect_stderr(printed):
        status = cli.main(["--config.check", *flags])
    return status, printed.getvalue()
