"""diffusers loads exported folders as its users do, and draws what we draw."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from foundry_maker import IDENTITY, add_kit
from lora_files import kohya_arrays
from talent_factory.foundry.conform import hollow_parts, load_in_diffusers
from talent_factory.kits.conform import open_lora
from talent_factory.kits.conform.family import FamilyName
from talent_factory.kits.export import export_kit
from talent_factory.kits.lora_file import lora_bytes
from talent_factory.kits.manifest import WEIGHTS_FILE
from talent_factory.training.families import load_base
from talent_factory.training.families.parts import quiet_transformers
from talent_factory.training.families.random_base import make_random_base
from talent_factory.training.lora import merge_into

FILE = "pytorch_lora_weights.safetensors"


@pytest.mark.parametrize(
    ("kind", "target"),
    [
        ("tiny", "diffusers"),
        ("tiny", "hf"),
        pytest.param("tiny-sdxl", "diffusers", marks=pytest.mark.slow),
    ],
)
def test_the_folder_is_loaded_by_its_path_alone_and_draws_our_picture(
    kind: Literal["tiny", "tiny-sdxl"], target: Literal["diffusers", "hf"], tmp_path: Path
) -> None:
    folder = make_random_base(tmp_path / "base", kind=kind)
    base = load_base(folder)
    kit = add_kit(tmp_path / "talents", folder, IDENTITY, revision=base.revision, token="dot_test")
    done = export_kit(kit, target=target, out=tmp_path / "out", base_folder=folder)
    exported = tmp_path / "out" / done.name
    bare = picture(folder)
    theirs = picture(folder, exported, weight=0.7)
    with ExitStack() as merges:
        pipeline = open_pipeline(folder)
        tensors = load_file(kit / WEIGHTS_FILE)
        names = ("lora_te",) if kind == "tiny" else ("lora_te1", "lora_te2")
        texts = [pipeline.text_encoder, getattr(pipeline, "text_encoder_2", None)]
        for prefix, module in (("lora_unet", pipeline.unet), *zip(names, texts, strict=False)):
            merges.enter_context(merge_into(module, tensors, 0.7, prefix=prefix, name=base.lora_name))
        ours = draw(pipeline)
    assert np.abs(ours - bare).max() > 0.01, "the kit changes nothing: the comparison would be empty"
    assert np.abs(ours - theirs).max() < 1e-3


@pytest.mark.parametrize("family", ["sd15", pytest.param("sdxl", marks=pytest.mark.slow)])
def test_every_module_of_a_full_size_export_is_found(family: FamilyName, tmp_path: Path) -> None:
    from kit_maker import make_spec, write_lora
    from talent_factory.kits.pack import pack_kit

    lora = write_lora(tmp_path / "lora.safetensors", kohya_arrays(family, rank=1))
    version = "xl" if family == "sdxl" else "1.5"
    spec = make_spec(base_model="some/model", sdx_version=version, rank=1, alpha=1.0)
    kit = pack_kit(spec, lora=lora, examples=(), root=tmp_path / "kits")
    export_kit(kit, target="diffusers", out=tmp_path)
    report = load_in_diffusers(open_lora(tmp_path / "dot_test_lora" / FILE), hollow_parts(family))
    assert (report.verdict, report.unmatched, report.difference) == ("full", 0, 0.0)


@pytest.mark.parametrize("kind", ["tiny", pytest.param("tiny-sdxl", marks=pytest.mark.slow)])
def test_the_code_on_the_card_runs(
    kind: Literal["tiny", "tiny-sdxl"], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from diffusers import DDIMScheduler, DiffusionPipeline

    folder = make_random_base(tmp_path / "base", kind=kind)
    version: Literal["xl", "1.5"] = "xl" if kind == "tiny-sdxl" else "1.5"
    kit = add_kit(tmp_path / "talents", folder, IDENTITY, token="dot_test", version=version)
    done = export_kit(kit, target="hf", out=tmp_path, base_folder=folder)
    card = (tmp_path / done.name / "README.md").read_text()
    code = card.partition("```py\n")[2].partition("```")[0]
    code = code.replace("FOLDER_OF_THE_BASE", str(folder))
    code = code.replace("THIS_REPOSITORY", str(tmp_path / done.name))
    real = DiffusionPipeline.from_pretrained.__func__

    def opened(cls: type[Any], where: str) -> Any:
        pipeline = real(cls, where, local_files_only=True)
        pipeline.scheduler = DDIMScheduler.from_config(pipeline.scheduler.config)
        pipeline.set_progress_bar_config(disable=True)
        return pipeline

    monkeypatch.setattr(DiffusionPipeline, "from_pretrained", classmethod(opened))
    found: dict[str, Any] = {}
    with quiet_transformers():
        exec(code, found)  # noqa: S102
    assert found["pipeline"].get_active_adapters() == ["kit"]
    assert found["image"].size[0] == 8 * found["pipeline"].unet.config.sample_size


def test_the_comparison_sees_a_wrong_alpha(tmp_path: Path) -> None:
    folder = make_random_base(tmp_path / "base", kind="tiny")
    kit = add_kit(tmp_path / "talents", folder, IDENTITY, token="dot_test")
    done = export_kit(kit, target="diffusers", out=tmp_path, base_folder=folder)
    right = picture(folder, tmp_path / done.name, weight=1.0)
    tensors = {name: array.numpy() for name, array in load_file(kit / WEIGHTS_FILE).items()}
    halved = {name: array / 2 if name.endswith(".alpha") else array for name, array in tensors.items()}
    (tmp_path / done.name / FILE).write_bytes(lora_bytes(halved, precision="fp16", words={}))
    assert np.abs(picture(folder, tmp_path / done.name, weight=1.0) - right).max() > 0.01


def open_pipeline(folder: Path) -> Any:
    """The pipeline as a user of diffusers opens a model folder."""
    from diffusers import DDIMScheduler, DiffusionPipeline

    with quiet_transformers():
        pipeline = DiffusionPipeline.from_pretrained(folder, local_files_only=True)
    pipeline.set_progress_bar_config(disable=True)
    # SDXL's own scheduler makes numpy warn
    pipeline.scheduler = DDIMScheduler.from_config(pipeline.scheduler.config)
    return pipeline


def picture(folder: Path, exported: Path | None = None, *, weight: float = 1.0) -> Any:
    """A picture of a fresh pipeline, with an exported folder loaded into it."""
    pipeline = open_pipeline(folder)
    if exported is not None:
        pipeline.load_lora_weights(exported, adapter_name="kit")
        pipeline.set_adapters("kit", weight)
    return draw(pipeline)


@torch.no_grad()
def draw(pipeline: Any) -> Any:
    """Two steps of guided sampling from a fixed seed, (H, W, 3) in 0..1."""
    generator = torch.Generator().manual_seed(3)
    side = pipeline.unet.config.sample_size * 8
    out = pipeline(
        "ink portrait of dot_test woman", num_inference_steps=2, guidance_scale=3.0,
        generator=generator, height=side, width=side, output_type="np",
    )  # fmt: skip
    return out.images[0]
