"""`taskq-exporter celery-exporter`: what its flags and variables become."""

from __future__ import annotations

from typing import Any

import pytest

from taskq_exporter import cli
from taskq_exporter.adapters import Adapters
from taskq_exporter.commands.common import UsageError
from taskq_exporter.compat.celery_exporter import source_of
from taskq_exporter.config.sources import ConfiguredSource

URL = "redis://:pass@broker:6379/0"


def source(*flags: str) -> ConfiguredSource:
    argv = ["celery-exporter", *flags]
    return source_of(cli.parser(argv).parse_args(argv), Adapters())


def test_what_it_does_without_flags() -> None:
    argv = ["celery-exporter", "--broker-url", URL]
    arguments = cli.parser(argv).parse_args(argv)
    assert (arguments.ce_host, arguments.ce_port) == ("0.0.0.0", 9808)
    made = source_of(arguments, Adapters())
    assert made.config.url == URL
    assert made.config.worker_ttl == 600
    assert made.options.heartbeat_timeout == 300
    families = {family.name: family for family in made.mapped()}
    assert len(families) == 16
    assert families["celery_task_runtime"].buckets[:2] == (0.005, 0.01)
    assert families["celery_task_queue_wait_time"].buckets[-1] == 1800


def test_every_flag() -> None:
    made = source(
        *("--broker-url=redis://broker/0", "--port=1", "--host", "127.0.0.1", "--log-level=WARNING"),
        *("--broker-transport-option", "global_keyprefix=app:", "--broker-transport-option=visibility_timeout=18000"),
        *("--broker-transport-option", 'sentinel_kwargs={"password": "p"}', "--broker-transport-option=max_retries=3"),
        *("--broker-ssl-option=ca_certs=/ca.pem", "--broker-ssl-option=ssl_cert_reqs=2", "--accept-content=json,yaml"),
        *("--retry-interval=5", "--buckets=1,2.5,+Inf", "--queue-wait-buckets=1,60", "--worker-timeout=0"),
        *("--purge-offline-worker-metrics=0", "--generic-hostname-task-sent-metric"),
        *("--generic-hostname-worker-task-metric", "-Q", "a,b", "--metric-prefix=jobs_", "--default-queue-name=none"),
        *("--static-label=env=prod", "--static-label", "team=growth"),
    )
    assert made.config.url == "redis://broker/0?ssl_ca_certs=%2Fca.pem&ssl_cert_reqs=CERT_REQUIRED"
    assert made.options.global_keyprefix == "app:"
    assert made.options.visibility_timeout == 18000
    assert made.options.sentinel_kwargs.password.get_secret_value() == "p"
    assert made.options.heartbeat_timeout == made.config.worker_ttl > 1e8
    assert made.config.queues.expected == ("a", "b")
    families = {family.name: family for family in made.mapped()}
    assert families["jobs_task_runtime"].buckets == (1.0, 2.5)
    assert families["jobs_task_queue_wait_time"].buckets == (1.0, 60.0)
    received = families["jobs_task_received_total"]
    values = received.rules[0].read({"task": "t", "worker": "w@h", "queue": ""})
    assert dict(zip(received.family.labels, values or (), strict=True)) == {
        "name": "t",
        "hostname": "generic",
        "queue_name": "none",
        "env": "prod",
        "team": "growth",
    }


def test_variables_stand_in_for_flags(monkeypatch: pytest.MonkeyPatch) -> None:
    given = {
        "CE_BROKER_URL": URL,
        "CE_PORT": "9999",
        "CE_QUEUES": "a",
        "CE_STATIC_LABEL": "env=prod team=growth",
        "CE_BROKER_TRANSPORT_OPTION": "global_keyprefix=app:",
        "CE_GENERIC_HOSTNAME_WORKER_TASK_METRIC": "true",
        "CE_WORKER_TIMEOUT": "60",
        "CE_BUCKETS": "1,2",
    }
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    made = source()
    assert made.options.heartbeat_timeout == 60
    assert made.options.global_keyprefix == "app:"
    (compat,) = made.config.compat
    assert compat.labels == {"env": "prod", "team": "growth"}
    assert compat.fixed == {"hostname": "generic"}
    assert compat.buckets == {"celery_task_runtime": (1.0, 2.0)}
    argv = ["celery-exporter", "--static-label=env=test"]
    arguments = cli.parser(argv).parse_args(argv)
    assert arguments.ce_port == 9999
    assert source_of(arguments, Adapters()).config.compat[0].labels == {"env": "test"}  # a flag wins


def test_options_of_other_brokers_are_theirs() -> None:
    made = source("--broker-url=filesystem://", "--broker-transport-option=data_folder_in=/queue")
    assert made.options.transport_options == {"data_folder_in": "/queue"}


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ((), "--broker-url (or CE_BROKER_URL) is missing"),
        (("--accept-content=json,pickle",), "--accept-content: pickle cannot be read here"),
        (("--broker-ssl-option=ciphers=x",), "--broker-ssl-option: ciphers is not known"),
        (("--broker-transport-option=fanout_patterns=false",), "fanout_patterns=false cannot be read"),
        (("--broker-transport-option=visibility_timeout",), "--broker-transport-option: write it as KEY=VALUE"),
        (("--broker-transport-option=priority_steps=[300]",), "--broker-transport-option priority_steps.0: "),
        (("--buckets=2,1",), "each above the one before"),
        (("--metric-prefix=a-b",), "compat.0.prefix: "),
    ],
)
def test_what_cannot_be_honoured_is_an_error(flags: tuple[str, ...], words: str) -> None:
    url: tuple[str, ...] = ("--broker-url", URL) if flags else ()
    with pytest.raises(UsageError) as failed:
        source(*url, *flags)
    assert words in str(failed.value)
    assert "pass" not in str(failed.value)


@pytest.mark.parametrize("flag", ["--port=x", "--buckets=x", "--log-level=x", "--unheard-of"])
def test_a_flag_that_is_none_is_told(flag: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        source("--broker-url", URL, flag)
    assert flag.partition("=")[0] in capsys.readouterr().err


def test_a_configuration_file_is_another_way(capsys: pytest.CaptureFixture[str], tmp_path: Any) -> None:
    assert cli.main(["celery-exporter", "--config.file", str(tmp_path / "c.yaml"), "--broker-url", URL]) == 1
    assert "write compat: [celery-exporter] into it" in capsys.readouterr().err
