"""Where a server may listen, and how its connections are held."""

from __future__ import annotations

import ipaddress
import os
import re
import socket
import ssl
import stat
from typing import Any
from urllib.parse import urlsplit

from peftlab.errors import UserError
from peftlab.serving.access.keys import Keys
from peftlab.serving.access.tokens import ALGORITHMS, check_place
from peftlab.serving.settings import Settings

_KEYS = (
    "make keys, `peftlab keys add keys.yaml NAME`, and add --keys keys.yaml; or take tokens, --jwt-issuer, "
    "--jwt-audience and --jwks; or listen on 127.0.0.1"
)
_ORIGIN = re.compile(r"https?://(?:\[[0-9A-Fa-f:]+\]|[A-Za-z0-9.-]+)(?::\d{1,5})?")
_BACKLOG = 2048
_OWNERS_AND_GROUP = 0o037
"""The permissions that a private key may not have: a group may read it, such as Debian's ssl-cert."""


def check(settings: Settings) -> None:
    """Check that a server would be safe, before anything is loaded or listens.

    Raises:
        UserError: it would answer other machines without keys or unencrypted; a file, origin or address is no good.
    """
    _check_tokens(settings)
    _check_lists(settings)
    _check_tls(settings)
    if settings.keys:
        Keys(settings.keys)
    if settings.socket is None:
        _check_reach("--host", settings.host, settings)
    elif (settings.host, settings.port) != (Settings.host, Settings.port):
        raise UserError(f"--socket {settings.socket}: is in the place of an address: leave --host and --port out")
    if settings.admin_port is not None:
        _check_reach("--admin", settings.admin_host, settings)


def listen(settings: Settings) -> socket.socket:
    """Return the socket of the public routes, which listens; what is checked is the address that it has.

    A Unix socket is for this user alone from its first moment on; the file of an earlier server is removed.

    Raises:
        UserError: the address is taken, or none of this machine.
    """
    if settings.socket is None:
        return listen_at("--host", settings.host, settings.port, settings)
    path = settings.socket
    if path.exists() and not stat.S_ISSOCK(path.lstat().st_mode):
        raise UserError(f"--socket {path}: there is something else of that name")
    unix = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    before = os.umask(0o177)
    try:
        if path.exists() and unix.connect_ex(str(path)) == 0:
            raise UserError(f"--socket {path}: another server listens there")
        path.unlink(missing_ok=True)
        unix.bind(str(path))
        unix.listen(_BACKLOG)
    except OSError as error:
        raise UserError(f"--socket {path}: {error.strerror or error}") from error
    finally:
        os.umask(before)
    return unix


def listen_at(option: str, host: str, port: int, settings: Settings) -> socket.socket:
    """Return a socket that listens at the first address of `host`.

    Raises:
        UserError: see `listen` and `check`.
    """
    if port > 65_535:  # the system would take it modulo 65,536
        raise UserError(f"{option} {host}: port {port}: the highest is 65535")
    _check_reach(option, host, settings)
    family, address = _addresses(option, host, port)[0]
    tcp = socket.socket(family, socket.SOCK_STREAM)
    try:
        tcp.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            tcp.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        tcp.bind(address)
        tcp.listen(_BACKLOG)
    except OSError as error:
        tcp.close()
        raise UserError(f"{option} {host}: port {port}: {error.strerror or error}") from error
    return tcp


def is_loopback(host: str) -> bool:
    """Return whether only this machine reaches `host`, by all addresses that it has."""
    return all(_is_loopback(str(address[0])) for _, address in _addresses("--host", host, 0))


def names_of(host: str) -> tuple[str, ...]:
    """Return the names by which a server on loopback is asked for."""
    return ("localhost", "127.0.0.1", "[::1]", host, f"[{host}]")


def uvicorn_options(settings: Settings, admin: bool = False) -> dict[str, Any]:
    """Return the arguments of `uvicorn.Config` that keep slow and hostile clients from harming others.

    Args:
        settings: of the server.
        admin: whether it is for the administration.
    """
    from peftlab.seams.uvicorn import Bounds, bounded

    bounds = Bounds(settings.client_s, settings.max_connections)
    encrypted = settings.tls_cert is not None and not (admin and is_loopback(settings.admin_host))
    return {
        "http": bounded(bounds),
        "ws": "none",
        "access_log": False,
        "log_config": None,
        "server_header": False,
        "proxy_headers": bool(settings.proxies),
        "forwarded_allow_ips": list(settings.proxies),
        **({"ssl_certfile": settings.tls_cert, "ssl_keyfile": settings.tls_key} if encrypted else {}),
    }


