"""Every encoder keeps the contract; networks written out over tensors equal the modules they stand for."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers import CLIPConfig, CLIPModel, Dinov2Config, Dinov2Model

from contract.identity_encoder import IdentityEncoderContract, drawing
from talent_factory.core.errors import ConfigError
from talent_factory.training.families.random_base import make_random_base
from talent_factory.training.likeness.encoders import (
    AnswerEncoder,
    IdentityEncoder,
    LayoutEncoder,
    ProbeEncoder,
    open_encoder,
    open_judge,
)
from talent_factory.training.likeness.faces import ArcFaceEncoder, CcipEncoder, caformer, iresnet
from talent_factory.training.likeness.pretrained import ClipEncoder, DinoEncoder
from talent_factory.training.likeness.records import Ask, Shot
from talent_factory.world import Character
from talent_factory.world.draw import draw_character


@pytest.fixture(scope="session")
def clip_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A CLIP with random weights and the little tokenizer of the random base."""
    folder = tmp_path_factory.mktemp("clip")
    base = make_random_base(tmp_path_factory.mktemp("for_its_words"), seed=2)
    for part in (base / "tokenizer").iterdir():
        (folder / part.name).write_bytes(part.read_bytes())
    text = {
        "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2,
        "max_position_embeddings": 16, "vocab_size": 49408, "projection_dim": 24,
    }  # fmt: skip
    vision = {
        "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2,
        "image_size": 32, "patch_size": 8, "projection_dim": 24,
    }  # fmt: skip
    torch.manual_seed(0)
    CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=24)).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def dino_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dino")
    torch.manual_seed(0)
    config = Dinov2Config(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=2, image_size=56, patch_size=14
    )
    Dinov2Model(config).save_pretrained(folder)
    return folder


class TestLayout(IdentityEncoderContract):
    @pytest.fixture
    def encoder(self) -> IdentityEncoder:
        return LayoutEncoder()

    def test_a_copy_is_found_when_it_is_scaled_and_a_grey_wall_is_nothing(self) -> None:
        encoder = LayoutEncoder()
        small = np.asarray(Image.fromarray(drawing(0, size=256)).resize((90, 90)))
        rows = encoder.embed([drawing(0, size=256), small, drawing(1), np.full((9, 9, 3), 128, np.uint8)])
        assert rows[0] @ rows[1] > 0.98 > rows[0] @ rows[2]
        assert not rows[3].any()


class TestProbe(IdentityEncoderContract):
    @pytest.fixture
    def encoder(self) -> IdentityEncoder:
        return ProbeEncoder()

    def test_the_same_character_elsewhere_is_nearer_than_another_in_his_place(
        self, encoder: IdentityEncoder
    ) -> None:
        him = Character(kind="man", hair="spiky", hair_colour="black", skin="tan", background="red")
        other = Character(kind="woman", hair="long", hair_colour="blond", skin="dark", background="red")
        rng = np.random.default_rng(0)
        pictures = [
            draw_character(him, rng, size=128),
            draw_character(him.__class__(**{**_fields(him), "background": "city"}), rng, size=128),
            draw_character(other, rng, size=128),
        ]
        rows = encoder.embed(pictures)
        assert rows[0] @ rows[1] > 0.9 > rows[0] @ rows[2]

    def test_a_prompt_is_obeyed_or_not(self) -> None:
        rng = np.random.default_rng(0)
        picture = draw_character(Character(mood="smiling", background="city"), rng, size=128)
        asked = Ask(medium="flat", mood="smiling", background="city")
        other = Ask(medium="comic", mood="angry", background="yellow")
        shots = [Shot(prompt="", plain="", seed=0, ask=ask, group=0) for ask in (asked, other)]
        told = ProbeEncoder().adherence([picture, picture], shots)
        assert told[0] > 0.9
        assert told[1] < 0.1


class TestStyle(IdentityEncoderContract):
    @pytest.fixture
    def encoder(self) -> IdentityEncoder:
        return open_encoder("probe:style")

    def test_the_medium_counts_and_not_who_is_drawn(self, encoder: IdentityEncoder) -> None:
        rng = np.random.default_rng(0)
        asked = [("man", "ink"), ("woman", "ink"), ("man", "watercolor")]
        pictures = [draw_character(Character(kind=a, medium=b), rng, size=128) for a, b in asked]
        rows = encoder.embed(pictures)
        assert rows[0] @ rows[1] > 0.9
        assert rows[0] @ rows[2] < 0.5


class TestAnswers(IdentityEncoderContract):
    @pytest.fixture
    def encoder(self) -> IdentityEncoder:
        return AnswerEncoder()


