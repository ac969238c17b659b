"""Qwen's reader of pictures and words without its video part, which needs torchvision to be imported."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

# Where a pipeline's folder keeps the tokenizer, the first one wins.
_FOLDERS = ("processor", "tokenizer")


def needed(index: dict[str, object]) -> bool:
    """Whether a pipeline (its `model_index.json`) has the processor and this machine lacks torchvision."""
    part = index.get("processor")
    return (
        isinstance(part, list)
        and len(part) == 2
        and str(part[1]) == "Qwen2VLProcessor"
        and find_spec("torchvision") is None
    )


def reader(folder: Path) -> Any:
    """The processor of a pipeline's folder, for still pictures only.

    Raises OSError or ValueError when the folder's tokenizer or its picture settings cannot be read.
    """
    from transformers import Qwen2TokenizerFast, Qwen2VLProcessor
    from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

    class StillPictures(Qwen2VLProcessor):  # type: ignore[misc]
        def __init__(self, pictures: Any, words: Any) -> None:
            # the parent's own __init__ insists on a video processor; everything else of it is kept
            self.image_processor, self.tokenizer = pictures, words
            self.video_processor, self.chat_template = None, None
            self.image_token, self.video_token = "<|image_pad|>", "<|video_pad|>"
            self.image_token_id = words.convert_tokens_to_ids(self.image_token)
            self.video_token_id = words.convert_tokens_to_ids(self.video_token)

    source = next(
        (folder / name for name in _FOLDERS if (folder / name / "tokenizer_config.json").is_file()), folder
    )
    words = Qwen2TokenizerFast.from_pretrained(source, local_files_only=True)
    return StillPictures(
        Qwen2VLImageProcessorPil.from_pretrained(folder / "processor", local_files_only=True), words
    )
