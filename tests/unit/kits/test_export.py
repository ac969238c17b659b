"""Exports: the shipped tensors under a name of their own, the cards each program reads, nothing private."""

from __future__ import annotations

import hashlib
import io
import json
import os
import zipfile
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from kit_maker import KIT_ID, edit_manifest, make_kit, restate_digests
from talent_factory.core.errors import KitError, UsageError
from talent_factory.core.events import SilentReporter
from talent_factory.kits.export import TARGETS, Export, Target, export_kit, plan_export
from talent_factory.kits.export.weights import KIT_WORD, parse_words
from talent_factory.kits.header import parse_header
from talent_factory.kits.lora_file import lora_bytes, read_lora
from talent_factory.kits.manifest import WEIGHTS_FILE

PROMPT = "ink portrait of dot_test woman, (smiling)"


@pytest.fixture
def made(kit: Path, base: Path, tmp_path: Path) -> Any:
    """Export the kit for a target into a folder of its own."""

    def export(target: Target, **options: Any) -> tuple[Export, Path]:
        out = options.pop("out", tmp_path / "out" / target)
        return export_kit(kit, target=target, out=out, base_folder=base, **options), out

    return export


def add_prompts(kit: Path) -> None:
    """Put into every example what renders carry."""
    for number, path in enumerate(sorted((kit / "examples").glob("*.png"))):
        info = PngInfo()
        info.add_itxt("parameters", f"{PROMPT} {number}\nNegative prompt: blurry\nSteps: 3, Seed: 7")
        info.add_itxt("XML:com.adobe.xmp", "<x>http://cv.iptc.org/trainedAlgorithmicMedia</x>")
        Image.new("RGB", (24, 24), (40 * number, 9, 120)).save(path, pnginfo=info)
    (kit / "preview.png").write_bytes((kit / "examples" / "01.png").read_bytes())
    restate_digests(kit)


def body(path: Path) -> bytes:
    data = path.read_bytes()
    return data[parse_header(data).data_start :]


def test_the_tensors_are_the_same_bytes_and_every_hash_is_right(kit: Path, made: Any) -> None:
    done, out = made("a1111")
    path = out / "dot_test_lora.safetensors"
    assert body(path) == body(kit / WEIGHTS_FILE)
    words = parse_header(path.read_bytes()).metadata
    assert words["ss_output_name"] == "dot_test_lora"
    assert words[KIT_WORD] == done.kit == KIT_ID
    assert words["modelspec.hash_sha256"] == f"0x{hashlib.sha256(body(path)).hexdigest()}"
    # the packer writes the same file from the same words: padding, order and old hashes included
    hashes = {"modelspec.hash_sha256", "sshs_model_hash", "sshs_legacy_hash"}
    plain = {key: text for key, text in words.items() if key not in hashes}
    assert lora_bytes(read_lora(kit / WEIGHTS_FILE), precision="fp16", words=plain) == path.read_bytes()
    before = parse_header((kit / WEIGHTS_FILE).read_bytes()).metadata
    assert {key for key in before if before[key] != words[key]} == {"ss_output_name"}


def test_the_reference_reader_takes_it(kit: Path, made: Any) -> None:
    from safetensors.numpy import load_file

    _, out = made("comfy")
    ours, theirs = load_file(kit / WEIGHTS_FILE), load_file(out / "dot_test_lora.safetensors")
    assert ours.keys() == theirs.keys()
    assert all(np.array_equal(ours[name], theirs[name]) for name in ours)


def test_words_that_a_file_lacks_come_from_the_manifest(kit: Path, made: Any) -> None:
    """A kit made by others may have weights without a header."""
    data = (kit / WEIGHTS_FILE).read_bytes()
    header = json.loads(data[8 : parse_header(data).data_start])
    del header["__metadata__"]
    bare = json.dumps(header).encode()
    (kit / WEIGHTS_FILE).write_bytes(len(bare).to_bytes(8, "little") + bare + body(kit / WEIGHTS_FILE))
    restate_digests(kit)
    _, out = made("forge")
    words = parse_header((out / "dot_test_lora.safetensors").read_bytes()).metadata
    assert words["ss_network_dim"] == "4"
    assert words["modelspec.trigger_phrase"] == "dot_test"
    assert words["modelspec.title"] == KIT_ID