class TestDino(IdentityEncoderContract):
    @pytest.fixture
    def encoder(self, dino_folder: Path) -> IdentityEncoder:
        return DinoEncoder(dino_folder)


class TestClip(IdentityEncoderContract):
    @pytest.fixture
    def encoder(self, clip_folder: Path) -> IdentityEncoder:
        return ClipEncoder(clip_folder)

    def test_pictures_and_texts_meet_as_transformers_lets_them(self, clip_folder: Path) -> None:
        """Against the library's own similarity of the two, scaled by its temperature."""
        encoder = ClipEncoder(clip_folder)
        model = CLIPModel.from_pretrained(clip_folder)
        texts, pictures = ["a man", "a robot"], [drawing(0), drawing(2)]
        with torch.no_grad():
            tokens = encoder._tokenizer(
                texts, padding="max_length", truncation=True, max_length=16, return_tensors="pt"
            )
            pixels = encoder._frame.tensor(pictures)
            theirs = model(input_ids=tokens.input_ids, pixel_values=pixels)
        ours = encoder.embed(pictures) @ encoder.texts(texts).T
        scaled = theirs.logits_per_image.numpy() / model.logit_scale.exp().item()
        assert ours == pytest.approx(scaled, abs=1e-5)

    def test_adherence_is_the_lead_over_other_prompts(self, clip_folder: Path) -> None:
        encoder = ClipEncoder(clip_folder)
        shots = [Shot(prompt="x", plain=text, seed=0, group=0) for text in ("a man", "a robot", "a man")]
        told = encoder.adherence([drawing(0), drawing(1), drawing(0)], shots)
        cosines = encoder.embed([drawing(0), drawing(1)]) @ encoder.texts(["a man", "a robot"]).T
        assert told[0] == told[2] == pytest.approx(cosines[0, 0] - cosines[0, 1], abs=1e-6)
        assert told[1] == pytest.approx(cosines[1, 1] - cosines[1, 0], abs=1e-6)


def whole_picture(_: Image.Image) -> tuple[tuple[float, float, float, float], ...]:
    """A finder that sees a face all over."""
    return ((0.2, 0.2, 0.8, 0.8),)


