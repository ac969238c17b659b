"""LoRA files of every form become kits that do exactly what the file did; kits come back bit for bit."""

from __future__ import annotations

import base64
import io
import json
import math
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from hostile_images import picture, place
from kit_maker import KIT_ID, make_base, make_kit, raw_tensors
from lora_files import Arrays, kohya_arrays, module_arrays, words_for, write_arrays
from talent_factory.core.errors import UsageError
from talent_factory.core.unet_names import stability_names
from talent_factory.kits import keys
from talent_factory.kits.images import tells_place
from talent_factory.kits.intake.bring import bring
from talent_factory.kits.intake.facts import Wishes, kit_id
from talent_factory.kits.intake.outcome import Order, Taken
from talent_factory.kits.keys import expected_modules, unet_config, unet_paths
from talent_factory.kits.lora_file import read_lora
from talent_factory.kits.manifest import TalentManifest, read_manifest, read_prompts
from talent_factory.kits.validate import validate_kit

BLOCK = "down_blocks.0.attentions.0.transformer_blocks.0"
NAME = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0"
TEXT = "text_model.encoder.layers.0.self_attn"


def small(base: str = "sd15", **options: Any) -> Arrays:
    """A LoRA of one transformer, one text layer and, where asked for, one residual block."""
    wanted = ("down_blocks_0_attentions_0", "input_blocks_4_1", "te_text_model_encoder_layers_0_self")
    return kohya_arrays(base, keep=lambda name: any(part in name for part in wanted), **options)


def take(path: Path, tmp_path: Path, **order: Any) -> tuple[Taken, Path]:
    """Import one thing; returns what became of it and the kit's folder."""
    root = tmp_path / "workspace" / "talents"
    (taken,) = bring([path], Order(root=root, **order))
    assert taken.status == "imported", taken
    assert validate_kit(root / taken.id).errors == ()
    return taken, root / taken.id


def change(tensors: dict[str, NDArray[Any]], name: str) -> NDArray[np.float64]:
    """(alpha / rank) · up @ down of one module."""
    down, up = (np.asarray(tensors[f"{name}.lora_{end}.weight"], np.float64) for end in ("down", "up"))
    alpha = float(tensors[f"{name}.alpha"].reshape(-1)[0]) if f"{name}.alpha" in tensors else down.shape[0]
    product = up.reshape(up.shape[0], -1) @ down.reshape(down.shape[0], -1)
    return product * (float(alpha) / down.shape[0])


def same_change(before: Arrays, kit: Path, rename: Callable[[str], str] = str) -> None:
    """Each module of the kit changes the base exactly as it did."""
    after = read_lora(kit / "weights.safetensors")
    names = {key.partition(".")[0] for key in before}
    assert {rename(name) for name in names} == {key.partition(".")[0] for key in after}
    for name in names:
        left, right = change(before, name), change(after, rename(name))
        np.testing.assert_allclose(left, right, rtol=1e-6, atol=0)
        # and the numbers themselves are those of the file, only their places changed
        assert set(np.unique(before[f"{name}.lora_up.weight"])) <= set(
            np.unique(after[f"{rename(name)}.lora_up.weight"])
        )


def metadata(kit: Path) -> Any:
    found = read_manifest(kit).metadata
    assert found is not None
    return found


# kohya's form


@pytest.mark.parametrize("base", ["sd15", "sdxl"])
def test_a_file_in_kit_form_is_taken_bit_for_bit(base: str, tmp_path: Path) -> None:
    path = write_arrays(tmp_path / "qb_peter.safetensors", small(base), words_for(base))
    taken, kit = take(path, tmp_path)
    assert taken.changes == ()
    assert (taken.base, taken.rank, taken.alpha) == (base, 2, 1.0)
    assert (kit / "weights.safetensors").read_bytes() == path.read_bytes()
    manifest = read_manifest(kit)
    assert manifest.id == "avatar.identity.qb_peter"
    assert manifest.token == "someone"
    assert manifest.sdx_version == ("xl" if base == "sdxl" else "1.5")
    assert manifest.base_model == taken_model(base)
    assert metadata(kit).alpha == 1.0
    assert metadata(kit).text_encoder is (base == "sd15")


