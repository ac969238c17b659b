"""Keys to a bucket come from the variables users know or from `.env`, and are never shown."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from talent_factory.core.errors import ConfigError, UsageError
from talent_factory.storage.catalog import open_store
from talent_factory.storage.dotenv import MAX_BYTES, read_dotenv
from talent_factory.storage.local import LocalStore
from talent_factory.storage.objects import memory_store
from talent_factory.storage.s3 import open_s3
from talent_factory.storage.settings import S3Settings, s3_settings

SECRET = "very-secret-words-0123456789"
OLD = {"AWS_ACCESS_KEY": "AKOLD", "AWS_ACCESS_SECRET": SECRET, "AWS_USER_FILES_BUCKET": "files"}
STANDARD = {
    "AWS_ACCESS_KEY_ID": "AKSTD",
    "AWS_SECRET_ACCESS_KEY": SECRET,
    "AWS_SESSION_TOKEN": "token-words",
    "AWS_USER_FILES_BUCKET": "files",
}


@pytest.fixture
def none(tmp_path: Path) -> Path:
    return tmp_path / "none.env"


def test_the_variables_of_old(none: Path) -> None:
    settings = s3_settings(environ=OLD | {"AWS_REGION": "eu-west-2"}, dotenv=none)
    assert (settings.bucket, settings.region, settings.access_key) == ("files", "eu-west-2", "AKOLD")
    assert settings.secret_key == SECRET
    assert settings.token == ""
    assert s3_settings(environ=OLD, dotenv=none).region == "us-west-1"


def test_the_standard_variables_with_a_token(none: Path) -> None:
    settings = s3_settings(environ=STANDARD | {"AWS_DEFAULT_REGION": "eu-west-1"}, dotenv=none)
    assert (settings.access_key, settings.token, settings.region) == ("AKSTD", "token-words", "eu-west-1")
    # a token of other keys must not be sent with ours
    assert s3_settings(environ=STANDARD | OLD, dotenv=none).token == ""


def test_arguments_come_before_variables(none: Path) -> None:
    environ = OLD | {"AWS_REGION": "eu-west-2", "AWS_ENDPOINT_URL": "https://elsewhere.example"}
    settings = s3_settings(
        "mine", region="eu-west-3", endpoint="http://127.0.0.1:9/", environ=environ, dotenv=none
    )
    assert (settings.bucket, settings.region) == ("mine", "eu-west-3")
    assert settings.endpoint == "http://127.0.0.1:9"


def test_plain_addresses() -> None:
    assert S3Settings("files", "eu-west-2").public == "https://files.s3.eu-west-2.amazonaws.com"
    # a dot would step out of the certificate's name
    assert S3Settings("my.files", "eu-west-2").public == "https://s3.eu-west-2.amazonaws.com/my.files"
    assert S3Settings("files", endpoint="https://s3.example").public == "https://s3.example/files"
    store = open_s3(S3Settings("files", "us-west-1", access_key="A", secret_key=SECRET))
    assert store.url("u/custom-actors/a b/x.jpg") == (
        "https://files.s3.us-west-1.amazonaws.com/u/custom-actors/a%20b/x.jpg"
    )


@pytest.mark.parametrize("lacking", ["AWS_ACCESS_SECRET", "AWS_ACCESS_KEY", "AWS_USER_FILES_BUCKET"])
def test_what_is_missing_is_named(none: Path, lacking: str) -> None:
    environ = {name: value for name, value in OLD.items() if name != lacking}
    with pytest.raises(ConfigError, match=lacking) as caught:
        s3_settings(environ=environ, dotenv=none)
    assert SECRET not in str(caught.value)
    assert caught.value.remedy


def test_no_keys_at_all_name_both_pairs(none: Path) -> None:
    with pytest.raises(ConfigError, match=r"AWS_ACCESS_KEY and AWS_ACCESS_SECRET") as caught:
        open_store("s3", environ={"AWS_USER_FILES_BUCKET": "files"}, dotenv=none)
    assert "AWS_SECRET_ACCESS_KEY" in caught.value.remedy
    assert ".env" in caught.value.remedy


@pytest.mark.parametrize(
    "endpoint",
    [
        "http://s3.example",
        "http://10.0.0.1:9000",
        "http://127.0.0.1.evil.example",
        "ftp://x",
        "s3.example",
        "https://user:pass@s3.example",
        "https://s3.example/?a=b",
        "http://[::1",
        "http://localhost:99999",
    ],
)
def test_endpoints_that_are_refused(none: Path, endpoint: str) -> None:
    with pytest.raises(ConfigError, match="AWS_ENDPOINT_URL") as caught:
        s3_settings(environ=OLD | {"AWS_ENDPOINT_URL": endpoint}, dotenv=none)
    assert "user:pass" not in str(caught.value)


@pytest.mark.parametrize("endpoint", ["http://localhost:9000", "http://127.0.0.1:9", "http://[::1]:9"])
def test_plain_http_to_this_machine_is_taken(none: Path, endpoint: str) -> None:
    assert s3_settings(environ=OLD | {"AWS_ENDPOINT_URL": endpoint}, dotenv=none).endpoint == endpoint


@pytest.mark.parametrize("bucket", ["a", "Upper", "a/b", "../x", "a_b", "x" * 64, "a..b", "b?x", "-a-"])
def test_what_is_no_bucket_is_refused(none: Path, bucket: str) -> None:
    with pytest.raises(ConfigError, match="bucket"):
        s3_settings(bucket, environ=OLD, dotenv=none)


def test_the_secret_is_in_no_repr(none: Path) -> None:
    settings = s3_settings(environ=STANDARD, dotenv=none)
    store = open_s3(settings)
    inner = store._inner
    for text in (repr(settings), repr(store), repr(inner), repr(vars(store)), str(inner.config)):  # type: ignore[union-attr]
        assert SECRET not in text
        assert "token-words" not in text
        assert "AKSTD" not in text


def test_the_environment_is_not_mixed_in(none: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # the library reads these itself when it is let
    monkeypatch.setenv("AWS_SESSION_TOKEN", "LEAKEDTOKEN")
    monkeypatch.setenv("AWS_SKIP_SIGNATURE", "true")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    monkeypatch.setenv("AWS_VIRTUAL_HOSTED_STYLE_REQUEST", "true")
    store = open_s3(S3Settings("files", "eu-west-2", access_key="AKMINE", secret_key=SECRET))
    signed = store.url("a/b.jpg", expires_s=60)
    assert signed.startswith("https://s3.eu-west-2.amazonaws.com/files/a/b.jpg?")
    assert "AKMINE" in signed
    assert "LEAKEDTOKEN" not in signed


@pytest.mark.parametrize("expires", [0, -1, 604_801, float("nan")])
def test_signatures_last_seconds_to_a_week(expires: float) -> None:
    store = open_s3(S3Settings("files", access_key="AK", secret_key=SECRET))
    with pytest.raises(UsageError, match="604800"):
        store.url("a/b.jpg", expires_s=expires)


def test_a_dotenv_file_is_read_and_never_exported(tmp_path: Path) -> None:
    file = tmp_path / ".env"
    file.write_text(
        "\ufeff# keys\n\nexport AWS_ACCESS_KEY = AKFILE # mine\nAWS_ACCESS_SECRET='a#b $HOME'\r\n"
        'AWS_USER_FILES_BUCKET="from-file" # the bucket\nQUOTED="a\\"b\\\\n\\n"\nEMPTY=\nHASH=a#b\n',
        "utf-8",
    )
    before = dict(os.environ)
    assert read_dotenv(file) == {
        "AWS_ACCESS_KEY": "AKFILE",
        "AWS_ACCESS_SECRET": "a#b $HOME",
        "AWS_USER_FILES_BUCKET": "from-file",
        "QUOTED": 'a"b\\n\n',
        "EMPTY": "",
        "HASH": "a#b",
    }
    assert dict(os.environ) == before


def test_the_environment_comes_before_the_file_and_pairs_stay_whole(tmp_path: Path) -> None:
    file = tmp_path / ".env"
    file.write_text(f"AWS_ACCESS_KEY=AKFILE\nAWS_ACCESS_SECRET={SECRET}\nAWS_USER_FILES_BUCKET=from-file\n")
    settings = s3_settings(environ={}, dotenv=file)
    assert (settings.access_key, settings.bucket) == ("AKFILE", "from-file")
    other = {"AWS_ACCESS_KEY_ID": "AKENV", "AWS_SECRET_ACCESS_KEY": "other", "AWS_USER_FILES_BUCKET": "  "}
    settings = s3_settings(environ=other, dotenv=file)
    assert (settings.access_key, settings.secret_key) == ("AKENV", "other")
    assert settings.bucket == "from-file"
    with pytest.raises(ConfigError, match="AWS_ACCESS_SECRET is not"):
        s3_settings(environ={"AWS_ACCESS_KEY": "AKENV"}, dotenv=file)


def test_the_file_of_the_working_folder_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ".env").write_text(
        "AWS_ACCESS_KEY=AK\nAWS_ACCESS_SECRET=s\nAWS_USER_FILES_BUCKET=from-file\n"
    )
    monkeypatch.chdir(tmp_path)
    assert s3_settings(environ={}).bucket == "from-file"


@pytest.mark.parametrize(
    "line", ["AWS_ACCESS_SECRET", "two words=x", 'A="open secret', "=secret", "A='x' secret", "1A=secret"]
)
def test_a_broken_line_is_named_but_not_shown(tmp_path: Path, line: str) -> None:
    file = tmp_path / ".env"
    file.write_text(f"OK=1\n{line}\n")
    with pytest.raises(ConfigError, match="line 2") as caught:
        read_dotenv(file)
    assert "secret" not in str(caught.value)
    assert "AWS" not in str(caught.value)


def test_files_that_are_no_dotenv(tmp_path: Path) -> None:
    assert read_dotenv(tmp_path / "none") == {}
    assert read_dotenv(tmp_path) == {}
    file = tmp_path / ".env"
    file.write_bytes(b"A=\xff\xfe")
    with pytest.raises(ConfigError, match="UTF-8"):
        read_dotenv(file)
    file.write_bytes(b"#" * (MAX_BYTES + 1))
    with pytest.raises(ConfigError, match="large"):
        read_dotenv(file)


def test_keys_with_line_ends_are_refused_unseen(none: Path) -> None:
    with pytest.raises(ConfigError, match="AWS_ACCESS_SECRET") as caught:
        s3_settings(environ=OLD | {"AWS_ACCESS_SECRET": "two words"}, dotenv=none)
    assert "two words" not in str(caught.value)


def test_what_names_which_store(tmp_path: Path, none: Path) -> None:
    assert isinstance(open_store(None, default=tmp_path), LocalStore)
    assert isinstance(open_store("local", default=tmp_path), LocalStore)
    assert isinstance(open_store(tmp_path / "x"), LocalStore)
    assert open_store(str(tmp_path / "x")).where == f"folder {tmp_path / 'x'}"
    assert open_store("s3", environ=OLD, dotenv=none).where == "bucket files (us-west-1)"
    assert open_store("s3://other", environ=OLD, dotenv=none).where == "bucket other (us-west-1)"
    mine = memory_store()
    assert open_store(mine) is mine
    for wrong in ("gs://x", "https://x.example", "", "s3://bucket/folder", "file:///x", "a\0b"):
        with pytest.raises(UsageError):
            open_store(wrong, environ=OLD, dotenv=none)
    with pytest.raises(UsageError, match="folder"):
        open_store(None)
