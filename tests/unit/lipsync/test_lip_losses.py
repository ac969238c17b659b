from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional

from talent_factory.core.errors import FileError
from talent_factory.lipsync.losses import gradient_loss, latent_l1, open_perceptual, pixel_l1, sync_loss
from talent_factory.lipsync.masks import FaceMask
from talent_factory.lipsync.models.discriminator import (
    PatchDiscriminator,
    discriminator_loss,
    feature_matching,
    generator_loss,
)


def _pictures(seed: int = 0, size: int = 32) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(2, 3, size, size, generator=generator) * 2 - 1


def test_latents_are_compared_in_full_precision() -> None:
    one = torch.full((1, 4, 2, 2), 100.0, dtype=torch.bfloat16)
    assert float(latent_l1(one, one + 1)) == 1.0
    assert latent_l1(one, one).dtype == torch.float32


def test_pixels_count_where_the_face_is_covered() -> None:
    weights = FaceMask().weights(32, 32, mouth=1.0)
    true = torch.zeros(2, 3, 32, 32)
    above, below = true.clone(), true.clone()
    above[:, :, :16] = 1
    below[:, :, 16:] = 0.5
    assert float(pixel_l1(above, true, weights)) == 0
    assert float(pixel_l1(below, true, weights)) == pytest.approx(0.5, abs=1e-5)


def test_the_mouth_counts_more_than_the_corner() -> None:
    weights = FaceMask().weights(32, 32, mouth=4.0)
    true = torch.zeros(1, 3, 32, 32)
    mouth, corner = true.clone(), true.clone()
    mouth[:, :, 23:26, 14:18] = 1
    corner[:, :, 29:32, 0:4] = 1
    assert float(pixel_l1(mouth, true, weights)) > 3 * float(pixel_l1(corner, true, weights))


def test_slopes_ask_for_sharp_edges_and_not_for_brightness() -> None:
    true = _pictures()
    assert float(gradient_loss(true + 0.3, true)) == pytest.approx(0, abs=1e-6)
    blurred = functional.avg_pool2d(true, 3, 1, 1)
    assert float(gradient_loss(blurred, true)) > 0.1
    made = _pictures(1).requires_grad_()
    gradient_loss(made, true).backward()
    assert made.grad is not None
    assert float(made.grad.abs().max()) > 0
    assert torch.isfinite(gradient_loss(_pictures(0, 2), _pictures(1, 2)))


def test_perception_is_slopes_without_weights_and_vgg_with_them(tmp_path: Path) -> None:
    assert open_perceptual() is gradient_loss
    save_file(_vgg(), tmp_path / "vgg.safetensors")
    loss = open_perceptual(tmp_path / "vgg.safetensors")
    true, made = _pictures(0, 16), _pictures(1, 16).requires_grad_()
    assert float(loss(true, true)) == 0
    loss(made, true).backward()
    assert made.grad is not None
    assert float(made.grad.abs().max()) > 0


def _vgg() -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    shapes = {0: (64, 3), 2: (64, 64), 5: (128, 64), 7: (128, 128), 10: (256, 128)}
    shapes |= {12: (256, 256), 14: (256, 256), 16: (256, 256), 19: (512, 256)}
    shapes |= dict.fromkeys((21, 23, 25, 28), (512, 512))
    state = {}
    for index, (after, before) in shapes.items():
        scale = (2 / (9 * before)) ** 0.5
        state[f"features.{index}.weight"] = torch.randn(after, before, 3, 3, generator=generator) * scale
        state[f"features.{index}.bias"] = torch.zeros(after)
    return state


def test_other_weights_than_vgg_are_refused(tmp_path: Path) -> None:
    save_file({"features.0.weight": torch.zeros(1)}, tmp_path / "small.safetensors")
    (tmp_path / "text.safetensors").write_text("no weights", "utf-8")
    for name in ("small.safetensors", "text.safetensors", "none.safetensors"):
        with pytest.raises(FileError, match=name):
            open_perceptual(tmp_path / name)


class _Judge:
    def agreement(self, faces: Tensor, sound: Tensor) -> Tensor:
        return functional.cosine_similarity(faces.flatten(1)[:, :64], sound.flatten(1)[:, :64])


def test_agreement_with_sound_is_what_the_sync_loss_wants() -> None:
    faces = _pictures().reshape(1, 2, 3, 32, 32).requires_grad_()
    sound = torch.zeros(1, 2, 10, 384)
    sound.view(1, -1)[0, :64] = faces.detach().flatten()[:64]
    assert float(sync_loss(_Judge(), faces, sound).detach()) == pytest.approx(0, abs=1e-5)
    worst = sync_loss(_Judge(), faces, -sound).detach()
    assert float(worst) > 5
    assert torch.isfinite(worst)
    sync_loss(_Judge(), faces, sound.roll(7)).backward()
    assert faces.grad is not None
    assert float(faces.grad.abs().max()) > 0


@pytest.mark.parametrize("kind", ["hinge", "ls"])
def test_the_judge_learns_to_tell_and_the_painter_to_please(kind: str) -> None:
    torch.manual_seed(0)
    judge = PatchDiscriminator(width=4, depth=2, scales=2)
    optimizer = torch.optim.AdamW(judge.parameters(), lr=3e-3)
    true, made = _pictures(0) * 0.2, _pictures(1) * 0.2 + 0.5
    first = discriminator_loss(judge(true), judge(made), kind).detach()  # type: ignore[arg-type]
    for _ in range(25):
        loss = discriminator_loss(judge(true), judge(made), kind)  # type: ignore[arg-type]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert float(loss.detach()) < 0.5 * float(first)
    with torch.no_grad():
        of_made, of_true = (generator_loss(judge(images), kind) for images in (made, true))  # type: ignore[arg-type]
    assert float(of_made) > float(of_true)


def test_a_judgement_does_not_depend_on_the_batch() -> None:
    torch.manual_seed(0)
    judge = PatchDiscriminator(width=8, depth=2, scales=2)
    images = _pictures()
    together, alone = judge(images)[1][-1][:1], judge(images[:1])[1][-1]
    assert torch.allclose(together, alone, atol=1e-5)


def test_matched_features_leave_the_judgement_out_and_send_no_gradient_to_the_truth() -> None:
    true = [[torch.ones(1, 2, 4, 4, requires_grad=True), torch.full((1, 1, 2, 2), 9.0)]]
    made = [[torch.zeros(1, 2, 4, 4, requires_grad=True), torch.zeros(1, 1, 2, 2)]]
    loss = feature_matching(true, made)
    assert float(loss.detach()) == 1.0
    loss.backward()
    assert true[0][0].grad is None
    assert made[0][0].grad is not None
