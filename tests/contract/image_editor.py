"""What every image provider promises: subclass `ImageEditorContract` and give it an editor and a portrait."""

from __future__ import annotations

import json
import struct
import time
import zlib
from datetime import UTC, datetime, timedelta
from io import BytesIO
from pathlib import Path

import pytest
from PIL import Image

from talent_factory.core.errors import ProviderError
from talent_factory.providers.port import Capabilities, EditRequest, ImageEditor, JobStatus

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"


def png_size(data: bytes) -> tuple[int, int]:
    """(width, height) of a PNG whose first chunk and end are sound."""
    assert data.startswith(PNG_SIGNATURE)
    length, kind = struct.unpack(">I4s", data[8:16])
    assert (length, kind) == (13, b"IHDR")
    assert zlib.crc32(data[12:29]) == struct.unpack(">I", data[29:33])[0]
    assert data[-12:] == b"\x00\x00\x00\x00IEND\xaeB`\x82"
    width, height = struct.unpack(">II", data[16:24])
    return int(width), int(height)


def picture_size(data: bytes) -> tuple[int, int]:
    """(width, height) of a PNG, JPEG or WebP that decodes to its last row."""
    if data.startswith(PNG_SIGNATURE):
        png_size(data)
    with Image.open(BytesIO(data)) as image:
        assert image.format in ("PNG", "JPEG", "WEBP")
        image.load()
        return image.size


class ImageEditorContract:
    """Fixtures to override: `editor` (fresh for every test), `portrait`; if need be, what stands below.

    `keys` are the secrets that the editor was given.
    """

    patience_s = 60.0
    keys: tuple[str, ...] = ()

    @pytest.fixture
    def editor(self) -> ImageEditor:
        pytest.fail("a subclass gives the editor")

    @pytest.fixture
    def portrait(self) -> Path:
        pytest.fail("a subclass gives a portrait")

    @pytest.fixture
    def can(self, editor: ImageEditor) -> Capabilities:
        return editor.capabilities()

    @pytest.fixture
    def request_1(self, portrait: Path, can: Capabilities) -> EditRequest:
        medium = can.media[0] if can.media else "pen_and_ink"
        aspect = "16:9" if can.any_aspect or "16:9" in can.aspects else can.aspects[0]
        return EditRequest(
            portrait=portrait,
            slot="first",
            medium=medium,
            prompt="an ink drawing",
            aspect=aspect,
            seed=11,
            long_side=160,
        )

    def finish(self, editor: ImageEditor, job: str) -> JobStatus:
        """Poll until the job has ended, as a caller would."""
        until = time.monotonic() + self.patience_s
        while (status := editor.poll(job)).state in ("queued", "running") and time.monotonic() < until:
            time.sleep(0.01)
        return status

    def test_capabilities_are_constant_and_consistent(self, editor: ImageEditor, can: Capabilities) -> None:
        assert editor.capabilities() == can
        assert can.any_medium or can.media
        assert can.any_aspect or can.aspects
        assert can.any_medium or set(can.methods) == set(can.media)
        assert can.augmentations <= set(can.methods)
        assert can.price_usd == 0 or can.price_as_of
        assert can.safety is None or can.safety[0] <= can.safety[1]

    def test_name_fits_a_manifest(self, editor: ImageEditor) -> None:
        assert editor.name.replace("-", "").replace("_", "").isalnum()
        assert editor.name == editor.name.lower()

    def test_a_job_ends_in_a_picture_of_the_asked_aspect(
        self, editor: ImageEditor, request_1: EditRequest
    ) -> None:
        job = editor.submit(request_1)
        assert self.finish(editor, job).state == "succeeded"
        width, height = picture_size(editor.fetch(job))
        across, down = (int(part) for part in request_1.aspect.split(":"))
        assert width / height == pytest.approx(across / down, rel=0.01)

    def test_fetching_again_gives_the_same_bytes(self, editor: ImageEditor, request_1: EditRequest) -> None:
        job = editor.submit(request_1)
        self.finish(editor, job)
        assert editor.fetch(job) == editor.fetch(job)
        assert editor.poll(job).state == "succeeded"

    def test_jobs_are_told_apart(self, editor: ImageEditor, request_1: EditRequest) -> None:
        other = request_1.model_copy(update={"slot": "second", "seed": 12})
        assert editor.submit(request_1) != editor.submit(other)

    def test_a_job_is_found_again_by_its_seed(self, editor: ImageEditor, request_1: EditRequest) -> None:
        assert editor.find(request_1.seed) is None
        job = editor.submit(request_1)
        editor.submit(request_1.model_copy(update={"slot": "second", "seed": 12}))
        assert editor.find(request_1.seed) == job
        assert editor.find(987654321) is None

    def test_a_search_goes_no_further_back_than_asked(
        self, editor: ImageEditor, request_1: EditRequest
    ) -> None:
        now = datetime.now(UTC)
        job = editor.submit(request_1)
        assert editor.find(request_1.seed, since=now - timedelta(minutes=1)) == job
        # well beyond what is allowed for clocks that differ
        assert editor.find(request_1.seed, since=now + timedelta(hours=1)) is None

    def test_the_payload_is_a_record_without_pictures_or_keys(
        self, editor: ImageEditor, request_1: EditRequest
    ) -> None:
        payload = editor.payload(request_1)
        assert payload == editor.payload(request_1)
        text = json.dumps(payload)
        assert len(text) < 10_000
        assert '"sha256"' in text
        assert '"bytes"' in text
        for key in self.keys:
            assert key not in text
        assert editor.find(request_1.seed) is None

    def test_a_cancelled_job_gives_no_image(self, editor: ImageEditor, request_1: EditRequest) -> None:
        job = editor.submit(request_1)
        editor.cancel(job)
        editor.cancel(job)
        assert self.finish(editor, job).state == "cancelled"
        with pytest.raises(ProviderError):
            editor.fetch(job)

    def test_unknown_jobs_are_provider_errors(self, editor: ImageEditor) -> None:
        for call in (editor.poll, editor.fetch, editor.cancel):
            with pytest.raises(ProviderError, match="no-such-job"):
                call("no-such-job")

    def test_a_missing_portrait_is_refused_and_leaves_no_job(
        self, editor: ImageEditor, request_1: EditRequest, tmp_path: Path
    ) -> None:
        missing = request_1.model_copy(update={"portrait": tmp_path / "nobody.png"})
        with pytest.raises(ProviderError, match=r"nobody\.png"):
            editor.submit(missing)
        assert editor.find(request_1.seed) is None

    def test_an_unknown_medium_is_refused_where_media_are_fixed(
        self, editor: ImageEditor, request_1: EditRequest, can: Capabilities
    ) -> None:
        if can.any_medium:
            pytest.skip("this provider reads the prompt")
        with pytest.raises(ProviderError, match="mosaic"):
            editor.submit(request_1.model_copy(update={"medium": "mosaic"}))
        assert editor.find(request_1.seed) is None

    def test_seeds_pin_the_picture(
        self, editor: ImageEditor, request_1: EditRequest, can: Capabilities
    ) -> None:
        if not can.seed:
            pytest.skip("this provider takes no seed")
        again = request_1.model_copy(update={"slot": "again"})
        other = request_1.model_copy(update={"seed": 12})
        pictures = []
        for request in (request_1, again, other):
            job = editor.submit(request)
            self.finish(editor, job)
            pictures.append(editor.fetch(job))
        assert pictures[0] == pictures[1]
        assert pictures[0] != pictures[2]
