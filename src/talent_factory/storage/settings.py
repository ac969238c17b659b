"""Where an S3 bucket is and what opens it: from arguments, the variables users know, or a `.env` file."""

from __future__ import annotations

import ipaddress
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from talent_factory.core.errors import ConfigError
from talent_factory.storage.dotenv import read_dotenv

DEFAULT_REGION = "us-west-1"
BUCKET = "AWS_USER_FILES_BUCKET"
_PAIRS = (("AWS_ACCESS_KEY", "AWS_ACCESS_SECRET"), ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"))
_TOKEN = "AWS_SESSION_TOKEN"
_REGIONS = ("AWS_REGION", "AWS_DEFAULT_REGION")
_ENDPOINTS = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL")
_BUCKET_NAME = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
_REGION_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,40}")


@dataclass(frozen=True, slots=True)
class S3Settings:
    """One bucket and the keys to it; the keys are in no repr.

    `endpoint` is "" for Amazon's own, else an address without a slash at its end (https, or http to this
    machine). `token` belongs to temporary keys and may be "".
    """

    bucket: str
    region: str = DEFAULT_REGION
    endpoint: str = ""
    access_key: str = field(default="", repr=False)
    secret_key: str = field(default="", repr=False)
    token: str = field(default="", repr=False)

    def __post_init__(self) -> None:
        _check_names(self.bucket, self.region)
        _check_endpoint(self.endpoint)

    @property
    def base(self) -> str:
        """The address that requests go to, without the bucket."""
        return self.endpoint or f"https://s3.{self.region}.amazonaws.com"

    @property
    def public(self) -> str:
        """The address that plain links begin with: the bucket as a host at Amazon, as a path elsewhere."""
        # a dot in the bucket's name would step out of the certificate *.s3.region.amazonaws.com
        if self.endpoint or "." in self.bucket:
            return f"{self.base}/{self.bucket}"
        return f"https://{self.bucket}.s3.{self.region}.amazonaws.com"


def s3_settings(
    bucket: str | None = None,
    *,
    region: str | None = None,
    endpoint: str | None = None,
    environ: Mapping[str, str] | None = None,
    dotenv: Path | None = None,
) -> S3Settings:
    """The settings of a bucket: arguments first, then the environment, then the `.env` file.

    AWS_ACCESS_KEY + AWS_ACCESS_SECRET, or AWS_ACCESS_KEY_ID + AWS_SECRET_ACCESS_KEY (+ AWS_SESSION_TOKEN);
    AWS_REGION or AWS_DEFAULT_REGION; AWS_USER_FILES_BUCKET; AWS_ENDPOINT_URL. Without `dotenv` the file
    `.env` in the working folder is read, when there is one; it is never put into the environment. A key and
    its secret are always taken from the same place.

    Raises:
        ConfigError: something is missing (the message names the variable), half given, or no name or address.
    """
    outer = dict(os.environ if environ is None else environ)
    inner = read_dotenv(Path(".env") if dotenv is None else dotenv)
    merged = {**inner, **{name: value for name, value in outer.items() if value.strip()}}
    access, secret, token = _keys(outer, inner)
    name = (bucket or merged.get(BUCKET, "")).strip()
    if not name:
        raise ConfigError(
            f"storing in S3 needs a bucket: {BUCKET} is not set",
            remedy=f"set {BUCKET}, or name one (s3://BUCKET), or leave the store out to keep a local folder",
        )
    return S3Settings(
        bucket=name,
        region=(region or _first(merged, _REGIONS) or DEFAULT_REGION).strip(),
        endpoint=(endpoint or _first(merged, _ENDPOINTS)).strip().rstrip("/"),
        access_key=access,
        secret_key=secret,
        token=token,
    )


def _keys(*sources: Mapping[str, str]) -> tuple[str, str, str]:
    """(access key, secret, token) from the first source that holds a whole pair."""
    for source in sources:
        for names in _PAIRS:
            access, secret = (source.get(name, "").strip() for name in names)
            if access and secret:
                _check_key(names, access, secret)
                # a token belongs to the standard pair: the older names never had one
                token = source.get(_TOKEN, "").strip() if names == _PAIRS[1] else ""
                return access, secret, token
            if access or secret:
                there, lacking = names if access else names[::-1]
                raise ConfigError(
                    f"{there} is set, but {lacking} is not", remedy=f"set {lacking} in the same place"
                )
    raise ConfigError(
        f"storing in S3 needs keys: {_PAIRS[0][0]} and {_PAIRS[0][1]} are not set",
        remedy=f"set both (or {_PAIRS[1][0]} and {_PAIRS[1][1]}) in the environment or in a .env file,"
        " or leave the store out to keep a local folder",
    )


def _check_key(names: tuple[str, str], access: str, secret: str) -> None:
    for name, value in zip(names, (access, secret), strict=True):
        if not re.fullmatch(r"[\x21-\x7e]+", value):
            raise ConfigError(
                f"{name} holds characters that no key has (a space, a line end?)", remedy="copy it again"
            )


def _first(values: Mapping[str, str], names: tuple[str, ...]) -> str:
    return next((values[name] for name in names if values.get(name, "").strip()), "")


def _check_names(bucket: str, region: str) -> None:
    if not _BUCKET_NAME.fullmatch(bucket) or ".." in bucket:
        raise ConfigError(
            f"{bucket[:80]!r} is no name for a bucket",
            remedy="use 3 to 63 lower-case letters, digits, dots, hyphens",
        )
    if not _REGION_NAME.fullmatch(region):
        raise ConfigError(f"{region[:60]!r} is no region", remedy="set AWS_REGION, such as us-west-1")


def _check_endpoint(endpoint: str) -> None:
    if not endpoint:
        return
    problem = ""
    try:
        parts = urlsplit(endpoint)
        host, _ = parts.hostname or "", parts.port
    except ValueError:
        parts, host = urlsplit(""), ""
    if parts.scheme not in ("http", "https") or not host or parts.query or parts.fragment:
        problem = "is no http(s) address"
    elif parts.username or parts.password:
        problem = "holds a user name or password"
    elif parts.scheme == "http" and not _loopback(host):
        problem = f"is not encrypted (http://{host})"
    if problem:
        raise ConfigError(
            f"AWS_ENDPOINT_URL {problem}",
            remedy="give an https address, or http://127.0.0.1:PORT for a server on this machine",
        )


def _loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
