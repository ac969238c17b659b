"""Who reads a LoRA file: each program's rules accept what it accepts and say what it leaves aside."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from lora_files import Arrays, is_transformer, kohya_arrays, renamed, words_for, write_arrays
from talent_factory.core.errors import KitError, UsageError
from talent_factory.core.unet_names import stability_names
from talent_factory.kits.conform import RULE_TOOLS, ToolReport, conform_by_rules, open_lora
from talent_factory.kits.conform.family import FamilyName, family
from talent_factory.kits.keys import expected_modules, unet_config, unet_paths

FAMILIES: tuple[FamilyName, ...] = ("sd15", "sdxl")


def judged(
    folder: Path, arrays: Arrays, base: FamilyName, *, words: dict[str, str] | None = None, stem: str = "kit"
) -> dict[str, ToolReport]:
    header = words_for(base) if words is None else words
    file = open_lora(write_arrays(folder / f"{stem}.safetensors", arrays, header))
    return {report.tool: report for report in conform_by_rules(file, base)}


@pytest.mark.parametrize("base", FAMILIES)
@pytest.mark.parametrize("keep", [is_transformer, lambda name: True], ids=["transformer", "with conv"])
def test_our_files_are_read_fully_by_every_program(
    tmp_path: Path, base: FamilyName, keep: Callable[[str], bool]
) -> None:
    arrays = kohya_arrays(base, rank=1, keep=keep)
    for report in judged(tmp_path, arrays, base).values():
        assert (report.verdict, report.unmatched) == ("full", 0), report
        assert report.matched == len(arrays) // 3


def test_the_common_choice_of_modules_has_the_known_number() -> None:
    unet = [name for name in expected_modules("sd15") if is_transformer(name) and "unet" in name]
    texts = [name for name in expected_modules("sd15") if "text_model" in name]
    assert (len(unet), len(texts)) == (192, 72)


@pytest.mark.parametrize("base", FAMILIES)
def test_every_program_knows_the_generation(tmp_path: Path, base: FamilyName) -> None:
    reports = judged(tmp_path, kohya_arrays(base, rank=1), base)
    wanted = {"sd15": ("SD1", "SD1", "sd-1"), "sdxl": ("SDXL", "SDXL", "sdxl")}[base]
    assert tuple(reports[tool].taken_for for tool in ("a1111", "forge", "invokeai")) == wanted


def test_a_file_without_header_is_hidden_in_a1111(tmp_path: Path) -> None:
    file = open_lora(write_arrays(tmp_path / "a.safetensors", kohya_arrays("sd15", rank=1)))
    bare = {report.tool: report for report in conform_by_rules(file, "sd15")}
    # lora_bytes always states the hash, which is a header already: A1111 then takes the file for SD1
    assert bare["a1111"].taken_for == "SD1"
    assert bare["forge"].taken_for == "Unknown"
    assert any("modelspec" in remark for remark in bare["forge"].remarks)
    assert any("ss_tag_frequency" in remark for remark in bare["a1111"].remarks)


def test_an_sdxl_file_that_says_nothing_is_listed_under_sd1(tmp_path: Path) -> None:
    words = {key: text for key, text in words_for("sdxl").items() if "version" not in key}
    report = judged(tmp_path, kohya_arrays("sdxl", rank=1), "sdxl", words=words)["a1111"]
    assert report.taken_for == "SD1"
    assert any("hidden" in remark for remark in report.remarks)


def test_numbered_text_prefix_on_sd15_is_lost_in_invokeai_only(tmp_path: Path) -> None:
    arrays = renamed(kohya_arrays("sd15", rank=1), lambda name: name.replace("lora_te_", "lora_te1_"))
    reports = judged(tmp_path, arrays, "sd15")
    assert {tool: report.verdict for tool, report in reports.items()} == {
        "a1111": "full",
        "forge": "full",
        "comfyui": "full",
        "invokeai": "partial",
    }
    assert reports["invokeai"].unmatched == 3 * 72
    assert all(name.startswith("lora_te1_") for name in reports["invokeai"].unmatched_names)


def test_plain_text_prefix_on_sdxl_is_refused_by_invokeai_and_lost_in_a1111(tmp_path: Path) -> None:
    arrays = renamed(kohya_arrays("sdxl", rank=1), lambda name: name.replace("lora_te1_", "lora_te_"))
    reports = judged(tmp_path, arrays, "sdxl")
    assert reports["invokeai"].verdict == "refused"
    assert reports["a1111"].verdict == "partial"
    assert reports["a1111"].unmatched == 3 * 72


def test_text_names_without_their_level_are_lost(tmp_path: Path) -> None:
    """What transformers 5 calls its modules must never reach a file."""
    arrays = renamed(kohya_arrays("sd15", rank=1), lambda name: name.replace("text_model_", ""))
    for report in judged(tmp_path, arrays, "sd15").values():
        assert report.verdict in ("partial", "refused")
        assert report.unmatched == 3 * 72


def diffusers_names(arrays: Arrays, share: int = 1) -> Arrays:
    """SDXL's UNet under diffusers' names, for every `share`-th module."""
    rename = stability_names(unet_config("sdxl"))
    paths = {
        rename(path).replace(".", "_"): path.replace(".", "_") for path, _ in unet_paths(unet_config("sdxl"))
    }
    chosen = set(sorted(paths)[::share])

    def change(name: str) -> str:
        module, _, part = name.partition(".")
        own = module.removeprefix("lora_unet_")
        return f"lora_unet_{paths[own]}.{part}" if own in chosen and own != module else name

    return renamed(arrays, change)


def test_sdxl_under_diffusers_names_is_read_by_all_and_a_mixture_is_not(tmp_path: Path) -> None:
    arrays = kohya_arrays("sdxl", rank=1)
    whole = judged(tmp_path, diffusers_names(arrays), "sdxl")
    assert {report.verdict for report in whole.values()} == {"full"}
    mixed = judged(tmp_path, diffusers_names(arrays, share=3), "sdxl")
    assert mixed["invokeai"].verdict == "refused"
    assert "mixes" in mixed["invokeai"].remarks[0]
    assert mixed["comfyui"].verdict == "full"


def peft_names(arrays: Arrays) -> Arrays:
    """The attention of SD 1.5 as diffusers saves it today."""
    paths = {name.replace(".", "_"): name for name, _ in unet_paths(unet_config("sd15"))}
    found: Arrays = {}
    for name, array in arrays.items():
        module, _, part = name.partition(".")
        letter = {"lora_down.weight": "lora_A.weight", "lora_up.weight": "lora_B.weight"}.get(part)
        own = module.removeprefix("lora_unet_")
        if letter and own in paths:
            found[f"unet.{paths[own]}.{letter}"] = array
    return found


def test_todays_diffusers_form_loses_its_attention(tmp_path: Path) -> None:
    """Why kits ship kohya's form: only ComfyUI reads any of it, and not the attention."""
    reports = judged(tmp_path, peft_names(kohya_arrays("sd15", rank=1)), "sd15")
    verdicts = {tool: report.verdict for tool, report in reports.items()}
    assert verdicts == {"a1111": "refused", "forge": "refused", "comfyui": "partial", "invokeai": "refused"}
    assert (reports["comfyui"].matched, reports["comfyui"].unmatched) == (64, 2 * 128)
    only = {
        name: array for name, array in peft_names(kohya_arrays("sd15", rank=1)).items() if ".attn" in name
    }
    assert "changes nothing" in judged(tmp_path, only, "sd15")["comfyui"].remarks[0]


