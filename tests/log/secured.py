"""A real broker whose other listeners want a login, and TLS with a certificate made for the test."""

from __future__ import annotations

import datetime
import ipaddress
from pathlib import Path

from confluent_kafka.admin import AdminClient, ScramCredentialInfo, ScramMechanism, UserScramCredentialUpsertion
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from orchestrator.devkafka.cluster import DevKafka, Plan

USER, PASSWORD = "shop", "hunter2-is-nobodys-business"
WAIT_S = 30.0
PLAIN = f'org.apache.kafka.common.security.plain.PlainLoginModule required user_{USER}="{PASSWORD}";'
SCRAM = "org.apache.kafka.common.security.scram.ScramLoginModule required;"


def certificate() -> tuple[str, str]:
    """A certificate of 127.0.0.1 that signs itself, and its key, in PEM."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
    now, day = datetime.datetime.now(datetime.UTC), datetime.timedelta(days=1)
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number(), now - day, now + day)
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return made.public_bytes(serialization.Encoding.PEM).decode(), private.decode()


class Secured:
    """The broker: by SASL_PLAINTEXT with PLAIN, by SASL_SSL with SCRAM-SHA-512, and openly for the test itself."""

    def __init__(self, folder: Path) -> None:
        chain, key = certificate()
        self.authority = folder / "ca.pem"
        self.authority.write_text(chain, encoding="ascii")
        tls = "listener.name.sasl_ssl.ssl.keystore"
        extra = {
            "listener.name.sasl_plaintext.sasl.enabled.mechanisms": "PLAIN",
            "listener.name.sasl_ssl.sasl.enabled.mechanisms": "SCRAM-SHA-512",
            "listener.name.sasl_plaintext.plain.sasl.jaas.config": PLAIN,
            "listener.name.sasl_ssl.scram-sha-512.sasl.jaas.config": SCRAM,
            f"{tls}.type": "PEM",
            f"{tls}.key": key,
            f"{tls}.certificate.chain": chain,
        }
        self.kafka = DevKafka.run(Plan(extra=extra, secured=("SASL_PLAINTEXT", "SASL_SSL")))
        admin = AdminClient({"bootstrap.servers": self.kafka.bootstrap})
        credential = ScramCredentialInfo(ScramMechanism.SCRAM_SHA_512, 4096)
        user = UserScramCredentialUpsertion(USER, credential, PASSWORD.encode())
        for future in admin.alter_user_scram_credentials([user]).values():
            future.result(WAIT_S)

    def options(self, protocol: str, password: str = PASSWORD) -> dict[str, str]:
        """librdkafka's options for one of the listeners."""
        mechanism = {"SASL_PLAINTEXT": "PLAIN", "SASL_SSL": "SCRAM-SHA-512"}[protocol]
        login = {"sasl.mechanism": mechanism, "sasl.username": USER, "sasl.password": password}
        tls = {"ssl.ca.location": str(self.authority)} if protocol == "SASL_SSL" else {}
        return {"security.protocol": protocol, **login, **tls}


def variables(options: dict[str, str]) -> dict[str, str]:
    """The same options as settings of the environment."""
    return {f"ORCHESTRATOR_KAFKA_{name.upper().replace('.', '_')}": value for name, value in options.items()}