def taken_model(base: str) -> str:
    return {
        "sd15": "stable-diffusion-v1-5/stable-diffusion-v1-5",
        "sdxl": "stabilityai/stable-diffusion-xl-base-1.0",
    }[base]


def test_a_lora_of_the_embedded_base_is_known(tmp_path: Path) -> None:
    path = write_arrays(tmp_path / "x.safetensors", kohya_arrays("mini"))
    taken, kit = take(path, tmp_path)
    assert (taken.base, read_manifest(kit).base_model) == ("mini", "mini")


@pytest.mark.parametrize("dtype", ["F16", "BF16", "F32"])
def test_every_precision_is_kept(dtype: str, tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    path.write_bytes(raw_tensors(small(), dtype=dtype))
    _, kit = take(path, tmp_path)
    assert (kit / "weights.safetensors").read_bytes() == path.read_bytes()


def test_names_of_diffusers_in_sdxl_get_stabilitys(tmp_path: Path) -> None:
    config = unet_config("sdxl")
    names = {stability_names(config)(path): path for path, _ in unet_paths(config)}
    rename = {flat(theirs): flat(ours) for theirs, ours in names.items()}
    before = small("sdxl")
    other = {
        f"{rename[key.partition('.')[0]]}.{key.partition('.')[2]}": array for key, array in before.items()
    }
    taken, kit = take(write_arrays(tmp_path / "x.safetensors", other), tmp_path)
    assert taken.changes == ("tensors have kohya's names now",)
    same_change(half(before), kit)


def flat(path: str) -> str:
    return f"lora_unet_{path.replace('.', '_')}"


def half(arrays: Arrays) -> Arrays:
    """The numbers that a file in half precision holds."""
    return {
        key: array if key.endswith("alpha") else array.astype(np.float16).astype(np.float32)
        for key, array in arrays.items()
    }


def test_a_numbered_text_encoder_of_sd15_loses_its_number(tmp_path: Path) -> None:
    before = small()
    other = {key.replace("lora_te_", "lora_te1_"): array for key, array in before.items()}
    _, kit = take(write_arrays(tmp_path / "x.safetensors", other), tmp_path)
    same_change(half(before), kit)


def test_a_text_encoder_alone_fits_two_bases_and_its_names_decide(tmp_path: Path) -> None:
    arrays = kohya_arrays("sd15", keep=lambda name: "te_text_model_encoder_layers_0_self" in name)
    assert take(write_arrays(tmp_path / "x.safetensors", arrays), tmp_path)[0].base == "sd15"
    other = {key.replace("lora_te_", "lora_te1_"): array * 2 for key, array in arrays.items()}
    assert take(write_arrays(tmp_path / "y.safetensors", other), tmp_path)[0].base == "sdxl"
    words = {"ss_base_model_version": "sdxl_base_v1-0"}
    third = {key: array * 3 for key, array in arrays.items()}
    assert take(write_arrays(tmp_path / "z.safetensors", third, words), tmp_path)[0].base == "sdxl"
    (taken,) = bring([tmp_path / "x.safetensors"], Order(root=tmp_path / "other", base="sdxl"))
    assert taken.base == "sdxl"


def test_mixed_ranks_are_filled_up_exactly(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    modules = expected_modules("sd15")
    before: Arrays = {}
    for number, part in enumerate(("attn1_to_q", "attn1_to_k", "attn2_to_k", "ff_net_2")):
        name = f"{NAME}_{part}"
        before.update(
            module_arrays(name, modules[name], rank=2 ** (number + 1), alpha=1.5 * (number + 1), rng=rng)
        )
    path = tmp_path / "x.safetensors"
    path.write_bytes(raw_tensors(before))
    taken, kit = take(path, tmp_path)
    assert taken.rank == 16
    assert taken.changes == ("ranks 2 to 16 filled up with zeros to 16",)
    assert metadata(kit).alpha is None
    same_change(before, kit)


def test_convolutions_keep_a_rank_of_their_own(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    modules = expected_modules("sd15")
    conv, plain = "lora_unet_down_blocks_0_resnets_0_conv1", f"{NAME}_attn1_to_q"
    before = {
        **module_arrays(plain, modules[plain], rank=8, alpha=4, rng=rng),
        **module_arrays(conv, modules[conv], rank=4, alpha=1, rng=rng),
    }
    path = tmp_path / "x.safetensors"
    path.write_bytes(raw_tensors(before))
    taken, kit = take(path, tmp_path)
    assert (taken.rank, taken.alpha, taken.changes) == (8, 4.0, ())
    assert (metadata(kit).conv_rank, metadata(kit).conv_alpha) == (4, 1.0)
    same_change(before, kit)


def test_matrices_for_small_convolutions_are_taken(tmp_path: Path) -> None:
    before = small()
    flat = {
        key: array.reshape(array.shape[:2]) if array.ndim == 4 else array for key, array in before.items()
    }
    path = tmp_path / "x.safetensors"
    path.write_bytes(raw_tensors(flat))
    taken, kit = take(path, tmp_path)
    assert taken.changes == ("1 x 1 convolutions and matrices have the base's form now",)
    same_change(before, kit)


def test_lengths_of_dora_are_kept(tmp_path: Path) -> None:
    before = small()
    before[f"{NAME}_attn1_to_q.dora_scale"] = np.linspace(1, 2, 320, dtype=np.float32)[None]
    before.pop(f"{NAME}_attn1_to_q.alpha")
    path = tmp_path / "x.safetensors"
    path.write_bytes(raw_tensors(before))
    _, kit = take(path, tmp_path)
    after = read_lora(kit / "weights.safetensors")
    key = f"{NAME}_attn1_to_q.dora_scale"
    assert np.array_equal(after[key], before[key])


# other forms


def dotted(before: Arrays, base: str, ends: dict[str, str], texts: dict[str, str]) -> Arrays:
    """The same numbers under dotted names, without alpha."""
    paths = {
        f"lora_unet_{path}".replace(".", "_"): f"unet.{path}" for path, _ in unet_paths(unet_config(base))
    }
    found: Arrays = {}
    for key, array in before.items():
        name, _, part = key.partition(".")
        for prefix, model in texts.items():
            if name.startswith(prefix):
                layer = name.removeprefix(prefix + "_text_model_encoder_layers_0_self_attn_")
                paths[name] = f"{model}.{TEXT}.{layer}"
        if part in ends:
            found[f"{paths[name]}.{ends[part]}"] = array
    return found


PEFT = {"lora_down.weight": "lora_A.weight", "lora_up.weight": "lora_B.weight"}
LAYERS = {"lora_down.weight": "lora.down.weight", "lora_up.weight": "lora.up.weight"}


def bare(arrays: Arrays) -> Arrays:
    return {key: array for key, array in arrays.items() if not key.endswith(".alpha")}


@pytest.mark.parametrize("ends", [PEFT, LAYERS], ids=["PEFT", "older diffusers"])
@pytest.mark.parametrize("prefix", ["", "base_model.model."])
def test_dotted_names_become_kohyas(ends: dict[str, str], prefix: str, tmp_path: Path) -> None:
    before = bare(small())
    named = dotted(before, "sd15", ends, {"lora_te": "text_encoder"})
    path = tmp_path / "x.safetensors"
    path.write_bytes(raw_tensors({prefix + key: array for key, array in named.items()}))
    taken, kit = take(path, tmp_path)
    assert taken.alpha == taken.rank == 2
    assert "modules had no alpha: it is the rank" in " ".join(taken.changes)
    same_change(before, kit)


def test_processors_of_old_diffusers_become_kohyas(tmp_path: Path) -> None:
    before = bare({key: array for key, array in small().items() if "_attn" in key and "_te_" not in key})
    named = {}
    for key, array in before.items():
        name, _, part = key.partition(".")
        layer = name.rpartition("_to_")[2].removesuffix("_0")
        block = f"unet.{BLOCK}.attn{'1' if '_attn1_' in name else '2'}"
        named[f"{block}.processor.to_{layer}_lora.{part.removeprefix('lora_')}"] = array
    path = tmp_path / "pytorch_lora_weights.safetensors"
    path.write_bytes(raw_tensors(named))
    taken, kit = take(path, tmp_path)
    assert taken.form == "older diffusers"
    same_change(before, kit)


@pytest.mark.parametrize("slora", [False, True])
def test_the_alpha_of_pefts_configuration_is_kept(slora: bool, tmp_path: Path) -> None:
    before = bare(small())
    config = {
        "unet.lora_alpha": 6,
        "unet.alpha_pattern": {f"{BLOCK}.attn1.to_q": 3},
        "unet.use_rslora": slora,
        "text_encoder.lora_alpha": 5,
    }
    named = dotted(before, "sd15", PEFT, {"lora_te": "text_encoder"})
    path = write_arrays(tmp_path / "x.safetensors", named, {"lora_adapter_metadata": json.dumps(config)})
    _, kit = take(path, tmp_path)
    after = read_lora(kit / "weights.safetensors")
    factor = math.sqrt(2) if slora else 1.0
    assert float(after[f"{NAME}_attn1_to_k.alpha"]) == pytest.approx(6 * factor)
    assert float(after[f"{NAME}_attn1_to_q.alpha"]) == pytest.approx(3 * factor)
    assert float(after["lora_te_text_model_encoder_layers_0_self_attn_q_proj.alpha"]) == 5


def test_the_alpha_of_a_configuration_beside_is_kept(tmp_path: Path) -> None:
    named = dotted(bare(small()), "sd15", PEFT, {"lora_te": "text_encoder"})
    write_arrays(tmp_path / "cat" / "adapter_model.safetensors", named)
    (tmp_path / "cat" / "adapter_config.json").write_text(json.dumps({"r": 2, "lora_alpha": 7}))
    taken, kit = take(tmp_path / "cat" / "adapter_model.safetensors", tmp_path)
    assert taken.alpha == 7
    assert kit.name == "avatar.style.cat"


# what is known beside the tensors


def test_cards_beside_the_file_fill_the_manifest(tmp_path: Path) -> None:
    path = write_arrays(tmp_path / "Peter (v2).safetensors", small())
    card = {
        "description": "A <b>man</b>\u202e in blue",
        "activation text": "qb_peter person, blue hat",
        "preferred weight": 0.8,
        "negative text": "blurry",
    }
    (tmp_path / "Peter (v2).json").write_text(json.dumps(card))
    civitai = {
        "trainedWords": ["other"],
        "model": {
            "name": "Peter",
            "tags": ["character", "man"],
            "poi": True,
            "allowNoCredit": False,
            "allowCommercialUse": ["Image"],
        },
        "images": [{"meta": {"prompt": "qb_peter on a roof <lora:x:1>"}}],
    }
    (tmp_path / "Peter (v2).civitai.info").write_text(json.dumps(civitai))
    taken, kit = take(path, tmp_path)
    manifest = read_manifest(kit)
    assert manifest.id == "avatar.identity.peter_v2"
    assert (manifest.token, manifest.default_weight, manifest.negatives) == ("qb_peter", 0.8, "blurry")
    found = metadata(kit)
    assert found.triggers == ("qb_peter person", "blue hat")
    assert found.description == "A man in blue"
    assert found.tags == ("character", "man")
    assert found.license == "Civitai: credit the maker; commercial use: image"
    assert found.subject.real_person
    assert found.subject.consent == "none"
    assert read_prompts(kit).positive_prompts == ("qb_peter on a roof",)
    why = {reason.field: reason.why for reason in taken.reasons}
    assert why["triggers"] == "Peter (v2).json"
    assert why["license"] == "Peter (v2).civitai.info"
    assert found.provenance["inferred"]["kind"] == why["kind"]


@pytest.mark.parametrize(
    ("table", "token"),
    [
        ({"10_qb_peter person": {"qb_peter person": 9, "hat": 3}}, "qb_peter"),
        ({"img": {"1girl": 20, "qb_anna": 20, "smile": 4}}, "qb_anna"),
        ({"img": {"1girl": 20, "solo": 20}}, None),
        ({"5_zkx man": {}}, "zkx"),
    ],
)
def test_captions_tell_the_trigger(table: dict[str, Any], token: str | None, tmp_path: Path) -> None:
    path = write_arrays(tmp_path / "x.safetensors", small(), {"ss_tag_frequency": json.dumps(table)})
    _, kit = take(path, tmp_path)
    manifest = read_manifest(kit)
    assert manifest.token == token
    assert manifest.is_identity is (token is not None)


def test_the_header_tells_training_and_times(tmp_path: Path) -> None:
    words = {
        "ss_steps": "1600",
        "ss_unet_lr": "0.0001",
        "ss_resolution": "(512, 512)",
        "ss_num_train_images": "40",
        "ss_training_finished_at": "1700000000.5",
        "ss_sd_model_name": "C:\\Users\\someone\\sd\\animefull.ckpt",
        "modelspec.license": "CreativeML",
    }
    _, kit = take(write_arrays(tmp_path / "x.safetensors", small(), words), tmp_path)
    manifest: TalentManifest = read_manifest(kit)
    assert manifest.training_config is not None
    assert manifest.training_config.max_train_steps == 1600
    assert manifest.training_config.learning_rate == 1e-4
    assert manifest.created_at is not None
    assert manifest.created_at.isoformat() == "2023-11-14T22:13:20+00:00"
    assert metadata(kit).license == "CreativeML"
    assert metadata(kit).provenance["images"] == 40
    assert metadata(kit).provenance["header"]["ss_sd_model_name"] == "animefull.ckpt"


def test_the_preview_beside_is_cleaned_and_tells_its_prompt(tmp_path: Path) -> None:
    from PIL.PngImagePlugin import PngInfo

    path = write_arrays(tmp_path / "x.safetensors", small())
    info = PngInfo()
    info.add_text("parameters", "a fox in snow <lora:x:0.7>\nNegative prompt: bad\nSteps: 20")
    Image.new("RGB", (900, 700), (9, 99, 199)).save(tmp_path / "x.preview.png", pnginfo=info)
    _, kit = take(path, tmp_path)
    with Image.open(kit / "preview.png") as preview, Image.open(kit / "examples" / "01.png") as example:
        assert preview.size == (512, 398)
        assert example.size == (900, 700)
        assert "parameters" not in example.info
    assert read_prompts(kit).positive_prompts == ("a fox in snow",)


@pytest.mark.parametrize("word", ["modelspec.thumbnail", "ssmd_cover_images"])
def test_a_picture_in_the_header_becomes_the_preview(word: str, tmp_path: Path) -> None:
    text = base64.b64encode(place()).decode()
    value = f"data:image/jpeg;base64,{text}" if "thumb" in word else json.dumps([text])
    _, kit = take(write_arrays(tmp_path / "x.safetensors", small(), {word: value}), tmp_path)
    assert (kit / "preview.png").read_bytes().startswith(b"\x89PNG")
    assert not tells_place((kit / "preview.png").read_bytes())


def test_a_spoiled_card_and_picture_are_passed_over_in_words(tmp_path: Path) -> None:
    path = write_arrays(tmp_path / "x.safetensors", small())
    (tmp_path / "x.json").write_text("{")
    (tmp_path / "x.png").write_bytes(picture("PNG") + b"PK")
    taken, kit = take(path, tmp_path)
    assert any(text.startswith("x.json is passed over") for text in taken.warnings)
    assert any("x.png is passed over: 2 bytes follow" in text for text in taken.warnings)
    assert not (kit / "preview.png").exists()


@pytest.mark.parametrize(
    ("stem", "name"),
    [("Ünï cödé!", "uni_code"), ("CON", "con_abcdef12"), ("日本", "lora_abcdef12"), ("..", "lora_abcdef12")],
)
def test_ids_are_made_of_any_name(stem: str, name: str) -> None:
    assert kit_id(stem, "style", "abcdef1234") == f"avatar.style.{name}"


def test_an_exported_file_comes_back_under_its_kits_id(tmp_path: Path) -> None:
    words = {"modelspec.title": "avatar.identity.anna.winter", "modelspec.trigger_phrase": "qb_anna"}
    taken, _ = take(write_arrays(tmp_path / "qb_anna_lora.safetensors", small(), words), tmp_path)
    assert taken.id == "avatar.identity.anna.winter"
    words["modelspec.title"] = "avatar.identity../x"
    other = {key: array * 2 for key, array in small().items()}
    _, kit = take(write_arrays(tmp_path / "b.safetensors", other, words), tmp_path)
    assert kit.name == "avatar.identity.b"
    assert metadata(kit).subject is None, "nobody said whom it shows"


# many at a time, again, and not at all


def test_a_folder_of_a_program_is_searched(tmp_path: Path) -> None:
    program = tmp_path / "program"
    loras = program / "models" / "Lora"
    write_arrays(loras / "a.safetensors", small())
    write_arrays(loras / "more" / "a.safetensors", {key: array * 2 for key, array in small().items()})
    write_arrays(loras / "more" / "copy.safetensors", small())
    write_arrays(program / "models" / "Stable-diffusion" / "not_here.safetensors", small("sdxl"))
    (loras / "old.ckpt").write_bytes(b"x")
    (loras / "loop").symlink_to(program)
    (loras / "link.safetensors").symlink_to(loras / "a.safetensors")
    root = tmp_path / "talents"
    steps: list[tuple[int, int]] = []
    taken = bring([program], Order(root=root), progress=lambda done, total: steps.append((done, total)))
    assert sorted((Path(item.source).name, item.status, item.code) for item in taken) == [
        ("a.safetensors", "imported", ""),
        ("a.safetensors", "imported", ""),
        ("copy.safetensors", "known", ""),
        ("link.safetensors", "refused", "link"),
        ("old.ckpt", "refused", "pickle"),
    ]
    ids = sorted(path.name for path in root.iterdir())
    assert ids[0] == "avatar.style.a"
    assert ids[1].startswith("avatar.style.a_")
    assert steps[0] == (0, 5)
    assert steps[-1] == (5, 5)
    again = bring([program], Order(root=root))
    assert {item.status for item in again} == {"known", "refused"}
    assert sorted(path.name for path in root.iterdir() if path.is_dir()) == ids


def test_another_header_over_the_same_tensors_is_known(tmp_path: Path) -> None:
    first = write_arrays(tmp_path / "peter.safetensors", small(), words_for("sd15"))
    again = write_arrays(
        tmp_path / "exported.safetensors", small(), {**words_for("sd15"), "ss_output_name": "x"}
    )
    other = {key: array * 2 for key, array in small().items()}
    differs = write_arrays(tmp_path / "other.safetensors", other, words_for("sd15"))
    root = tmp_path / "talents"
    (made,) = bring([first], Order(root=root))
    (known,) = bring([again], Order(root=root))
    assert (known.status, known.id) == ("known", made.id)
    (new,) = bring([differs], Order(root=root))
    assert new.status == "imported"
    (named,) = bring([again], Order(root=root, id="avatar.identity.twin"))
    assert (named.status, named.id) == ("imported", "avatar.identity.twin")


def test_the_user_has_the_last_word(tmp_path: Path) -> None:
    path = write_arrays(tmp_path / "x.safetensors", small(), words_for("sd15"))
    order = {"id": "avatar.style.mine", "base": "some/model-of-mine", "wishes": Wishes(token="zz_top")}
    taken, kit = take(path, tmp_path, **order)
    manifest = read_manifest(kit)
    assert (manifest.id, manifest.token) == ("avatar.style.mine", "zz_top")
    assert (manifest.base_model, manifest.sdx_version) == ("some/model-of-mine", "1.5")
    assert metadata(kit).triggers == ("zz_top", "someone")
    write_arrays(tmp_path / "y.safetensors", {key: 2 * array for key, array in small().items()})
    (refused,) = bring([tmp_path / "y.safetensors"], Order(root=kit.parent, **order))
    assert (refused.status, refused.code) == ("refused", "id-collision")
    (replaced,) = bring([tmp_path / "y.safetensors"], Order(root=kit.parent, replace=True, **order))
    assert replaced.status == "imported"
    assert taken.id == replaced.id
    (wrong,) = bring([path], Order(root=tmp_path / "other", base="sdxl"))
    assert (wrong.status, wrong.code) == ("refused", "base-mismatch")
    with pytest.raises(UsageError, match="for one LoRA"):
        bring([path, tmp_path / "y.safetensors"], Order(root=tmp_path / "other", id="avatar.style.x"))


def test_a_dry_run_writes_nothing(tmp_path: Path) -> None:
    path = write_arrays(tmp_path / "x.safetensors", small(), words_for("sd15"))
    root = tmp_path / "talents"
    (taken,) = bring([path], Order(root=root, dry_run=True))
    assert taken.status == "imported"
    assert not root.exists()


def test_nothing_to_import_is_said(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="does not exist"):
        bring([tmp_path / "nowhere"], Order(root=tmp_path / "talents"))
    with pytest.raises(UsageError, match="nothing to import"):
        bring([tmp_path], Order(root=tmp_path / "talents"))


# kits


@pytest.fixture
def packed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A good kit of a small base that stands for the embedded one."""
    base = make_base(tmp_path / "base")
    monkeypatch.setattr(keys, "MINI_FOLDER", base)
    return make_kit(tmp_path / "source", base, work=tmp_path / "work")


def files(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()
    }


def archive(kit: Path, path: Path, *, inside: str = "") -> Path:
    """The kit as an archive of the kind that the name says, below a folder of that name or at the top."""
    names = {f"{inside}{name}": data for name, data in files(kit).items()}
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as out:
            for name, data in names.items():
                out.writestr(name, data)
        return path
    with tarfile.open(path, "w" if path.suffix == ".tar" else "w:gz") as tar:
        for name, data in names.items():
            info = tarfile.TarInfo(f"./{name}")
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return path


@pytest.mark.parametrize("name", ["kit.zip", "kit.tar", "kit.tar.gz", "kit.tgz"])
@pytest.mark.parametrize("inside", ["", "avatar.identity.dot_test/", "some/where/"])
def test_archives_of_kits_come_back_bit_for_bit(name: str, inside: str, packed: Path, tmp_path: Path) -> None:
    path = archive(packed, tmp_path / name, inside=inside)
    taken, kit = take(path, tmp_path)
    assert taken.id == KIT_ID
    assert files(kit) == files(packed)
    assert [item.name for item in kit.parent.iterdir()] == [KIT_ID]


def test_a_kit_folder_is_taken_with_its_own_id(packed: Path, tmp_path: Path) -> None:
    moved = packed.rename(tmp_path / "whatever")
    _, kit = take(moved, tmp_path)
    assert kit.name == KIT_ID
    assert files(kit) == files(moved)
    (again,) = bring([moved], Order(root=kit.parent))
    assert (again.status, again.id) == ("known", KIT_ID)
    with pytest.raises(UsageError, match="keeps its id"):
        bring([moved], Order(root=tmp_path / "other", id="avatar.identity.other"))


def test_a_changed_kit_is_refused_with_its_finding(packed: Path, tmp_path: Path) -> None:
    (packed / "LICENSE.txt").write_text("do what you like\n")
    (taken,) = bring([packed], Order(root=tmp_path / "talents"))
    assert (taken.status, taken.code) == ("refused", "digest")
    assert "LICENSE.txt" in taken.message
    assert list((tmp_path / "talents").iterdir()) == []


def test_another_kit_of_the_same_id_is_not_replaced_unasked(packed: Path, tmp_path: Path) -> None:
    _, kit = take(packed, tmp_path)
    before = files(kit)
    other = make_kit(tmp_path / "second", tmp_path / "base", work=tmp_path / "work2", description="another")
    (taken,) = bring([other], Order(root=kit.parent))
    assert (taken.status, taken.code) == ("refused", "id-collision")
    assert files(kit) == before
    (taken,) = bring([other], Order(root=kit.parent, replace=True))
    assert taken.status == "imported"
    assert files(kit) == files(other)


def test_an_archive_may_hold_loras_with_their_cards(tmp_path: Path) -> None:
    lora = write_arrays(tmp_path / "in" / "qb_anna.safetensors", small())
    (tmp_path / "in" / "qb_anna.json").write_text(json.dumps({"activation text": "qb_anna"}))
    taken, kit = take(archive(lora.parent, tmp_path / "a.zip", inside="loras/"), tmp_path)
    assert taken.source.endswith("a.zip!loras/qb_anna.safetensors")
    assert read_manifest(kit).token == "qb_anna"
