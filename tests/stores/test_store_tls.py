"""A store that speaks TLS, and users with the rights that the documentation asks for, over the machine's own Redis."""

import shutil
import subprocess

import pytest
from explained import explained

from proxy.accounts import Account
from proxy.stores.keys import RedisKeys
from tests.conftest import debian_redis, missing
from tests.stores.changes import attached
from tests.stores.redis_servers import cluster, free_ports, single

ACME = Account("acme", None, disabled=False, version=1, created_ms=1)


def openssl(*words, folder):
    subprocess.run(["openssl", *words], cwd=folder, check=True, capture_output=True, timeout=30)


@pytest.fixture(scope="module")
def certificates(tmp_path_factory):
    """An authority, and a key with its certificate for 127.0.0.1, as servers and clients use them."""
    if shutil.which("openssl") is None:
        missing("openssl", "openssl")
    folder = tmp_path_factory.mktemp("certificates")
    new_key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
    openssl("req", "-x509", *new_key, "-keyout", "ca.key", "-out", "ca.pem", "-days", "2", "-subj", "/CN=authority",
            folder=folder)  # fmt: skip
    openssl("req", *new_key, "-keyout", "own.key", "-out", "own.csr", "-subj", "/CN=store", folder=folder)
    (folder / "names").write_text("subjectAltName=IP:127.0.0.1\n")
    openssl("x509", "-req", "-in", "own.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-out", "own.pem",
            "-days", "2", "-extfile", "names", folder=folder)  # fmt: skip
    return folder


def tls(certificates, port, **more):
    return {
        "tls_port": str(port),
        "tls_cert_file": str(certificates / "own.pem"),
        "tls_key_file": str(certificates / "own.key"),
        "tls_ca_cert_file": str(certificates / "ca.pem"),
        "tls_auth_clients": "no",
        **more,
    }


@pytest.fixture(scope="module")
def secured(certificates, tmp_path_factory):
    (port,) = free_ports(1)
    with single(debian_redis(), tmp_path_factory.mktemp("tls"), **tls(certificates, port)) as server:
        yield server


def url_of(server, options="", credentials=""):
    return f"rediss://{credentials}127.0.0.1:{server.options['tls-port']}/0{options}"


async def test_a_server_of_a_known_authority_is_used(secured, certificates):
    async with attached(url_of(secured, f"?ssl_ca_certs={certificates}/ca.pem")) as store:
        assert await RedisKeys(store).create_account(ACME)


async def test_a_server_of_an_unknown_authority_is_refused(secured):
    assert "certificate verify failed" in await explained(url_of(secured))


async def test_a_server_with_another_name_is_refused(secured, certificates):
    url = url_of(secured, f"?ssl_ca_certs={certificates}/ca.pem").replace("127.0.0.1", "localhost")

    assert "certificate verify failed" in await explained(url)


async def test_a_server_that_speaks_no_tls_is_given_up(secured):
    """Redis waits for the rest of what is no command; so does a client for the rest of the handshake."""
    assert "did not answer in time" in await explained(f"rediss://127.0.0.1:{secured.port}")


async def test_a_server_may_ask_for_a_certificate_of_the_gateway(certificates, tmp_path):
    (port,) = free_ports(1)
    options = tls(certificates, port, tls_auth_clients="yes")
    own = f"&ssl_certfile={certificates}/own.pem&ssl_keyfile={certificates}/own.key"
    with single(debian_redis(), tmp_path, **options) as server:
        bare = url_of(server, f"?ssl_ca_certs={certificates}/ca.pem")
        assert "cannot be used" in await explained(bare)
        async with attached(bare + own) as store:
            assert store.up


async def test_a_user_with_the_rights_of_the_documentation_is_enough_and_one_with_less_is_explained(
    secured, certificates
):
    with secured.client() as client:
        client.execute_command("ACL", "SETUSER", "gateway", "on", ">its-secret", "~aion:*", "+@all")
        client.execute_command("ACL", "SETUSER", "reader", "on", ">its-secret", "~aion:*", "+@read", "+info")
    options = f"?ssl_ca_certs={certificates}/ca.pem"

    async with attached(url_of(secured, options, "gateway:its-secret@")) as store:
        assert await RedisKeys(store).account("nobody") is None
    detail = await explained(url_of(secured, options, "reader:its-secret@"))
    assert "does not allow its user what is needed" in detail
    assert "its-secret" not in detail


@pytest.mark.timeout(120)
async def test_a_cluster_speaks_tls_on_every_node(certificates, tmp_path):
    def options_of_node(port):
        return tls(certificates, port, tls_cluster="yes", tls_replication="yes")

    with cluster(debian_redis(), tmp_path, options_of_node=options_of_node) as nodes:
        url = f"rediss+cluster://127.0.0.1:{nodes.nodes[0].options['tls-port']}?ssl_ca_certs={certificates}/ca.pem"
        async with attached(url) as store:
            for number in range(20):
                assert await RedisKeys(store).create_account(Account(f"a{number}", None, False, 1, 1))
            assert len(await RedisKeys(store).accounts()) == 20
