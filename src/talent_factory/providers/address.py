"""Where a service lives and what opens it: addresses and keys from arguments or the variables users know."""

from __future__ import annotations

import ipaddress
import os
import re
from collections.abc import Sequence
from urllib.parse import urlsplit

from talent_factory.core.errors import ProviderRefused, UsageError


def endpoint(argument: str | None, *, variables: Sequence[str], default: str, strip: str = "") -> str:
    """Where a service lives: the argument, else the first variable that is set, else the default.

    Ends without a slash and without `strip` ("/v1"), so that both shapes users know are taken. Raises
    UsageError for anything but https, or http to this very machine (loopback).
    """
    source, text = "the endpoint", (argument or "").strip()
    for variable in variables:
        if not text:
            source, text = variable, os.environ.get(variable, "").strip()
    base = (text or default).rstrip("/")
    problem = address_problem(base) or ("it goes on after ? or #" if "?" in base or "#" in base else "")
    if problem:
        raise UsageError(
            f"{source} cannot be used: {problem}",
            remedy="give an https address, or http://127.0.0.1:PORT for a server on this machine",
        )
    return base.removesuffix(strip).rstrip("/") if strip else base


def api_key(argument: str | None, *, variables: Sequence[str], service: str, page: str) -> str:
    """The key from the argument or the first variable that is set.

    Raises ProviderRefused, naming the variable and where to get a key, when there is none or a broken one.
    """
    key = (argument or "").strip()
    for variable in variables:
        key = key or os.environ.get(variable, "").strip()
    remedy = f"get one at {page} and set {variables[0]}, or use --provider embedded (free, offline)"
    if not key:
        raise ProviderRefused(f"{service} needs a key: {variables[0]} is not set", remedy=remedy)
    if not re.fullmatch(r"[\x21-\x7e]+", key):
        raise ProviderRefused(
            f"{variables[0]} holds characters that no {service} key has (a space, a line end?)", remedy=remedy
        )
    return key


def is_loopback(url: str) -> bool:
    """Whether the address names this very machine (localhost, 127.0.0.0/8, ::1)."""
    host = urlsplit(url).hostname or ""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def address_problem(url: str, *, plain: bool = True) -> str:
    """Why an address is not to be used, or "". `plain` allows http to loopback."""
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        return "it is no address"
    if not host or parts.scheme not in ("http", "https"):
        return "it is no http(s) address"
    if parts.username or parts.password:
        return "it holds a user name or password"
    if parts.scheme == "http" and not (plain and is_loopback(url)):
        return f"http://{host} is not encrypted"
    return ""


def origin(url: str) -> tuple[str, str, int]:
    """Scheme, host and port: what two addresses of one server share."""
    parts = urlsplit(url)
    return parts.scheme, parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)
