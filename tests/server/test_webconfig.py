"""The web configuration file: what it may say, and what is refused and why."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import bcrypt
import pytest
import yaml
from structlog.testing import capture_logs

from taskq_exporter.config.mistakes import ConfigError
from taskq_exporter.testing import Certificates
from taskq_exporter.web import tls
from taskq_exporter.web.webconfig import RateLimit, WebConfigFile


def hashed(password: str, prefix: bytes = b"2b") -> str:
    return bcrypt.hashpw(password.encode(), bcrypt.gensalt(4, prefix)).decode()


ALICE = hashed("open sesame")


def write(path: Path, text: str) -> Path:
    """Write a file anew, as those do who are careful: its inode changes with it."""
    new = path.with_suffix(".new")
    new.write_text(text)
    return new.replace(path)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "web.yml"


def test_a_whole_file_is_taken(file: Path, certificates: Certificates) -> None:
    write(
        file,
        f"""
tls_server_config:
  cert_file: {certificates.certificate}
  key_file: {certificates.key}
  client_ca_file: {certificates.authority}
  client_auth_type: RequireAndVerifyClientCert
  client_allowed_sans: [prometheus]
  min_version: TLS12
  max_version: TLS13
  cipher_suites: [TLS_AES_128_GCM_SHA256, TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256]
  prefer_server_cipher_suites: false
  curve_preferences: [X25519]
http_server_config:
  http2: true
  headers:
    Strict-Transport-Security: max-age=31536000
    X-Frame-Options: deny
    Content-Security-Policy:
basic_auth_users:
  alice: {ALICE}
  bob: {hashed("b", b"2a")}
rate_limit:
  interval: 100ms
  burst: 20
