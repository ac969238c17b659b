"""The provider that is a folder keeps the port's promises, and fails as ordered."""

from __future__ import annotations

from pathlib import Path

import pytest

from cast_maker import write_face
from contract.image_editor import ImageEditorContract
from talent_factory.core.errors import SubmitUnknown
from talent_factory.providers.fake import FakeEditor
from talent_factory.providers.port import EditRequest, ImageEditor


class TestFakeEditor(ImageEditorContract):
    @pytest.fixture
    def editor(self, tmp_path: Path) -> ImageEditor:
        return FakeEditor(tmp_path / "service")

    @pytest.fixture
    def portrait(self, tmp_path: Path) -> Path:
        return write_face(tmp_path / "face.png")


def test_jobs_outlive_the_client_and_lost_answers_leave_or_leave_none(tmp_path: Path) -> None:
    faults = {"one": ["lost-before", "lost-after"]}
    editor = FakeEditor(tmp_path / "service", faults=faults)
    request = EditRequest(portrait=write_face(tmp_path / "face.png"), slot="one", medium="ink", seed=7)
    with pytest.raises(SubmitUnknown):
        editor.submit(request)
    assert editor.find(7) is None
    with pytest.raises(SubmitUnknown):
        editor.submit(request)
    later = FakeEditor(tmp_path / "service", faults=faults)
    found = later.find(7)
    assert found is not None
    assert later.poll(found).state == "succeeded"
    assert later.submit(request) != found
    assert [job.seed for job in later.jobs()] == [7, 7]
