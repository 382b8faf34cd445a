"""TLS of the server: certificates that change while it runs, and clients that must show one."""

from __future__ import annotations

import asyncio
import re
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import trustme
import yaml
from aiohttp.test_utils import TestServer
from structlog.testing import capture_logs

from taskq_exporter.exporter import Exporter
from taskq_exporter.web.app import make_app
from taskq_exporter.web.secure import protect
from taskq_exporter.web.webconfig import WebConfigFile

OURS, THEIRS = trustme.CA(), trustme.CA()
#: What a client sees of a server that does not take it, during the handshake or after it.
REFUSED = (ssl.SSLError, ConnectionError, asyncio.IncompleteReadError)


def write_certificate(folder: Path, authority: trustme.CA = OURS, name: str = "127.0.0.1") -> str:
    """Write certificate.pem and key.pem; returns the serial number as getpeercert() has it."""
    issued = authority.issue_cert(name)
    for file, content in (
        ("certificate.pem", issued.cert_chain_pems[0].bytes()),
        ("key.pem", issued.private_key_pem.bytes()),
    ):
        (folder / "new").write_bytes(content)
        (folder / "new").replace(folder / file)
    return serial(folder)


def serial(folder: Path) -> str:
    decoded: dict[str, Any] = ssl._ssl._test_decode_cert(str(folder / "certificate.pem"))  # type: ignore[attr-defined]
    return str(decoded["serialNumber"])


def write(folder: Path, text: str = "", **tls: object) -> Path:
    tls = {"cert_file": "certificate.pem", "key_file": "key.pem", **tls}
    (folder / "web.yml.new").write_text(yaml.safe_dump({"tls_server_config": tls}) + text)
    return (folder / "web.yml.new").replace(folder / "web.yml")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_certificate(tmp_path)
    OURS.cert_pem.write_to_path(str(tmp_path / "authority.pem"))
    return tmp_path


def context(*, certificate: trustme.LeafCert | None = None, **limits: Any) -> ssl.SSLContext:
    made = ssl.create_default_context()
    OURS.configure_trust(made)
    if certificate is not None:
        certificate.configure_cert(made)
    for name, value in limits.items():
        setattr(made, name, value)
    return made


@asynccontextmanager
async def serving(file: Path) -> AsyncIterator[int]:
    """An exporter without sources behind TLS; its port."""
    exporter, web_config = Exporter(), WebConfigFile(file)
    app = make_app(exporter)
    protect(app, web_config)
    server = TestServer(app, host="127.0.0.1", scheme="https")
    await server.start_server(ssl=web_config.server_context())
    assert server.port is not None
    yield server.port
    await server.close()
    await exporter.close()