""",
    )
    with capture_logs() as lines:
        loaded = WebConfigFile(file).current()
    assert loaded.context is not None
    assert loaded.config.http_server_config.headers.sent() == {
        "Strict-Transport-Security": "max-age=31536000",
        "X-Frame-Options": "deny",
    }
    assert loaded.config.rate_limit == RateLimit.model_validate({"interval": "100ms", "burst": 20})
    assert sorted(loaded.config.basic_auth_users) == ["alice", "bob"]
    assert ALICE not in repr(loaded)
    assert [line["event"] for line in lines] == ["http2 is not spoken here: clients get HTTP/1.1"]


@pytest.mark.parametrize("curve", ["CurveP256", "CurveP384", "CurveP521", "X25519"])
def test_prometheus_takes_what_we_take(curve: str, file: Path, certificates: Certificates) -> None:
    """promtool reads a file with the code of the other exporters; that of Debian knows neither names nor rates yet."""
    promtool = shutil.which("promtool")
    if promtool is None:
        assert os.environ.get("CI") != "true", "promtool is not installed (Debian: apt install prometheus)"
        pytest.skip("promtool is not installed")
    config = {
        "tls_server_config": {
            "cert_file": str(certificates.certificate),
            "key_file": str(certificates.key),
            "client_ca_file": str(certificates.authority),
            "client_auth_type": "RequireAndVerifyClientCert",
            "min_version": "TLS12",
            "max_version": "TLS13",
            "cipher_suites": [*tls._CIPHERS, *tls._CIPHERS_13],
            "prefer_server_cipher_suites": False,
            "curve_preferences": [curve],
        },
        "http_server_config": {
            "http2": True,
            "headers": {
                "Content-Security-Policy": "default-src 'none'",
                "Strict-Transport-Security": "max-age=1",
                "X-Content-Type-Options": "nosniff",
                "X-Frame-Options": "sameorigin",
                "X-XSS-Protection": "0",
            },
        },
        "basic_auth_users": {"alice": ALICE},
    }
    WebConfigFile(write(file, yaml.safe_dump(config)))
    command = [promtool, "check", "web-config", str(file)]
    said = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert said.returncode == 0, said.stdout + said.stderr


@pytest.mark.parametrize("text", ["", "{}", "tls_server_config:\nbasic_auth_users:\nhttp_server_config:\n"])
def test_an_empty_file_asks_for_nothing(text: str, file: Path) -> None:
    with capture_logs() as lines:
        assert WebConfigFile(write(file, text)).current().context is None
    assert not lines


CERT = "tls_server_config: {{cert_file: {cert}, key_file: {key}, {more}}}"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("tls_server_confg: {}", "1:1: unknown key 'tls_server_confg'; did you mean 'tls_server_config'?"),
        ("[]", "1:1: must be a mapping"),
        ("a: [", "2:1: not valid YAML"),
        ("tls_server_config: {}", "1:20: tls_server_config: needs either cert or cert_file"),
        ("tls_server_config: {cert_file: a}", "needs either key or key_file"),
        ("tls_server_config: {cert_file: a, cert: b, key: c}", "needs either cert or cert_file"),
        (
            "tls_server_config: {cert_file: nowhere.pem, key_file: nowhere.key}",
            "1:32: cert_file: {folder}/nowhere.pem cannot be read: No such file or directory",
        ),
        ("tls_server_config: {cert: a, key: hunter2}", "1:27: cert: no certificate and key in PEM that OpenSSL takes"),
        (CERT.format(cert="{cert}", key="{other}", more=""), "key_file: is not the key of the certificate"),
        (CERT.format(cert="{cert}", key="{locked}", more=""), "the key is encrypted"),
        ("C client_ca_file: {cert}", "a client CA without client_auth_type: set it to RequireAndVerifyClientCert"),
        ("C client_auth_type: VerifyClientCertIfGiven", "needs either client_ca or client_ca_file"),
        ("C client_auth_type: RequireAnyClientCert", "takes certificates that nobody verifies"),
        ("C client_auth_type: RequestClientCert", "takes certificates that nobody verifies"),
        ("C client_auth_type: Always", "client_auth_type: must be 'NoClientCert'"),
        ("C client_auth_type: VerifyClientCertIfGiven, client_ca: x", "client_ca: no certificate in PEM"),
        ("C client_allowed_sans: [a]", "client_allowed_sans needs client_auth_type RequireAndVerifyClientCert"),
        ("C min_version: TLS10", "min_version: TLS10 is not safe, and OpenSSL no longer speaks it"),
        ("C min_version: TLS13, max_version: TLS12", "min_version is above max_version"),
        ("C max_version: TLS12, cipher_suites: [TLS_AES_128_GCM_SHA256]", "names none of TLS 1.2"),
        (
            "C cipher_suites: [TLS_RSA_WITH_RC4_128_SHA]",
            "unknown suite 'TLS_RSA_WITH_RC4_128_SHA'; there are TLS_ECDHE",
        ),
        ("C curve_preferences: [X25519, CurveP256]", "takes one curve, not a list"),
        ("C curve_preferences: [P256]", "unknown curve 'P256'; there are CurveP256"),
        ("http_server_config: {headers: {X-Powered-By: us}}", "1:32: unknown key 'X-Powered-By'; there are Content-"),
        ("http_server_config: {headers: {X-Frame-Options: allow}}", "X-Frame-Options: must be 'deny', 'sameorigin'"),
        (
            'http_server_config: {headers: {X-XSS-Protection: "a\\nb"}}',
            "X-XSS-Protection: must be printable ASCII in one line",
        ),
        ("http_server_config: {http2: maybe}", "http_server_config.http2: must be a valid boolean"),
        ("basic_auth_users: {alice: hunter2}", "1:27: basic_auth_users.alice: must be a bcrypt hash"),
        (
            "basic_auth_users: {alice: 'DEAR'}",
            "the hash has cost 31; a scrape has time for",
        ),
        ("basic_auth_users: {'a:b': 'CHEAP'}", "a user's name has a colon"),
        ("rate_limit: {interval: 1s}", "1:13: rate_limit: burst must be at least 1"),
        ("rate_limit: {interval: 1000000, burst: 1}", "write the unit"),
        ("rate_limit: {interval: soon, burst: 1}", "rate_limit.interval: not a duration"),
    ],
)
def test_what_cannot_be_honoured_is_refused_with_a_reason(
    text: str, message: str, file: Path, certificates: Certificates, other_keys: dict[str, Path]
) -> None:
    if text.startswith("C "):
        text = CERT.format(cert="{cert}", key="{key}", more=text[2:])
    known = {"cert": certificates.certificate, "key": certificates.key, **other_keys}
    # a name of a test must be the same in every process
    text = text.replace("CHEAP", ALICE).replace("DEAR", ALICE.replace("$04", "$31"))
    for name, path in known.items():
        text = text.replace(f"{{{name}}}", str(path))
    with pytest.raises(ConfigError) as refused:
        WebConfigFile(write(file, text))
    said = str(refused.value)
    assert said.startswith(f"{file}:")
    assert message.format(folder=file.parent) in said
    assert "hunter2" not in said
    assert ALICE[-20:] not in said


@pytest.fixture(scope="module")
def other_keys(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A key of another certificate, and one with a password."""
    import trustme
    from cryptography.hazmat.primitives import serialization as s

    folder = tmp_path_factory.mktemp("keys")
    pem = trustme.CA().issue_cert("localhost").private_key_pem
    pem.write_to_path(str(folder / "other.pem"))
    key = s.load_pem_private_key(pem.bytes(), None)
    locked = key.private_bytes(
        s.Encoding.PEM, s.PrivateFormat.TraditionalOpenSSL, s.BestAvailableEncryption(b"hunter2")
    )
    (folder / "locked.pem").write_bytes(locked)
    return {"other": folder / "other.pem", "locked": folder / "locked.pem"}


def test_every_mistake_is_said_at_once(file: Path) -> None:
    write(file, "rate_limit: {burst: many}\nbasic_auth_users:\n  a: b\nhttp_server_config:\n  http3: true\n")
    with pytest.raises(ConfigError) as refused:
        WebConfigFile(file)
    assert [line.removeprefix(f"{file}:").split(": ")[0] for line in str(refused.value).splitlines()] == [
        "1:21",
        "3:6",
        "5:3",
    ]


def test_a_check_of_the_configuration_reads_it_too(file: Path, tmp_path: Path) -> None:
    def check(*flags: str) -> tuple[int, str]:
        command = [sys.executable, "-m", "taskq_exporter", "--config.check", *flags]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
        return done.returncode, done.stdout + done.stderr

    flag = f"--web.config.file={file}"
    assert check(flag) == (1, f"{file}: cannot be read: No such file or directory\n")
    write(file, "rate_limit: {interval: 1s}")
    assert check(flag) == (1, f"{file}:1:13: rate_limit: burst must be at least 1: with 0 every request is refused\n")
    write(file, "rate_limit: {interval: 1s, burst: 5}")
    assert check(flag) == (0, f"{file}: good\n")
    assert check() == (1, "--config.check needs --config.file=FILE, --web.config.file=FILE or both\n")
