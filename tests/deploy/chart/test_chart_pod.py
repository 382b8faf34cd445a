"""The exporter started as the chart has a node start it: its arguments, its files, its probes."""

from __future__ import annotations

import base64
import http.client
import re
import shlex
import socket
import ssl
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import bcrypt
import pytest
import yaml

from taskq_exporter.testing.child import Child, clean_environment
from taskq_exporter.testing.page import Page
from taskq_exporter.testing.processes import free_port, new_directory
from taskq_exporter.testing.tls import Certificates, make_certificates

DOWN = {"name": "gone", "adapter": "celery", "url": "redis://127.0.0.1:1/0"}
TLS = {"web": {"tlsSecret": "tls"}}
CLIENT = {"client_auth_type": "RequireAndVerifyClientCert", "client_ca_file": "/etc/taskq-exporter-tls/ca.crt"}
USERS = {"basic_auth_users": {"prometheus": bcrypt.hashpw(b"open sesame", bcrypt.gensalt(4)).decode()}}
Probe = dict[str, Any]


class Pod(Child):
    """The first container of a rendered pod, on files as the kubelet mounts them, listening on loopback alone."""

    def __init__(self, documents: list[dict[str, Any]], theirs: dict[str, dict[str, str]]) -> None:
        """Start it; `theirs` are the Secrets and ConfigMaps that the values name."""
        folder = new_directory("pod", None)
        self.pod = next(d for d in documents if d["kind"] == "Deployment")["spec"]["template"]["spec"]
        self.container = self.pod["containers"][0]
        self.port = self.container["ports"][0]["containerPort"]
        written = {d["metadata"]["name"]: d["stringData"] for d in documents if d["kind"] == "Secret"}
        paths = {mount["name"]: mount["mountPath"] for mount in self.container["volumeMounts"]}
        self._here = {path: str(folder / name) for name, path in sorted(paths.items(), key=lambda item: -len(item[1]))}
        for volume in self.pod["volumes"]:
            data = folder / volume["name"] / "..2026"
            data.mkdir(parents=True)
            data.with_name("..data").symlink_to(data.name)
            for part in volume.get("projected", {}).get("sources", [volume]):
                secret, config = part.get("secret", {}), part.get("configMap", {})
                name = secret.get("secretName") or secret.get("name") or config.get("name")
                for key, text in ({**written, **theirs}[name] if name else {}).items():
                    (data / key).write_text(self.here(text))
                    (data.parent / key).symlink_to(f"..data/{key}")
        arguments = [
            self.here(a).replace("listen-address=:", "listen-address=127.0.0.1:") for a in self.container["args"]
        ]
        super().__init__(
            [sys.executable, "-m", "taskq_exporter", *arguments],
            directory=folder,
            ready=lambda: self.asked({"tcpSocket": {"port": "metrics"}}),
        )

    def here(self, text: str) -> str:
        """With the paths of mounts as they are here."""
        for path, here in self._here.items():
            text = text.replace(path, here)
        return text

    def asked(self, probe: Probe) -> bool:
        """Whether a probe succeeds, asked as the kubelet does."""
        seconds = probe.get("timeoutSeconds", 1)
        try:
            if "exec" in probe:
                program, *arguments = probe["exec"]["command"]
                assert program == "taskq-exporter"
                command = [sys.executable, "-m", "taskq_exporter", *arguments]
                done = subprocess.run(
                    command, env=clean_environment(), timeout=seconds, check=False, capture_output=True
                )
                return done.returncode == 0
            if "tcpSocket" in probe:
                with socket.create_connection(("127.0.0.1", self.port), seconds):
                    return True
            return self.get(probe["httpGet"]["path"], scheme=probe["httpGet"]["scheme"], seconds=seconds)[0] < 400
        except (OSError, subprocess.TimeoutExpired, http.client.HTTPException):
            return False

    def get(self, path: str, scheme: str = "HTTP", seconds: float = 10, password: str = "") -> tuple[int, str]:
        """Status and text of an answer; whose certificate it is, the kubelet does not ask either."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=seconds)
        if scheme == "HTTPS":
            context = ssl._create_unverified_context()
            connection = http.client.HTTPSConnection("127.0.0.1", self.port, timeout=seconds, context=context)
        login = base64.b64encode(f"prometheus:{password}".encode()).decode()
        try:
            connection.request("GET", path, headers={"Authorization": f"Basic {login}"} if password else {})
            answer = connection.getresponse()
            return answer.status, answer.read().decode()
        finally:
            connection.close()


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make_certificates(tmp_path_factory.mktemp("certificates"))


def secret(certificates: Certificates) -> dict[str, str]:
    """Of type kubernetes.io/tls."""
    files = {"tls.crt": certificates.certificate, "tls.key": certificates.key, "ca.crt": certificates.authority}
    return {name: path.read_text() for name, path in files.items()}


@pytest.mark.parametrize(
    ("values", "asks"),
    [
        ({}, "httpGet"),
        pytest.param(TLS, "httpGet", marks=pytest.mark.full),
        pytest.param({"web": {"config": USERS}}, "exec", marks=pytest.mark.full),
        ({"web": {"tlsSecret": "tls", "config": {**USERS, "tls_server_config": CLIENT}}}, "exec"),
        pytest.param(
            {"web": {"config": {"rate_limit": {"interval": "1h", "burst": 1}}}}, "exec", marks=pytest.mark.full
        ),
        pytest.param(
            {"web": {"existingSecret": "web", "tlsSecret": "tls", "https": True}}, "exec", marks=pytest.mark.full
        ),
    ],
    ids=["plain", "TLS", "password", "certificate", "patience", "existing"],
)
def test_probes_succeed_until_it_hangs(
    helm4: Any, certificates: Certificates, values: dict[str, Any], asks: str
) -> None:
    theirs = {"tls": secret(certificates)}
    server = {"cert_file": "/etc/taskq-exporter-tls/tls.crt", "key_file": "/etc/taskq-exporter-tls/tls.key"}
    theirs["web"] = {"web.yaml": yaml.safe_dump({"tls_server_config": {**server, **CLIENT}, **USERS})}
    documents = helm4.render({"containerPort": free_port(), "sources": [DOWN], **values})
    with Pod(documents, theirs) as pod:
        liveness, readiness, startup = (pod.container[f"{name}Probe"] for name in ("liveness", "readiness", "startup"))
        assert asks in liveness
        assert asks in startup
        assert pod.asked(startup)
        assert pod.asked(startup), "more than the rate limit admits"
        deadline = time.monotonic() + 10
        while not pod.asked(readiness):
            assert time.monotonic() < deadline
            time.sleep(0.05)
        assert pod.asked(liveness)
        assert "Traceback" not in pod.log
        pod.freeze()
        assert not pod.asked({**liveness, "timeoutSeconds": 2})
        pod.thaw()
    assert not pod.asked(liveness)
    assert not pod.asked(readiness)


@pytest.mark.parametrize("config", [USERS, {"tls_server_config": CLIENT}], ids=["password", "certificate"])
def test_helm_test_and_the_command_of_the_notes_succeed(
    helm4: Any, certificates: Certificates, config: dict[str, Any]
) -> None:
    login = [
        {"name": "TASKQ_URL_USERNAME", "value": "prometheus"},
        {"name": "TASKQ_URL_PASSWORD", "value": "open sesame"},
    ]
    values = {
        "containerPort": free_port(),
        "sources": [{"name": "here", "adapter": "host"}],
        "tests": {"env": login},
        "web": {"tlsSecret": "tls", "config": config},
    }
    documents = helm4.render(values)
    (tester,) = next(d for d in documents if d["kind"] == "Pod")["spec"]["containers"]
    with Pod(documents, {"tls": secret(certificates)}) as pod:

        def run(arguments: list[str], **env: str) -> subprocess.CompletedProcess[str]:
            command = [sys.executable, "-m", "taskq_exporter", *map(pod.here, arguments)]
            return subprocess.run(command, env=clean_environment() | env, capture_output=True, text=True, check=False)

        arguments = [re.sub(r"//[\w.-]+:\d+", f"//127.0.0.1:{pod.port}", word) for word in tester["args"]]
        env = {variable["name"]: pod.here(variable["value"]) for variable in tester["env"]}
        done = run(arguments, **env)
        assert done.returncode == 0, done.stdout + done.stderr
        if "check" in arguments:
            assert "not trusted" in run(arguments, **{**env, "SSL_CERT_FILE": "/dev/null"}).stderr
            assert "not authorized" in run(arguments, **{**env, "TASKQ_URL_PASSWORD": "other"}).stderr
        told = re.findall(r"-- taskq-exporter (check.*)", helm4.notes(values))
        done = run(shlex.split(told[0]))
        assert done.returncode == 0, done.stdout + done.stderr


def test_teams_have_files_of_their_own(helm4: Any) -> None:
    theirs = {
        "growth": {"growth.yaml": yaml.safe_dump({"sources": [{**DOWN, "name": "mails"}]})},
        "billing": {"billing.yaml": "sources: [{name: jobs, adapter: celery, prot: 1}]", "README": "no YAML: ["},
    }
    extra = [{"configMap": {"name": "growth"}}, {"secret": {"name": "billing", "optional": True}}]
    values = {"containerPort": free_port(), "sources": [DOWN], "extraSources": extra, "web": {"enableLifecycle": True}}
    with Pod(helm4.render(values), theirs) as pod:
        assert "initContainers" not in pod.pod, "the bad file would keep all from starting"
        page = Page(pod.get("/metrics")[1])
        assert page.by("taskq_source_up", "source").keys() == {("gone",), ("mails",)}
        good = page.by("taskq_exporter_sources_file_successful", "file")
        assert {Path(file).name: value for (file,), value in good.items()} == {"growth.yaml": 1, "billing.yaml": 0}
        assert "unknown key 'prot'" in pod.log

        # the kubelet turns ..data to a new folder, and somebody asks for a reload
        sources = Path(pod.here("/etc/taskq-exporter-sources"))
        (sources / "..2027").mkdir()
        for name, source in (("growth", "mails"), ("billing", "jobs")):
            text = yaml.safe_dump({"sources": [{**DOWN, "name": source}]})
            (sources / "..2027" / f"{name}.yaml").write_text(text)
        (sources / "..new").symlink_to("..2027")
        (sources / "..new").replace(sources / "..data")
        connection = http.client.HTTPConnection("127.0.0.1", pod.port)
        connection.request("POST", "/-/reload")
        assert connection.getresponse().status == 200
        connection.close()
        page = Page(pod.get("/metrics")[1])
        assert page.by("taskq_source_up", "source").keys() == {("gone",), ("mails",), ("jobs",)}