def test_web_uis_read_their_cards(kit: Path, made: Any) -> None:
    edit_manifest(kit, lambda m: m["training_config"].update(class_noun="woman"))
    for target in ("a1111", "forge", "invoke"):
        done, out = made(target)
        card = json.loads((out / "dot_test_lora.json").read_text())
        assert card == {
            "activation text": "dot_test woman",
            "description": "A test kit",
            "negative text": "blurry",
            "notes": f"{KIT_ID}, trained for mini",
            "preferred weight": 1.0,
            "sd version": "Unknown",
        }
        assert (out / "dot_test_lora.png").read_bytes() == (kit / "preview.png").read_bytes()
        assert "mini" in done.remarks[0]
        assert {file.path for file in done.files} == set(out.iterdir())
    text = (out.parent / "a1111" / "dot_test_lora.description.txt").read_text()
    assert text == "A test kit\nWords: dot_test woman, dot_test\nWeight: 1\n"


def test_the_lora_manager_gets_every_field_it_needs(made: Any) -> None:
    _, out = made("comfy")
    card = json.loads((out / "dot_test_lora.metadata.json").read_text())
    # without any one of these its reader passes over the file
    needed = ("file_name", "model_name", "file_path", "size", "modified", "sha256", "base_model")
    assert all(card[name] for name in (*needed, "preview_url"))
    path = out / "dot_test_lora.safetensors"
    assert card["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
    assert card["size"] == path.stat().st_size
    assert card["civitai"]["trainedWords"] == ["dot_test"]
    assert json.loads(card["usage_tips"])["strength"] == 1.0
    assert (out / card["preview_url"]).is_file()
    assert not Path(card["file_path"]).is_absolute()


def test_a_page_of_the_hub_is_read_by_its_own_library(kit: Path, made: Any) -> None:
    from huggingface_hub import ModelCard

    edit_manifest(kit, lambda m: m.update(base_model="stable-diffusion-v1-5/stable-diffusion-v1-5"))
    base_text = (kit / "base.txt").read_text()
    (kit / "base.txt").write_text(base_text.replace("mini", "stable-diffusion-v1-5/stable-diffusion-v1-5"))
    restate_digests(kit)
    add_prompts(kit)
    done, out = made("hf")
    folder = out / "dot_test_lora"
    card = ModelCard((folder / "README.md").read_text())
    data = card.data.to_dict()
    assert data["license"] == "cc0-1.0"
    assert data["base_model"] == "stable-diffusion-v1-5/stable-diffusion-v1-5"
    assert data["base_model_relation"] == "adapter"
    assert data["instance_prompt"] == "dot_test"
    assert {"text-to-image", "diffusers", "lora", "template:sd-lora", "stable-diffusion"} <= set(data["tags"])
    assert (data["library_name"], data["pipeline_tag"]) == ("diffusers", "text-to-image")
    assert [item["text"] for item in data["widget"]] == [f"{PROMPT} {number}" for number in range(3)]
    assert all((folder / item["output"]["url"]).is_file() for item in data["widget"])
    assert "<Gallery />" in card.text
    digest = hashlib.sha256((folder / "pytorch_lora_weights.safetensors").read_bytes()).hexdigest()
    assert digest in card.text
    assert done.remarks == ()
    assert (folder / "LICENSE.txt").read_bytes() == (kit / "LICENSE.txt").read_bytes()


def test_nothing_in_a_kit_becomes_markup(kit: Path, made: Any) -> None:
    import yaml

    evil = "x\n---\nlicense: mit\n---\n<script>alert(1)</script> [a](javascript:b) ![i](http://h/t.png)"

    def spoil(manifest: dict[str, Any]) -> None:
        manifest["metadata"].update(
            description=evil, author="| a | <b> |", license='odd: "one"\u202e`x`', triggers=["`a`: [b]\u2028"]
        )

    edit_manifest(kit, spoil)
    _, out = made("hf")
    text = (out / "dot_test_lora" / "README.md").read_text()
    matter, page = text.removeprefix("---\n").split("\n---\n", 1)
    data = yaml.safe_load(matter)
    assert (data["license"], data["license_name"]) == ("other", "odd-one-x")
    assert data["license_link"] == "LICENSE.txt"
    assert "<script>" not in page
    assert "](" not in page.replace(r"\](", "")
    assert "\u202e" not in text


def test_an_archive_for_civitai_knows_its_hashes(kit: Path, made: Any) -> None:
    add_prompts(kit)
    done, _ = made("civitai")
    with zipfile.ZipFile(done.files[0].path) as archive:
        facts = json.loads(archive.read("civitai.json"))
        data = archive.read("dot_test_lora.safetensors")
        assert sorted(archive.namelist())[-3:] == ["images/01.png", "images/02.png", "images/03.png"]
        assert "LICENSE.txt" in archive.namelist()
    digest = hashlib.sha256(data).hexdigest().upper()
    tensors = hashlib.sha256(data[parse_header(data).data_start :]).hexdigest().upper()
    assert facts["hashes"] == {"SHA256": digest, "AutoV2": digest[:10], "AutoV3": tensors[:12]}
    assert (facts["baseModel"], facts["poi"], facts["minor"]) == ("Other", False, False)
    assert facts["allowNoCredit"] is True
    assert facts["trainedWords"] == ["dot_test"]


def test_the_kit_itself_is_the_same_archive_every_time(kit: Path, made: Any, tmp_path: Path) -> None:
    first, _ = made("zip")
    for path in kit.rglob("*"):
        os.utime(path, (1, 1))
    second, _ = made("zip", out=tmp_path / "again")
    data = first.files[0].path.read_bytes()
    assert data == second.files[0].path.read_bytes()
    assert first.files[0].path.name == f"{KIT_ID}.zip"
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        assert archive.testzip() is None
        found = {entry.filename: archive.read(entry) for entry in archive.infolist()}
        assert {entry.date_time for entry in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}
    files = [path for path in kit.rglob("*") if path.is_file()]
    assert found == {f"{KIT_ID}/{path.relative_to(kit).as_posix()}": path.read_bytes() for path in files}
    with pytest.raises(UsageError, match="as it is"):
        made("zip", minimal=True)


def test_minimal_metadata_tells_nothing_of_the_making(kit: Path, made: Any) -> None:
    add_prompts(kit)
    (kit / "examples" / "01.png").unlink()
    edit_manifest(kit, lambda m: m["metadata"]["digests"].pop("examples/01.png"))
    Image.new("RGB", (8, 8), (1, 200, 3)).save(kit / "examples" / "04.jpg", exif=b"Exif\0\0secret place")
    restate_digests(kit)
    for target in ("hf", "a1111", "comfy", "civitai"):
        done, out = made(target, minimal=True)
        data = b"".join(path.read_bytes() for path in sorted(out.rglob("*")) if path.is_file())
        for word in (b"nobody", b"ss_tag_frequency", b"ss_dataset_dirs", b"Seed: 7", b"smiling", b"secret"):
            # a licence is the author's own words and is never cut
            assert word not in data.replace(b"Author: nobody", b""), (target, word)
        assert b"ss_output_name" in data
        assert done.written
    images = made("hf", minimal=True)[1] / "dot_test_lora" / "images"
    assert sorted(path.name for path in images.iterdir()) == ["02.png", "03.png", "04.png"]
    with Image.open(images / "02.png") as bare, Image.open(kit / "examples" / "02.png") as before:
        assert bare.tobytes() == before.tobytes()
        # what says that a machine made it stays
        assert b"trainedAlgorithmicMedia" in (images / "02.png").read_bytes()
        assert "parameters" not in bare.info


def test_a_dry_run_writes_nothing_and_says_the_same(kit: Path, base: Path, made: Any, tmp_path: Path) -> None:
    for target in TARGETS:
        out = tmp_path / "out" / target
        said = plan_export(kit, target=target, out=out, base_folder=base)
        assert not out.exists()
        done, _ = made(target)
        assert (said.written, done.written) == (False, True)
        assert [file.path for file in said.files] == [file.path for file in done.files]
        if target not in ("zip", "civitai"):
            assert all(file.bytes == file.path.stat().st_size for file in done.files)


def test_two_kits_never_share_a_name(kit: Path, base: Path, tmp_path: Path, made: Any) -> None:
    other = make_kit(tmp_path / "more", base, work=tmp_path / "w2", id="avatar.identity.other")
    out = tmp_path / "loras"
    made("a1111", out=out)
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    for name in (None, "DOT_test_LORA"):
        with pytest.raises(UsageError, match=f"is of {KIT_ID}"):
            export_kit(other, target="comfy", out=out, base_folder=base, name=name)
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before
    done = export_kit(other, target="a1111", out=out, base_folder=base, name="other_lora")
    words = [parse_header(path.read_bytes()).metadata for path in out.glob("*.safetensors")]
    assert len({word["ss_output_name"] for word in words}) == 2
    assert done.name == "other_lora"
    # an export of before is replaced by its own kit
    edit_manifest(kit, lambda m: m["metadata"].update(description="newer"))
    made("a1111", out=out)
    assert json.loads((out / "dot_test_lora.json").read_text())["description"] == "newer"


def test_files_of_the_users_stay(tmp_path: Path, made: Any) -> None:
    out = tmp_path / "loras"
    out.mkdir()
    (out / "dot_test_lora.png").write_bytes(b"holiday")
    with pytest.raises(UsageError, match="not an export of this kit"):
        made("a1111", out=out)
    assert [path.name for path in out.iterdir()] == ["dot_test_lora.png"]


NAMES = ("weights", "WEIGHTS", "pytorch_lora_weights", "con", "nul.x", "../up", "a/b", "a b", "x.", "-x", "é")


@pytest.mark.parametrize("name", NAMES)
def test_names_that_cannot_be(name: str, made: Any) -> None:
    with pytest.raises(UsageError, match="cannot be the name"):
        made("a1111", name=name)


def test_broken_kits_stay_where_they_are(kit: Path, made: Any, tmp_path: Path) -> None:
    (kit / WEIGHTS_FILE).write_text("# Mock weights file\n")
    with pytest.raises(KitError, match="is not exported"):
        made("a1111")
    assert not (tmp_path / "out").exists()
    with pytest.raises(UsageError, match="choose from a1111"):
        made("photoshop")


def test_a_place_is_never_sent_along(kit: Path, made: Any) -> None:
    """An example that a phone took says where; the words of a render stay."""
    photo = Image.new("RGB", (24, 24), (9, 9, 9))
    exif = Image.Exif()
    exif[0x8825] = {1: "N", 2: (52.0, 31.0, 7.0)}
    photo.save(kit / "examples" / "02.png", exif=exif)
    restate_digests(kit)
    _, out = made("hf")
    folder = out / "dot_test_lora" / "images"
    with Image.open(folder / "02.png") as sent:
        assert not sent.getexif()
    assert (folder / "01.png").read_bytes() == (kit / "examples" / "01.png").read_bytes()


def test_progress_ends_where_the_bytes_do(kit: Path, made: Any) -> None:
    class Ears(SilentReporter):
        heard: ClassVar[list[tuple[int, int]]] = []

        def progress(self, stage: str, done: int, total: int, *, unit: str = "step", note: str = "") -> None:
            self.heard.append((done, total))

    photo = kit / "examples" / "02.png"
    noise = np.random.default_rng(0).integers(0, 256, (900, 900, 3), dtype=np.uint8)
    Image.fromarray(noise).save(photo)
    restate_digests(kit)
    for target in ("hf", "zip"):
        Ears.heard.clear()
        done, _ = made(target, reporter=Ears())
        total = sum(file.bytes for file in done.files) >> 20
        assert Ears.heard[-1] == (total, total)
        assert Ears.heard == sorted(set(Ears.heard))
        assert total > 1


def test_words_of_a_header() -> None:
    assert parse_words(b"\x02\0\0\0\0\0\0\0{}") == {}
