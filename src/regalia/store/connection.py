"""Connections to untrusted stores: whose certificates are believed, and that nothing is kept."""

from __future__ import annotations

import os
import ssl
from http.cookiejar import CookieJar, DefaultCookiePolicy

import httpx

from regalia.core.errors import CoreCode, UsageError

# The variables that OpenSSL itself reads, and with it curl, git and most other programs.
_FILE, _FOLDER = "SSL_CERT_FILE", "SSL_CERT_DIR"


def store_client(transport: httpx.BaseTransport, *, step_s: float) -> httpx.Client:
    """An HTTP client that follows no redirects, knows no proxy, and keeps no cookies.

    A cookie of one answer would go along with later requests, also to other hosts of its domain.

    Args:
        transport: bounds whole answers. Closed with the client.
        step_s: seconds that each step of a request may take.
    """
    return httpx.Client(
        timeout=step_s,
        trust_env=False,
        follow_redirects=False,
        cookies=CookieJar(DefaultCookiePolicy(allowed_domains=())),
        transport=transport,
    )


def certificates(bundle: str | None = None, named_by: str = "") -> ssl.SSLContext:
    """Authorities that a store's certificate may come from.

    They are those of a bundle, or of SSL_CERT_FILE or SSL_CERT_DIR, or else the public ones that
    Regalia brings.

    Args:
        bundle: file or folder of authorities, which goes before the environment.
        named_by: setting that names the bundle, for messages.

    Raises:
        UsageError: BAD_CONFIG, there are no certificates at that place.
    """
    if bundle:
        return _read(bundle, named_by)
    for variable in (_FILE, _FOLDER):
        if path := os.environ.get(variable):
            return _read(path, variable)
    return httpx.create_ssl_context(trust_env=False)


def _read(path: str, named_by: str) -> ssl.SSLContext:
    try:
        if os.path.isdir(path):  # noqa: PTH112 - a text of somebody else's setting
            # Nothing is read yet: of an empty folder, every certificate will be refused.
            return ssl.create_default_context(capath=path)
        return ssl.create_default_context(cafile=path)
    except (OSError, ValueError) as exc:  # ssl.SSLError is an OSError
        raise UsageError(
            CoreCode.BAD_CONFIG, f"{named_by}={path}: no certificates: {type(exc).__name__}"
        ) from exc