class Client:
    """One connection."""

    def __init__(self, port: int, tls: ssl.SSLContext | None) -> None:
        self._port, self._tls = port, tls

    async def __aenter__(self) -> Client:
        name = "127.0.0.1" if self._tls else None
        self._reader, self._writer = await asyncio.open_connection(
            "127.0.0.1", self._port, ssl=self._tls, server_hostname=name
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        self._writer.close()
        with suppress(*REFUSED):
            await self._writer.wait_closed()

    async def get(self) -> int:
        """The status of the server's health."""
        self._writer.write(b"GET /-/healthy HTTP/1.1\r\nHost: here\r\n\r\n")
        head = (await self._reader.readuntil(b"\r\n\r\n")).decode()
        length = re.search(r"Content-Length: (\d+)", head)
        assert length is not None
        await self._reader.readexactly(int(length[1]))
        return int(head.split()[1])

    @property
    def serial(self) -> str:
        """The serial number of the server's certificate."""
        return str(self._writer.get_extra_info("peercert")["serialNumber"])

    @property
    def cipher(self) -> str:
        return str(self._writer.get_extra_info("cipher")[0])


async def ask(port: int, tls: ssl.SSLContext | None) -> tuple[int, str]:
    """Status and serial number of the server's certificate, over a connection of its own."""
    async with Client(port, tls) as client:
        return await client.get(), client.serial if tls else ""


async def test_a_certificate_is_rotated_without_dropping_a_connection(folder: Path) -> None:
    first = serial(folder)
    async with serving(write(folder)) as port, Client(port, context()) as kept:
        with capture_logs() as lines:
            assert (await kept.get(), kept.serial) == (200, first)
            second = write_certificate(folder)
            assert (await ask(port, context())) == (200, second)
            assert (await kept.get(), kept.serial) == (200, first), "the open connection goes on"

            (folder / "certificate.pem").write_text("garbage")
            for _ in range(3):
                assert (await ask(port, context())) == (200, second), "a bad new one keeps the old"
            third = write_certificate(folder)
            assert (await ask(port, context())) == (200, third)
    bad = [line for line in lines if line["log_level"] == "error"]
    assert [line["event"] for line in bad] == ["web configuration is bad: the last good one holds"]
    assert "cert_file: no certificate and key in PEM" in bad[0]["error"]
    assert not any("BEGIN" in str(line) for line in lines)


async def test_a_file_that_was_missing_is_noticed_when_it_comes(folder: Path) -> None:
    async with serving(write(folder)) as port:
        old = serial(folder)
        write(folder, cert_file="later/certificate.pem", key_file="later/key.pem")
        assert (await ask(port, context())) == (200, old)
        (folder / "later").mkdir()
        new = write_certificate(folder / "later")
        assert (await ask(port, context())) == (200, new)


async def test_a_certificate_may_stand_in_the_file_itself(folder: Path) -> None:
    pem = {name: (folder / f"{name}.pem").read_text() for name in ("certificate", "key", "authority")}
    wanted = serial(folder)
    (folder / "web.yml").write_text(
        yaml.safe_dump(
            {
                "tls_server_config": {
                    "cert": pem["certificate"],
                    "key": pem["key"],
                    "client_ca": pem["authority"],
                    "client_auth_type": "VerifyClientCertIfGiven",
                }
            }
        )
    )
    for name in pem:
        (folder / f"{name}.pem").unlink()
    async with serving(folder / "web.yml") as port:
        assert (await ask(port, context())) == (200, wanted)
        assert (await ask(port, context(certificate=OURS.issue_cert("a"))))[0] == 200
        with pytest.raises(REFUSED):
            await ask(port, context(certificate=THEIRS.issue_cert("a")))


async def test_clients_must_show_a_certificate_that_is_verified(folder: Path) -> None:
    async with serving(write(folder)) as port:
        assert (await ask(port, context()))[0] == 200
        # asked for from the next connection on
        write(folder, client_ca_file="authority.pem", client_auth_type="RequireAndVerifyClientCert")
        for certificate in (None, THEIRS.issue_cert("a")):
            with pytest.raises(REFUSED):
                await ask(port, context(certificate=certificate))
        assert (await ask(port, context(certificate=OURS.issue_cert("a"))))[0] == 200


@pytest.mark.parametrize(
    ("names", "status"),
    [
        (["prometheus.example"], 200),
        (["other.example", "2001:db8::1"], 200),
        (["p@example.org"], 200),
        (["other.example"], 403),
        (["10.0.0.1"], 403),
        (["sub.prometheus.example"], 403),
    ],
)
async def test_only_clients_with_an_allowed_name_are_served(names: list[str], status: int, folder: Path) -> None:
    file = write(
        folder,
        client_ca_file="authority.pem",
        client_auth_type="RequireAndVerifyClientCert",
        client_allowed_sans=["prometheus.example", "2001:db8::1", "p@example.org"],
    )
    # the name of the subject is none
    certificate = OURS.issue_cert(*names, common_name="prometheus.example")
    async with serving(file) as port:
        assert (await ask(port, context(certificate=certificate)))[0] == status


@pytest.mark.parametrize(
    ("tls", "limits", "works"),
    [
        ({"min_version": "TLS13"}, {"maximum_version": ssl.TLSVersion.TLSv1_2}, False),
        ({"min_version": "TLS13"}, {}, True),
        ({"max_version": "TLS12"}, {"minimum_version": ssl.TLSVersion.TLSv1_3}, False),
        ({"max_version": "TLS12"}, {}, True),
        ({"cipher_suites": ["TLS_AES_128_GCM_SHA256"]}, {"maximum_version": ssl.TLSVersion.TLSv1_2}, False),
    ],
)
async def test_versions_are_those_that_the_file_allows(
    tls: dict[str, str], limits: dict[str, Any], works: bool, folder: Path
) -> None:
    async with serving(write(folder, **tls)) as port:
        if works:
            assert (await ask(port, context(**limits)))[0] == 200
        else:
            with pytest.raises(REFUSED):
                await ask(port, context(**limits))


async def test_suites_and_curve_are_those_that_the_file_names(folder: Path) -> None:
    suites = ["TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256", "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256"]
    theirs = ["ECDHE-ECDSA-AES128-GCM-SHA256", "ECDHE-ECDSA-CHACHA20-POLY1305"]
    client = context(maximum_version=ssl.TLSVersion.TLSv1_2)
    client.set_ciphers(":".join(theirs))
    async with serving(write(folder, cipher_suites=suites, curve_preferences=["CurveP256"])) as port:
        async with Client(port, client) as connection:
            assert (await connection.get(), connection.cipher) == (200, theirs[1]), "the server's order"
        write(folder, cipher_suites=suites, prefer_server_cipher_suites=False)
        async with Client(port, client) as connection:
            assert (await connection.get(), connection.cipher) == (200, theirs[0]), "the client's order"
        client.set_ciphers("ECDHE-ECDSA-AES256-GCM-SHA384")
        with pytest.raises(REFUSED):
            await ask(port, client)
        write(folder, curve_preferences=["CurveP384"])
        other = context()
        other.set_ecdh_curve("prime256v1")
        with pytest.raises(REFUSED):
            await ask(port, other)
        other.set_ecdh_curve("secp384r1")
        assert (await ask(port, other))[0] == 200


async def test_tls_is_not_switched_off_while_it_runs(folder: Path) -> None:
    async with serving(write(folder)) as port:
        with capture_logs() as lines:
            (folder / "web.yml").write_text("")
            assert (await ask(port, context()))[0] == 200
    assert "TLS cannot be switched on or off while it runs: restart" in lines[0]["error"]


async def test_nobody_is_served_without_tls(folder: Path) -> None:
    async with serving(write(folder)) as port:
        with pytest.raises(REFUSED):
            await ask(port, None)
        assert (await ask(port, context()))[0] == 200
