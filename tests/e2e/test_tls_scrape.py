"""A real Prometheus scrapes over TLS, with a password and a certificate, while the server's certificate changes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import bcrypt
import trustme
import yaml

from taskq_exporter.testing.prometheus import ExporterProcess, Prometheus
from taskq_exporter.testing.watch import config_file

AUTHORITY = trustme.CA()


def write_certificate(folder: Path, name: str, identity: str) -> None:
    """Write NAME.pem and NAME.key."""
    issued = AUTHORITY.issue_cert(identity)
    for file, content in ((f"{name}.pem", issued.cert_chain_pems[0]), (f"{name}.key", issued.private_key_pem)):
        content.write_to_path(str(folder / "new"))
        (folder / "new").replace(folder / file)


def start(folder: Path, users: dict[str, str]) -> ExporterProcess:
    """An exporter of one source that is down, which serves with server.pem to clients of one name."""
    for name, identity in (("server", "127.0.0.1"), ("client", "prometheus.example")):
        write_certificate(folder, name, identity)
    AUTHORITY.cert_pem.write_to_path(str(folder / "authority.pem"))
    tls = {
        "cert_file": "server.pem",
        "key_file": "server.key",
        "client_ca_file": "authority.pem",
        "client_auth_type": "RequireAndVerifyClientCert",
        "client_allowed_sans": ["prometheus.example"],
    }
    web_config = {"tls_server_config": tls, "http_server_config": {"http2": True}, "basic_auth_users": users}
    (folder / "web.yml").write_text(yaml.safe_dump(web_config))
    source = {"name": "gone", "adapter": "celery", "url": "redis://127.0.0.1:1/0"}
    return ExporterProcess(config_file(folder, source), f"--web.config.file={folder / 'web.yml'}")


def job(exporter: ExporterProcess, folder: Path, name: str, password: str, *, show: bool = True) -> dict[str, Any]:
    """A scrape_config; `show` a certificate."""
    shown = {"cert_file": str(folder / "client.pem"), "key_file": str(folder / "client.key")} if show else {}
    return {
        "job_name": name,
        "scheme": "https",
        "tls_config": {"ca_file": str(folder / "authority.pem"), **shown},
        "basic_auth": {"username": "prom", "password": password},
        "static_configs": [{"targets": [exporter.address]}],
    }


def test_only_who_may_scrapes_and_a_new_certificate_costs_no_scrape(tmp_path: Path) -> None:
    hashed = bcrypt.hashpw(b"open sesame", bcrypt.gensalt(4)).decode()
    with start(tmp_path, {"prom": hashed}) as exporter:
        jobs = [
            job(exporter, tmp_path, "good", "open sesame"),
            job(exporter, tmp_path, "wrong", "abracadabra"),
            job(exporter, tmp_path, "bare", "open sesame", show=False),
        ]
        with Prometheus(jobs) as prometheus:
            check(prometheus, exporter, tmp_path)
        log = exporter.log
    for secret in ("open sesame", "abracadabra", hashed, "PRIVATE KEY"):
        assert secret not in log
    assert "Traceback" not in log


def check(prometheus: Prometheus, exporter: ExporterProcess, folder: Path) -> None:
    prometheus.until(lambda: prometheus.value('up{job="good"}') == 1, "the first scrape")
    prometheus.until(lambda: prometheus.value('taskq_source_up{job="good"}') == 0, "what it shows")

    def errors() -> dict[str, str]:
        return {target["labels"]["job"]: target["lastError"] for target in prometheus.targets()}

    prometheus.until(lambda: all(errors()[name] for name in ("wrong", "bare")), "the other two are refused")
    assert errors()["good"] == ""
    assert "401" in errors()["wrong"]

    # a new certificate, while it scrapes
    write_certificate(folder, "server", "127.0.0.1")
    failed = 'count_over_time((up{job="good"} == 0)[1h:1s])'
    seen = len(prometheus.samples('up{job="good"}'))
    prometheus.until(lambda: len(prometheus.samples('up{job="good"}')) > seen + 2, "three more scrapes")
    assert prometheus.value(failed) is None
    prometheus.until(lambda: "web configuration read again" in exporter.log, "the new certificate is read")