def test_the_oldest_diffusers_form_is_read_by_comfyui(tmp_path: Path) -> None:
    arrays = {
        name.replace(".to_", ".processor.to_")
        .replace("to_out.0", "to_out")
        .replace(".lora_A.weight", "_lora.down.weight")
        .replace(".lora_B.weight", "_lora.up.weight"): array
        for name, array in peft_names(kohya_arrays("sd15", rank=1)).items()
        if ".attn" in name
    }
    report = judged(tmp_path, arrays, "sd15")["comfyui"]
    assert (report.verdict, report.matched) == ("full", 128)


def test_invokeai_needs_cross_attention_or_text_modules(tmp_path: Path) -> None:
    arrays = kohya_arrays("sd15", rank=1, keep=lambda name: name.endswith("attn1_to_q"))
    reports = judged(tmp_path, arrays, "sd15")
    assert reports["invokeai"].verdict == "refused"
    assert {reports[tool].verdict for tool in ("a1111", "forge", "comfyui")} == {"full"}


@pytest.mark.parametrize(("strangers", "verdict"), [(4, "partial"), (5, "refused")])
def test_forge_refuses_more_than_twelve_strangers(tmp_path: Path, strangers: int, verdict: str) -> None:
    arrays = kohya_arrays("sd15", rank=1)
    modules = sorted({name.partition(".")[0] for name in arrays if "unet" in name})[:strangers]
    odd = renamed(arrays, lambda name: f"x{name}" if name.partition(".")[0] in modules else name)
    reports = judged(tmp_path, odd, "sd15")
    assert reports["forge"].verdict == verdict
    assert reports["comfyui"].verdict == "partial"
    assert reports["comfyui"].unmatched == 3 * strangers
    assert len(reports["comfyui"].unmatched_names) == 5