class Block(nn.Module):
    """ArcFace's block in the words of torch, to compare with."""

    def __init__(self, inside: int, outside: int, stride: int) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(inside)
        self.conv1 = nn.Conv2d(inside, outside, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(outside)
        self.prelu = nn.PReLU(outside)
        self.conv2 = nn.Conv2d(outside, outside, 3, stride=stride, padding=1, bias=False)
        self.bn3 = nn.BatchNorm2d(outside)
        if stride == 2:
            self.downsample = nn.Sequential(
                nn.Conv2d(inside, outside, 1, stride=2, bias=False), nn.BatchNorm2d(outside)
            )

    def forward(self, x: Tensor) -> Tensor:
        own = self.downsample(x) if hasattr(self, "downsample") else x
        return self.bn3(self.conv2(self.prelu(self.bn2(self.conv1(self.bn1(x)))))) + own


class ResNet(nn.Module):
    """A narrow network of ArcFace's form for faces of 32 pixels."""

    def __init__(self) -> None:
        super().__init__()
        widths = (4, 4, 6, 8, 8)
        self.conv1, self.bn1 = nn.Conv2d(3, 4, 3, padding=1, bias=False), nn.BatchNorm2d(4)
        self.prelu = nn.PReLU(4)
        for number in range(1, 5):
            first = Block(widths[number - 1], widths[number], 2)
            second = Block(widths[number], widths[number], 1)
            setattr(self, f"layer{number}", nn.Sequential(first, second))
        self.bn2, self.fc, self.features = nn.BatchNorm2d(8), nn.Linear(32, 16), nn.BatchNorm1d(16)

    def forward(self, x: Tensor) -> Tensor:
        x = self.prelu(self.bn1(self.conv1(x)))
        for number in range(1, 5):
            x = getattr(self, f"layer{number}")(x)
        return self.features(self.fc(self.bn2(x).flatten(1)))


def lively(module: nn.Module) -> nn.Module:
    """Every number different from its neutral start, so that none can be left out unseen."""
    generator = torch.Generator().manual_seed(4)
    for tensor in module.state_dict().values():
        if tensor.is_floating_point():
            tensor.copy_(torch.rand(tensor.shape, generator=generator) * 0.5 + 0.1)
    return module.eval()


@pytest.fixture(scope="session")
def arcface_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("arcface")
    torch.manual_seed(1)
    save_file(ResNet().eval().state_dict(), folder / "model.safetensors")
    return folder


class TestArcFace(IdentityEncoderContract):
    @pytest.fixture
    def encoder(self, arcface_folder: Path) -> IdentityEncoder:
        return ArcFaceEncoder(arcface_folder, finder=whole_picture)

    def test_where_no_face_is_there_is_nothing_to_compare(self, arcface_folder: Path) -> None:
        encoder = ArcFaceEncoder(arcface_folder, finder=lambda _: ())
        assert not encoder.embed([drawing(0)]).any()

    def test_the_largest_face_is_looked_at(self, arcface_folder: Path) -> None:
        two = np.concatenate([drawing(0), drawing(2)], axis=1)
        found = ((0.05, 0.1, 0.15, 0.3), (0.55, 0.1, 0.95, 0.9))
        second = ArcFaceEncoder(arcface_folder, finder=lambda _: found).embed([two])
        alone = ArcFaceEncoder(arcface_folder, finder=lambda _: ((0.1, 0.1, 0.9, 0.9),)).embed([drawing(2)])
        assert second == pytest.approx(alone, abs=1e-5)

    def test_without_a_finder_it_is_refused(self, arcface_folder: Path) -> None:
        with pytest.raises(ConfigError, match="scikit-image is not installed"):
            ArcFaceEncoder(arcface_folder, finder=lambda _: None)

    def test_the_written_out_network_is_the_module(self) -> None:
        module, pixels = lively(ResNet()), torch.rand(2, 3, 32, 32)
        with torch.no_grad():
            assert torch.allclose(iresnet(module.state_dict(), pixels), module(pixels), rtol=1e-4, atol=1e-5)


class Star(nn.Module):
    """StarReLU in the words of torch."""

    def __init__(self) -> None:
        super().__init__()
        self.scale, self.bias = nn.Parameter(torch.ones(1)), nn.Parameter(torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        return self.scale * torch.relu(x) ** 2 + self.bias


class Factor(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(width))


class First(nn.Module):
    """Channels first: the norm over channels at each place, without a bias."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        mean, variance = x.mean(1, keepdim=True), x.var(1, keepdim=True, unbiased=False)
        return (x - mean) / (variance + 1e-6).sqrt() * self.weight.view(1, -1, 1, 1)


class ConvMixer(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.pwconv1, self.act1 = nn.Conv2d(width, 2 * width, 1, bias=False), Star()
        self.dwconv = nn.Conv2d(2 * width, 2 * width, 7, padding=3, groups=2 * width, bias=False)
        self.pwconv2 = nn.Conv2d(2 * width, width, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.pwconv2(self.dwconv(self.act1(self.pwconv1(x))))


class HeadMixer(nn.Module):
    """Attention in full, by its formula, over (B, C, H, W)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.qkv, self.proj = nn.Linear(width, 3 * width, bias=False), nn.Linear(width, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        _batch, width, height, across = x.shape
        rows = self.qkv(x.flatten(2).transpose(1, 2))  # (B, N, 3 C)
        query, key, value = (
            part.unflatten(2, (width // 32, 32)).transpose(1, 2) for part in rows.chunk(3, dim=2)
        )
        seen = ((query @ key.transpose(2, 3)) / 32**0.5).softmax(dim=3) @ value
        out = self.proj(seen.transpose(1, 2).flatten(2))
        return out.transpose(1, 2).unflatten(2, (height, across))


class MetaBlock(nn.Module):
    def __init__(self, width: int, mixer: nn.Module, *, scaled: bool, dense: bool) -> None:
        super().__init__()
        self.norm1, self.norm2, self.token_mixer = First(width), First(width), mixer
        self.mlp = nn.Module()
        for name, inside, outside in (("fc1", width, 4 * width), ("fc2", 4 * width, width)):
            linear, conv = nn.Linear(inside, outside, bias=False), nn.Conv2d(inside, outside, 1, bias=False)
            setattr(self.mlp, name, linear if dense else conv)
        self.mlp.act = Star()
        if scaled:
            self.res_scale1, self.res_scale2 = Factor(width), Factor(width)

    def forward(self, x: Tensor) -> Tensor:
        x = self._own(x, "res_scale1") + self.token_mixer(self.norm1(x))
        inside = self.mlp.act(self._apply(self.mlp.fc1, self.norm2(x)))
        return self._own(x, "res_scale2") + self._apply(self.mlp.fc2, inside)

    def _own(self, x: Tensor, name: str) -> Tensor:
        return x * getattr(self, name).scale.view(1, -1, 1, 1) if hasattr(self, name) else x

    def _apply(self, layer: nn.Module, x: Tensor) -> Tensor:
        if isinstance(layer, nn.Conv2d):
            return layer(x)
        return layer(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class Stage(nn.Module):
    def __init__(self, before: int, width: int, number: int) -> None:
        super().__init__()
        if before != width:
            self.downsample = nn.Module()
            self.downsample.norm = First(before)
            self.downsample.conv = nn.Conv2d(before, width, 3, stride=2, padding=1)
        late = number >= 2
        mixers = [HeadMixer(width) if late else ConvMixer(width) for _ in range(2)]
        self.blocks = nn.Sequential(*(MetaBlock(width, one, scaled=late, dense=late) for one in mixers))

    def forward(self, x: Tensor) -> Tensor:
        if hasattr(self, "downsample"):
            x = self.downsample.conv(self.downsample.norm(x))
        return self.blocks(x)


class SmallCaformer(nn.Module):
    """CAFormer with channels first, as its authors write it."""

    def __init__(self) -> None:
        super().__init__()
        widths = (8, 16, 32, 64)
        self.stem = nn.Module()
        self.stem.conv, self.stem.norm = nn.Conv2d(3, 8, 7, stride=4, padding=2), First(8)
        pairs = zip((8, *widths[:-1]), widths, strict=True)
        self.stages = nn.Sequential(*(Stage(a, b, number) for number, (a, b) in enumerate(pairs)))
        self.head = nn.Module()
        self.head.norm = nn.LayerNorm(64, eps=1e-6)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stages(self.stem.norm(self.stem.conv(x)))
        return self.head.norm(x.mean(dim=(2, 3)))


@pytest.fixture(scope="session")
def ccip_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("ccip")
    torch.manual_seed(1)
    save_file(SmallCaformer().state_dict(), folder / "model.safetensors")
    return folder


class TestCcip(IdentityEncoderContract):
    @pytest.fixture
    def encoder(self, ccip_folder: Path) -> IdentityEncoder:
        return CcipEncoder(ccip_folder)

    def test_the_written_out_network_is_the_module(self) -> None:
        module, pixels = lively(SmallCaformer()), torch.rand(2, 3, 64, 64)
        with torch.no_grad():
            assert torch.allclose(caformer(module.state_dict(), pixels), module(pixels), rtol=1e-3, atol=1e-4)


def test_configs_name_encoders(clip_folder: Path, dino_folder: Path, ccip_folder: Path) -> None:
    assert open_encoder("probe").name == "probe"
    assert open_encoder("answers").name == "probe answers"
    assert open_encoder("layout").name == "layout"
    assert open_encoder("answers:style").name == "probe answers of medium"
    assert open_encoder(f"dinov2:{dino_folder}").name == f"dinov2 {dino_folder.name}"
    assert open_encoder(f"ccip:{ccip_folder}").name == f"ccip {ccip_folder.name}"
    assert open_judge(f"clip:{clip_folder}").name == f"clip {clip_folder.name}"
    assert len(open_encoder(f"dinov2:{dino_folder}").revision) == 64
    assert open_judge("none").adherence([drawing(0)], []).tolist() == [1.0]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("magic", "names no encoder"),
        ("dinov2", "names no encoder"),
        ("dinov2:nowhere", "holds no model.safetensors"),
        ("clip:nowhere", "holds no model.safetensors"),
        ("arcface:nowhere", "cannot be read as arcface weights"),
        ("ccip:nowhere", "cannot be read as ccip weights"),
    ],
)
def test_what_is_no_encoder_is_refused_in_one_line(text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as refusal:
        open_encoder(text)
    assert "\n" not in refusal.value.message
    assert refusal.value.remedy


def test_weights_of_another_network_are_refused(dino_folder: Path, ccip_folder: Path, tmp_path: Path) -> None:
    for text in (f"arcface:{ccip_folder}", f"ccip:{dino_folder}"):
        with pytest.raises(ConfigError, match=r"is no (arcface|ccip) network: it has no"):
            open_encoder(text)
    (tmp_path / "model.safetensors").write_bytes(b"\x80\x04 a pickle")
    for kind in ("dinov2", "clip", "arcface", "ccip"):
        with pytest.raises(ConfigError, match=r"cannot be (loaded|read)"):
            open_encoder(f"{kind}:{tmp_path}")
    with pytest.raises(ConfigError, match="reads no prompts"):
        open_judge(f"dinov2:{dino_folder}")


def _fields(who: Character) -> dict[str, object]:
    return {name: getattr(who, name) for name in who.__dataclass_fields__}
