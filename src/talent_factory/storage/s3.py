"""Open a bucket at Amazon or at any server that speaks S3."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from talent_factory.storage.objects import ObjectStore

if TYPE_CHECKING:
    from obstore.store import S3Credential, S3Store

    from talent_factory.storage.settings import S3Settings


def open_s3(settings: S3Settings, *, patience_s: float = 60.0) -> ObjectStore:
    """The bucket that `settings` name, addressed in path style; nothing is sent before the first call.

    A request that meets a lost connection or a 5xx is repeated for up to `patience_s` seconds in all (five
    times at most); storing is idempotent, so a repetition does no harm.
    """
    inner = s3_client(settings, timeout_s=max(30.0, patience_s), retries=5, patience_s=patience_s)
    place = urlsplit(settings.endpoint).netloc if settings.endpoint else settings.region
    return ObjectStore(inner, name="s3", where=f"bucket {settings.bucket} ({place})", public=settings.public)


def s3_client(settings: S3Settings, *, timeout_s: float, retries: int, patience_s: float) -> S3Store:
    """The library's own view of the bucket; a request ends after `timeout_s` and is repeated `retries` times
    for up to `patience_s` seconds in all.
    """
    from obstore.store import S3Store

    # Keys come from a function, for two reasons: the library would else mix AWS_SESSION_TOKEN of the
    # environment with our pair, and would show the secret in its `config`.
    return S3Store(
        settings.bucket,
        endpoint=settings.base,
        region=settings.region,
        virtual_hosted_style_request=False,
        skip_signature=False,
        checksum_algorithm="sha256",
        credential_provider=_Keys(settings),
        client_options={
            "allow_http": settings.base.startswith("http://"),
            "connect_timeout": timedelta(seconds=5),
            "timeout": timedelta(seconds=timeout_s),
        },
        retry_config={
            "max_retries": retries,
            "retry_timeout": timedelta(seconds=patience_s),
            "backoff": {
                "init_backoff": timedelta(seconds=0.1),
                "max_backoff": timedelta(seconds=5),
                "base": 2,
            },
        },
    )


class _Keys:
    """Gives the library its keys when it signs, and shows them to nobody else."""

    def __init__(self, settings: S3Settings) -> None:
        self._settings = settings

    def __call__(self) -> S3Credential:
        """The keys; they do not expire as far as we know."""
        return {
            "access_key_id": self._settings.access_key,
            "secret_access_key": self._settings.secret_key,
            "token": self._settings.token or None,
            "expires_at": None,
        }