def test_a_module_of_another_shape_or_half_a_pair_has_no_effect(tmp_path: Path) -> None:
    arrays = kohya_arrays("sd15", rank=1)
    first = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn2_to_k"
    other = "lora_unet_mid_block_attentions_0_proj_in"
    arrays[f"{first}.lora_up.weight"] = np.ones((321, 1), np.float32)
    del arrays[f"{other}.lora_up.weight"]
    for tool, report in judged(tmp_path, arrays, "sd15").items():
        assert (report.verdict, report.unmatched) == ("partial", 5), tool


@pytest.mark.parametrize("axis", ["input", "output"])
def test_dora_is_right_where_the_lengths_belong_to_columns(tmp_path: Path, axis: str) -> None:
    arrays = kohya_arrays("sd15", rank=1)
    for name, shape in expected_modules("sd15").items():
        if is_transformer(name):
            tail = (1, 1) if shape.kernel else ()
            size = (1, shape.in_features) if axis == "input" else (shape.out_features, 1)
            arrays[f"{name}.dora_scale"] = np.ones((*size, *tail), np.float32)
    verdicts = {report.verdict for report in judged(tmp_path, arrays, "sd15").values()}
    assert verdicts == ({"full"} if axis == "input" else {"wrong"})


def test_names_in_prompts(tmp_path: Path) -> None:
    arrays = kohya_arrays("sd15", rank=1)
    usual = judged(tmp_path, arrays, "sd15", stem="weights")
    assert usual["a1111"].called == "<lora:avatar.identity.someone:1>"
    assert any("hide each other" in remark for remark in usual["a1111"].remarks)
    assert usual["comfyui"].called == "weights.safetensors"
    forbidden = judged(tmp_path, arrays, "sd15", words=words_for("sd15", name="None"), stem="mine")
    assert forbidden["a1111"].called == "<lora:mine:1>"


@pytest.mark.parametrize("base", FAMILIES)
def test_the_file_shows_its_family(tmp_path: Path, base: FamilyName) -> None:
    whole = kohya_arrays(base, rank=1)
    assert open_lora(write_arrays(tmp_path / "a.safetensors", whole)).family == base
    texts = {name: array for name, array in whole.items() if "text_model" in name}
    assert open_lora(write_arrays(tmp_path / "b.safetensors", texts)).family == base
    odd = {"something.else": np.ones((2, 2), np.float32)}
    assert open_lora(write_arrays(tmp_path / "c.safetensors", odd)).family == ""


def test_the_edges_of_the_model_that_other_trainers_adapt(tmp_path: Path) -> None:
    arrays = kohya_arrays("sd15", rank=1)
    for name, shape in family("sd15").unet.items():
        if name in ("conv_in", "conv_out", "time_embedding_linear_1"):
            arrays[f"lora_unet_{name}.lora_down.weight"] = np.ones(shape.down(1), np.float32)
            arrays[f"lora_unet_{name}.lora_up.weight"] = np.ones(shape.up(1), np.float32)
    assert {report.verdict for report in judged(tmp_path, arrays, "sd15").values()} == {"full"}


def test_another_base_is_foreign_and_unknown_tools_and_files_are_told(tmp_path: Path) -> None:
    path = write_arrays(tmp_path / "a.safetensors", kohya_arrays("mini", rank=1))
    reports = conform_by_rules(open_lora(path), None)
    assert [report.tool for report in reports] == list(RULE_TOOLS)
    assert {report.verdict for report in reports} == {"foreign"}
    with pytest.raises(UsageError, match="photoshop"):
        conform_by_rules(open_lora(path), "sd15", ["photoshop"])
    with pytest.raises(KitError, match="No such file"):
        open_lora(tmp_path / "none.safetensors")
    with pytest.raises(KitError, match="can run code"):
        open_lora(tmp_path / "lora.pt")
    (tmp_path / "cut.safetensors").write_bytes(path.read_bytes()[:100])
    with pytest.raises(KitError, match=r"cut\.safetensors"):
        open_lora(tmp_path / "cut.safetensors")
