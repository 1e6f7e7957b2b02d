"""The options of `peftlab serve` about who may ask, and how much."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from peftlab.serving.settings import Settings
from peftlab.terminal.arguments import positive_number, positive_whole_number


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options; the name of each value is a field of `Settings`."""
    group = parser.add_argument_group("who may ask, and how much")
    add = group.add_argument
    add("--keys", type=Path, metavar="FILE", help="ask for a key of this file, which `peftlab keys` writes")
    add("--jwt-issuer", metavar="URL", help="also take signed tokens of this issuer (OpenID Connect)")
    add("--jwt-audience", metavar="NAME", help="that tokens must be meant for")
    add("--jwks", metavar="FILE|URL", help="the issuer's public keys")
    add(
        "--jwt-algorithms",
        metavar="NAMES",
        type=_words,
        default=Settings.jwt_algorithms,
        help="signatures to take, separated by commas; by default RS256,ES256",
    )
    add(
        "--jwt-claim",
        metavar="NAME",
        default=Settings.jwt_claim,
        help="the claim with the models that a token is for; by default scope",
    )
    add("--requests-per-minute", type=positive_whole_number, metavar="N", help="of each caller; by default any number")
    add("--tokens-per-minute", type=positive_whole_number, metavar="N", help="of each caller's texts, likewise")
    add(
        "--max-body",
        type=positive_whole_number,
        default=Settings.max_body,
        metavar="BYTES",
        help=f"the largest body of a request; by default {Settings.max_body:,}",
    )
    add(
        "--client-timeout",
        dest="client_s",
        type=positive_number,
        default=Settings.client_s,
        metavar="SECONDS",
        help=f"for the head of a request, for its body, and to read on; by default {Settings.client_s:g}",
    )
    add(
        "--max-connections",
        type=positive_whole_number,
        default=Settings.max_connections,
        metavar="N",
        help=f"of a worker; beyond them the longest idle is closed; by default {Settings.max_connections}",
    )
    add("--open-page", action="store_true", help="show the page and /docs without a key, where keys are asked for")
    add(
        "--hosts",
        action="append",
        default=[],
        metavar="NAME",
        help="answer under this name only, may be given several times; by default, on loopback, its own names",
    )
    add("--cors", action="append", default=[], metavar="ORIGIN", help="let pages of this origin ask; several times")
    group = parser.add_argument_group("where it listens")
    add = group.add_argument
    add("--socket", type=Path, metavar="FILE", help="a Unix socket for this user alone, in the place of a port")
    add(
        "--tls-cert", type=Path, metavar="FILE", help="encrypt, with this certificate (and those that lead to its root)"
    )
    add("--tls-key", type=Path, metavar="FILE", help="and its private key")
    add("--behind-proxy", action="store_true", help="something in front encrypts: listen beyond loopback without TLS")
    add(
        "--proxy",
        dest="proxies",
        action="append",
        default=[],
        metavar="ADDRESS",
        help="believe X-Forwarded-For and -Proto from this address or network; several times; by default nobody",
    )


def values_of(options: argparse.Namespace) -> dict[str, Any]:
    """Return the fields of `Settings` that these options set."""
    lists = {name: tuple(getattr(options, name)) for name in ("hosts", "cors", "proxies", "jwt_algorithms")}
    names = (
        "keys jwt_issuer jwt_audience jwks jwt_claim requests_per_minute tokens_per_minute max_body open_page client_s "
        "max_connections socket tls_cert tls_key behind_proxy"
    )
    return {**lists, **{name: getattr(options, name) for name in names.split()}}


def _words(text: str) -> tuple[str, ...]:
    return tuple(filter(None, text.split(",")))
