"""Certificates for the ports of one server: a throw-away CA, what it signs, and what is wrong with that on purpose."""

import ssl
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from asgi_fault.errors import NotSupported

if TYPE_CHECKING:
    from trustme import Blob

HOSTS = ("localhost", "127.0.0.1", "::1")
WRONG_HOST = "wrong-host.invalid"  # never a name of anybody (RFC 6761 section 6.4)
EXPIRED_ON = datetime(2001, 1, 1, tzinfo=UTC)
LIFE = timedelta(days=3650)


class Authority:
    """A CA whose key never leaves this process.

    Raises:
        NotSupported: the library that makes certificates is not installed.
    """

    def __init__(self) -> None:
        try:
            from trustme import CA
        except ImportError:
            raise NotSupported(
                "Certificates for TLS ports are made by trustme, which is not installed: pip install 'asgi-fault[tls]'."
            ) from None
        self._ca: CA = CA(organization_name="asgi-fault, for tests only")

    @property
    def pem(self) -> str:
        """The CA's certificate, for the client to trust."""
        return self._ca.cert_pem.bytes().decode("ascii")

    def context(self, fault: str, host: str) -> ssl.SSLContext:
        """What a server at the address `host` needs.

        Args:
            fault: `expired`, `wrong-host`, `self-signed`, or none: "".
            host: stands in the certificate, beside the names of this machine.
        """
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.set_alpn_protocols(["http/1.1"])
        with self._certificate(fault, dict.fromkeys((*HOSTS, host))).tempfile() as path:
            context.load_cert_chain(path)
        return context

    def _certificate(self, fault: str, hosts: "dict[str, None]") -> "Blob":
        if fault == "self-signed":
            return _self_signed(hosts)
        names = (WRONG_HOST,) if fault == "wrong-host" else tuple(hosts)
        leaf = self._ca.issue_cert(*names, not_after=EXPIRED_ON if fault == "expired" else None)
        return leaf.private_key_and_cert_chain_pem


def _self_signed(hosts: "dict[str, None]") -> "Blob":
    """A certificate, and its key, that vouches for itself; trustme makes none without a CA."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
    from trustme import CA, Blob

    # The names as trustme writes them.
    like = x509.load_pem_x509_certificate(CA().issue_cert(*hosts).cert_chain_pems[0].bytes())
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.ORGANIZATION_NAME, "asgi-fault, signed by itself")])
    now = datetime.now(UTC)
    builder = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number(), now - LIFE, now + LIFE)
    for extension in like.extensions:
        if not isinstance(extension.value, x509.AuthorityKeyIdentifier | x509.SubjectKeyIdentifier):
            builder = builder.add_extension(extension.value, extension.critical)
    certificate = builder.sign(key, hashes.SHA256())
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return Blob(pem + certificate.public_bytes(Encoding.PEM))