def _addresses(option: str, host: str, port: int) -> list[tuple[int, Any]]:
    try:
        entries = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (OSError, UnicodeError) as error:
        raise UserError(f"{option} {host}: is no address or name of this machine") from error
    return sorted(((entry[0], entry[4]) for entry in entries), key=lambda one: one[0] != socket.AF_INET)


def _is_loopback(address: str) -> bool:
    ip = ipaddress.ip_address(address.partition("%")[0])
    return (getattr(ip, "ipv4_mapped", None) or ip).is_loopback


def _check_reach(option: str, host: str, settings: Settings) -> None:
    beyond = [str(one[0]) for _, one in _addresses(option, host, 0) if not _is_loopback(str(one[0]))]
    if not beyond:
        return
    reached = f"{option} {host or '(any)'}: other machines reach {beyond[0]}"
    if settings.keys is None and settings.jwks is None:
        raise UserError(f"{reached}, and nobody is asked for a key: {_KEYS}")
    if settings.tls_cert is None and not settings.behind_proxy:
        raise UserError(
            f"{reached}, and keys and texts would go there unencrypted: add --tls-cert and --tls-key; or, where "
            "something in front of the server encrypts, say so by --behind-proxy"
        )


def _check_tokens(settings: Settings) -> None:
    parts = {
        "--jwt-issuer": settings.jwt_issuer,
        "--jwt-audience": settings.jwt_audience,
        "--jwks": settings.jwks,
    }
    missing = [option for option, value in parts.items() if not value]
    if missing and len(missing) < len(parts):
        raise UserError(f"{', '.join(missing)}: missing: without all of {', '.join(parts)} any token could pass")
    if odd := [one for one in settings.jwt_algorithms if one not in ALGORITHMS]:
        raise UserError(
            f"--jwt-algorithms {odd[0]}: is none that only the issuer can sign with. Allowed: {', '.join(ALGORITHMS)}"
        )
    if not settings.jwks:
        for option in ("jwt_algorithms", "jwt_claim"):
            if getattr(settings, option) != getattr(Settings, option):
                raise UserError(f"--{option.replace('_', '-')}: is about tokens: without --jwks none is taken")
    else:
        if not settings.jwt_algorithms:
            raise UserError(f"--jwt-algorithms: name at least one of {', '.join(ALGORITHMS)}")
        check_place(settings.jwks)


def _check_lists(settings: Settings) -> None:
    for origin in settings.cors:
        if not _ORIGIN.fullmatch(origin):
            raise UserError(f"--cors {origin}: name an origin, such as https://app.example; no path, no *")
    for proxy in settings.proxies:
        try:
            network = ipaddress.ip_network(proxy)
        except ValueError:
            raise UserError(f"--proxy {proxy}: is no address or network, such as 10.0.0.7 or 10.0.0.0/24") from None
        if network.prefixlen == 0:
            raise UserError(f"--proxy {proxy}: everybody would be believed: name your proxies")
    for host in settings.hosts:
        if urlsplit(f"//{host}").hostname is None or "/" in host or host == "*":
            raise UserError(f"--hosts {host}: name a host, such as models.example or *.models.example")


def _check_tls(settings: Settings) -> None:
    certificate, key = settings.tls_cert, settings.tls_key
    if (certificate is None) != (key is None):
        raise UserError("--tls-cert and --tls-key go together: name the file of the certificate and that of its key")
    if certificate is None or key is None:
        return
    for option, file in (("--tls-cert", certificate), ("--tls-key", key)):
        if not file.is_file():
            raise UserError(f"{option} {file}: is no file")
    if (mode := stat.S_IMODE(key.stat().st_mode)) & _OWNERS_AND_GROUP:
        raise UserError(f"--tls-key {key}: others may read or change it (mode {mode:04o}); close it: chmod 600 {key}")
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(certificate, key, password=_no_password)
    except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
        raise UserError(f"--tls-cert {certificate}, --tls-key {key}: are no certificate and its open key") from error


def _no_password() -> str:
    """Stand in for a question at the terminal."""
    return ""
