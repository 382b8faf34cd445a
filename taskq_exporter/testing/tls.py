"""Certificates for servers on loopback, signed by an authority that only the test knows."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Certificates", "make_certificates"]


@dataclass(frozen=True)
class Certificates:
    """Paths of PEM files."""

    authority: Path
    certificate: Path
    key: Path

    def context(self) -> ssl.SSLContext:
        """A client's context that trusts the authority."""
        return ssl.create_default_context(cafile=self.authority)


def make_certificates(directory: Path) -> Certificates:
    """Write a new authority, and a certificate for 127.0.0.1 and localhost with its key, into a folder."""
    import trustme

    authority = trustme.CA()
    server = authority.issue_cert("127.0.0.1", "localhost")
    made = Certificates(directory / "authority.pem", directory / "certificate.pem", directory / "key.pem")
    authority.cert_pem.write_to_path(str(made.authority))
    server.cert_chain_pems[0].write_to_path(str(made.certificate))
    server.private_key_pem.write_to_path(str(made.key))
    return made
