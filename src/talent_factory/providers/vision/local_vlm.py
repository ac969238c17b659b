"""Vision by a local vision-language model through transformers, from a folder or a cached hub id."""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping, Sequence
from typing import Any

from talent_factory.core.errors import ProviderError
from talent_factory.providers.vision.port import U8

_NEW_TOKENS = 900


class LocalAnswerer:
    """Any model that `AutoModelForImageTextToText` loads together with a processor that has a chat template.

    Loaded at the first question. Only files that are already there are used, unless `download`. Answers are
    greedy, so the same picture gives the same answer on the same machine.
    """

    def __init__(self, model: str, *, device: str | None = None, download: bool = False) -> None:
        self._path, self._device, self._download = model, device, download
        self._loaded: tuple[Any, Any] | None = None
        self._lock = threading.Lock()

    @property
    def name(self) -> str:
        """The word under which manifests record it: the model's last name, no path of this machine."""
        return f"local {self._path.rstrip('/').rsplit('/', 1)[-1]}"

    def ask(self, question: str, pictures: Sequence[U8], schema: Mapping[str, object]) -> str:
        """The answer's text; the schema is given in words. Raises ProviderError."""
        with self._lock:
            processor, model = self._load()
            try:
                return self._answer(processor, model, question, pictures, schema)
            except (ValueError, RuntimeError, KeyError, TypeError) as error:
                raise ProviderError(f"{self.name} failed: {type(error).__name__}: {error}") from error

    def _answer(
        self,
        processor: Any,
        model: Any,
        question: str,
        pictures: Sequence[U8],
        schema: Mapping[str, object],
    ) -> str:
        import torch
        from PIL import Image

        parts: list[dict[str, Any]] = [
            {"type": "image", "image": Image.fromarray(picture)} for picture in pictures
        ]
        shape = json.dumps(schema)
        parts.append({"type": "text", "text": f"{question}\nAnswer only with JSON of this schema: {shape}"})
        inputs = processor.apply_chat_template(
            [{"role": "user", "content": parts}],
            add_generation_prompt=True,
            tokenize=True,
            return_dict=True,
            return_tensors="pt",
        ).to(model.device)
        with torch.inference_mode():
            out = model.generate(**inputs, max_new_tokens=_NEW_TOKENS, do_sample=False)
        fresh = out[:, inputs["input_ids"].shape[1] :]
        return str(processor.batch_decode(fresh, skip_special_tokens=True)[0])

    def _load(self) -> tuple[Any, Any]:
        if self._loaded is None:
            import torch
            from transformers import AutoModelForImageTextToText, AutoProcessor

            device = self._device or ("cuda" if torch.cuda.is_available() else "cpu")
            kind = torch.bfloat16 if device.startswith("cuda") else torch.float32
            only = not self._download
            try:
                processor = AutoProcessor.from_pretrained(self._path, local_files_only=only)
                model = AutoModelForImageTextToText.from_pretrained(
                    self._path, local_files_only=only, dtype=kind, use_safetensors=True
                )
            except (OSError, ValueError, ImportError) as error:
                reason = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
                raise ProviderError(
                    f"no vision model could be loaded from {self.name.removeprefix('local ')}: {reason}",
                    remedy="give the folder of a vision-language model in the transformers format",
                ) from error
            self._loaded = (processor, model.to(device).eval())
        return self._loaded
