"""The names of VAE and text encoders in a single-file checkpoint and in diffusers form, both ways.

Source: `Encoder` and `Decoder` of CompVis/stable-diffusion, the text transformer of mlfoundations/open_clip,
and the module trees of diffusers' AutoencoderKL and transformers' CLIPTextModel.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
from torch import Tensor

_ATTENTION = {"norm": "group_norm", "q": "to_q", "k": "to_k", "v": "to_v", "proj_out": "to_out.0"}
_BACK = {new: old for old, new in _ATTENTION.items()}


def vae_to_diffusers(name: str, levels: int) -> str:
    """A tensor name of an autoencoder of `levels` levels, from CompVis' form; others stay as they are."""
    if match := re.fullmatch(r"encoder\.down\.(\d+)\.block\.(\d+)\.(.+)", name):
        return f"encoder.down_blocks.{match[1]}.resnets.{match[2]}.{_shortcut(match[3])}"
    if match := re.fullmatch(r"encoder\.down\.(\d+)\.downsample\.(.+)", name):
        return f"encoder.down_blocks.{match[1]}.downsamplers.0.{match[2]}"
    if match := re.fullmatch(r"decoder\.up\.(\d+)\.block\.(\d+)\.(.+)", name):
        # CompVis counts the decoder's levels from the finest, diffusers in the order of computing
        return f"decoder.up_blocks.{levels - 1 - int(match[1])}.resnets.{match[2]}.{_shortcut(match[3])}"
    if match := re.fullmatch(r"decoder\.up\.(\d+)\.upsample\.(.+)", name):
        return f"decoder.up_blocks.{levels - 1 - int(match[1])}.upsamplers.0.{match[2]}"
    if match := re.fullmatch(r"(encoder|decoder)\.mid\.block_(\d)\.(.+)", name):
        return f"{match[1]}.mid_block.resnets.{int(match[2]) - 1}.{_shortcut(match[3])}"
    if match := re.fullmatch(r"(encoder|decoder)\.mid\.attn_1\.(\w+)\.(.+)", name):
        return f"{match[1]}.mid_block.attentions.0.{_ATTENTION.get(match[2], match[2])}.{match[3]}"
    return re.sub(r"^(encoder|decoder)\.norm_out\.", r"\1.conv_norm_out.", name)


def vae_to_checkpoint(name: str, levels: int) -> str:
    """The way back of `vae_to_diffusers`."""
    if match := re.fullmatch(r"encoder\.down_blocks\.(\d+)\.resnets\.(\d+)\.(.+)", name):
        return f"encoder.down.{match[1]}.block.{match[2]}.{_nin(match[3])}"
    if match := re.fullmatch(r"encoder\.down_blocks\.(\d+)\.downsamplers\.0\.(.+)", name):
        return f"encoder.down.{match[1]}.downsample.{match[2]}"
    if match := re.fullmatch(r"decoder\.up_blocks\.(\d+)\.resnets\.(\d+)\.(.+)", name):
        return f"decoder.up.{levels - 1 - int(match[1])}.block.{match[2]}.{_nin(match[3])}"
    if match := re.fullmatch(r"decoder\.up_blocks\.(\d+)\.upsamplers\.0\.(.+)", name):
        return f"decoder.up.{levels - 1 - int(match[1])}.upsample.{match[2]}"
    if match := re.fullmatch(r"(encoder|decoder)\.mid_block\.resnets\.(\d)\.(.+)", name):
        return f"{match[1]}.mid.block_{int(match[2]) + 1}.{_nin(match[3])}"
    if match := re.fullmatch(r"(encoder|decoder)\.mid_block\.attentions\.0\.(to_out\.0|\w+)\.(.+)", name):
        return f"{match[1]}.mid.attn_1.{_BACK.get(match[2], match[2])}.{match[3]}"
    return re.sub(r"^(encoder|decoder)\.conv_norm_out\.", r"\1.norm_out.", name)


def _shortcut(rest: str) -> str:
    return rest.replace("nin_shortcut", "conv_shortcut")


def _nin(rest: str) -> str:
    return rest.replace("conv_shortcut", "nin_shortcut")


_OPEN_CLIP_TOP = {
    "token_embedding.weight": "text_model.embeddings.token_embedding.weight",
    "positional_embedding": "text_model.embeddings.position_embedding.weight",
    "ln_final.weight": "text_model.final_layer_norm.weight",
    "ln_final.bias": "text_model.final_layer_norm.bias",
}
_OPEN_CLIP_LAYER = {
    "ln_1": "layer_norm1",
    "ln_2": "layer_norm2",
    "attn.out_proj": "self_attn.out_proj",
    "mlp.c_fc": "mlp.fc1",
    "mlp.c_proj": "mlp.fc2",
}
_PROJECTIONS = ("q_proj", "k_proj", "v_proj")


def text_from_open_clip(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of a CLIPTextModelWithProjection from those of open_clip, which joins q, k and v in one."""
    found: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        if name in _OPEN_CLIP_TOP:
            found[_OPEN_CLIP_TOP[name]] = tensor
        elif name == "text_projection":
            # open_clip multiplies from the other side
            found["text_projection.weight"] = tensor.T.contiguous()
        elif match := re.fullmatch(r"transformer\.resblocks\.(\d+)\.attn\.in_proj_(weight|bias)", name):
            place = f"text_model.encoder.layers.{match[1]}.self_attn"
            for part, piece in zip(_PROJECTIONS, tensor.chunk(3), strict=True):
                found[f"{place}.{part}.{match[2]}"] = piece.contiguous()
        elif match := re.fullmatch(r"transformer\.resblocks\.(\d+)\.(.+)\.(weight|bias)", name):
            inner = _OPEN_CLIP_LAYER.get(match[2], match[2])
            found[f"text_model.encoder.layers.{match[1]}.{inner}.{match[3]}"] = tensor
    return found


def text_to_open_clip(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The way back of `text_from_open_clip`; names may come with or without `text_model.`."""
    top = {new.removeprefix("text_model."): old for old, new in _OPEN_CLIP_TOP.items()}
    layer = {new: old for old, new in _OPEN_CLIP_LAYER.items()}
    plain = {name.removeprefix("text_model."): tensor for name, tensor in tensors.items()}
    found: dict[str, Tensor] = {}
    for name, tensor in plain.items():
        match = re.fullmatch(r"encoder\.layers\.(\d+)\.(.+)\.(weight|bias)", name)
        if name in top:
            found[top[name]] = tensor
        elif name == "text_projection.weight":
            found["text_projection"] = tensor.T.contiguous()
        elif match and match[2] == "self_attn.q_proj":
            place = f"encoder.layers.{match[1]}.self_attn"
            joined = torch.cat([plain[f"{place}.{part}.{match[3]}"] for part in _PROJECTIONS])
            found[f"transformer.resblocks.{match[1]}.attn.in_proj_{match[3]}"] = joined
        elif match and match[2] in layer:
            found[f"transformer.resblocks.{match[1]}.{layer[match[2]]}.{match[3]}"] = tensor
    return found
