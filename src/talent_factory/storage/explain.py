"""What an object store's failure means for the user: one line and a remedy, never a key or a signature."""

from __future__ import annotations

import re

from talent_factory.core.errors import StorageError
from talent_factory.storage.settings import BUCKET

_CODE = re.compile(r"<Code>([A-Za-z0-9]{1,60})</Code>")
_STATUS = re.compile(r"non-2xx status code: (\d{3})")
_KEYS = {
    "InvalidAccessKeyId": "the access key is not known there",
    "SignatureDoesNotMatch": "the secret does not fit the access key",
    "InvalidToken": "the session token is not valid",
    "ExpiredToken": "the temporary keys have expired",
    "AuthFailure": "the keys are not accepted",
    "Unauthorized": "the keys are not accepted",
}
_REGION = {"PermanentRedirect", "AuthorizationHeaderMalformed", "IllegalLocationConstraintException"}
_CHECK_KEYS = "check AWS_ACCESS_KEY and AWS_ACCESS_SECRET, or the standard AWS variables if you use those"
_AGAIN = "try again later with the same command; what is stored stays stored"


def code_of(error: BaseException) -> str:
    """The error code of an S3 answer ("NoSuchBucket"), or its HTTP status ("403"), or ""."""
    text = str(error)
    found = _CODE.search(text) or _STATUS.search(text)
    return found[1] if found else ""


def lost_answer(error: BaseException) -> bool:
    """Whether a request was cut off, so that nobody knows if it was carried out."""
    text = str(error)
    return not code_of(error) and ("kind: Interrupted" in text or "kind: Timeout" in text)


def lacks_conditions(error: BaseException) -> bool:
    """Whether the server does not know "put only if there is nothing yet" (If-None-Match)."""
    return code_of(error) in ("NotImplemented", "501")


def explain(error: BaseException, *, doing: str, where: str) -> StorageError:
    """The StorageError for `error`, met while `doing` ("storing a/b.jpg") at `where` ("bucket x in y")."""
    code, head = code_of(error), f"{doing} failed: {where}"
    if code == "NoSuchBucket":
        return StorageError(
            f"{head} does not exist", remedy=f"create the bucket, or set {BUCKET} to one that is there"
        )
    if code in _KEYS:
        return StorageError(f"{head}: {_KEYS[code]} ({code})", remedy=_CHECK_KEYS)
    if code == "RequestTimeTooSkewed":
        return StorageError(f"{head}: this machine's clock is wrong", remedy="set the clock, then try again")
    if code in _REGION or code in ("301", "307") or "BareRedirect" in str(error):
        return StorageError(
            f"{head}: the bucket is in another region ({code or 'redirect'})",
            remedy="set AWS_REGION to the bucket's region",
        )
    if code in ("401", "403", "AccessDenied", "AllAccessDisabled", "AccountProblem"):
        return StorageError(
            f"{head} denies it ({code})",
            remedy="check the keys, and allow s3:PutObject, s3:GetObject, s3:ListBucket on the bucket",
        )
    if code in ("404", "NoSuchKey"):
        return StorageError(f"{head} has no such object", remedy="list what is there, or put it there first")
    if code == "400":
        # a HEAD is answered without words; this is what a wrong region or malformed key looks like then
        return StorageError(f"{head} does not take the request (400)", remedy="check AWS_REGION and the keys")
    if code:
        return StorageError(f"{head} answered {code}", remedy=_AGAIN)
    if "Unable to extract metadata" in str(error):
        return StorageError(f"{head} does not answer as S3 does", remedy="check AWS_ENDPOINT_URL")
    if _unreachable(error):
        return StorageError(
            f"{head} cannot be reached", remedy="check the network and AWS_ENDPOINT_URL, then try again"
        )
    if isinstance(error, FileNotFoundError):
        return StorageError(f"{head} has no such object", remedy="list what is there, or put it there first")
    return StorageError(f"{head} answered with something unexpected ({type(error).__name__})", remedy=_AGAIN)


def _unreachable(error: BaseException) -> bool:
    text = str(error)
    marks = (
        "HTTP error",
        "error sending request",
        "kind: Connect",
        "kind: Timeout",
        "timed out",
        "dns error",
    )
    return any(mark in text for mark in marks)
