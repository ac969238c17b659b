"""What a validator says about a kit: findings with a code, a file, a message and a remedy."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Literal

from talent_factory.core.records import Record

Severity = Literal["error", "warning"]

# Every code with what it means; `docs` and tests read this table.
CODES: Mapping[str, str] = MappingProxyType(
    {
        "kit-missing": "there is no such folder",
        "link": "a link, pipe or device inside the kit, or the kit itself is a link",
        "pickle": "a file of a kind that can run code when it is loaded",
        "too-many-files": "more files or deeper folders than any kit needs",
        "file-missing": "a file that every kit has is not there",
        "file-unreadable": "a file cannot be read, or is larger than allowed",
        "manifest-json": "talent.json is no plain JSON object",
        "manifest-field": "a field of talent.json is missing, unknown or out of its bounds",
        "id": "the id is no talent id",
        "id-mismatch": "the folder has another name than the id in talent.json",
        "id-collision": "another kit's folder differs only in upper and lower case",
        "token-missing": "an identity kit without a token",
        "subject": "a real minor, or a real person without consent",
        "size": "size_mb is not the size of weights.safetensors",
        "digest": "a file is not the one whose sha256 the manifest states",
        "digest-missing": "the manifest states no sha256 for a file",
        "signature": "the kit is not as it was when it was signed, or SIGNATURE.json is no signature",
        "base-unknown": "the base that the kit names cannot be looked up",
        "base-mismatch": "the weights belong to a base other than the manifest says",
        "weights-truncated": "weights.safetensors ends too early",
        "weights-header": "weights.safetensors has no header that we accept",
        "weights-duplicate": "a name occurs twice in the header of weights.safetensors",
        "weights-dtype": "a tensor of a number type that a LoRA does not use",
        "weights-layout": "tensor bytes overlap, leave a hole or do not fit their shape",
        "weights-empty": "weights.safetensors holds no tensors",
        "key-unknown": "a tensor that no module of the base takes",
        "pair-missing": "lora_down without lora_up, or the reverse",
        "alpha-missing": "a module without its alpha",
        "alpha-value": "alpha is not a positive number, or not the one that the manifest states",
        "rank": "a rank other than lora_rank",
        "shape": "a tensor whose shape does not fit its module",
        "not-finite": "NaN or infinity in a tensor",
        "all-zero": "weights that change nothing: an untrained LoRA",
        "zero-module": "some modules change nothing",
        "delta-size": "weights that drown the base",
        "text-encoder": "metadata.text_encoder and the tensors disagree",
        "header-metadata": "the header of the weights says something else than the manifest",
        "prompts": "prompts.json does not fit its form",
        "base-txt": "base.txt and talent.json disagree",
        "license-empty": "LICENSE.txt is empty or no text",
        "example": "an example or the preview is no readable image",
        "image-place": "an image says where it was taken",
        "examples-few": "fewer than three examples",
        "name": "a file name that some systems cannot hold, show as another or take for another",
        "kind": "a file of a kind that no kit needs",
        "archive": "an archive that is broken, hides something or is of a kind that is not unpacked",
        "archive-bomb": "an archive or header that unfolds to far more than it is",
        "lora-form": "weights of another kind than a plain LoRA for Stable Diffusion",
    }
)


class KitFinding(Record):
    """One thing that is wrong (error) or weak (warning); `file` is relative, "" for the kit itself."""

    severity: Severity
    code: str
    file: str
    message: str
    remedy: str


class KitReport(Record):
    """What is known about one kit after looking at all of it; `valid` means that no finding is an error."""

    version: Literal[1] = 1
    id: str
    path: str
    valid: bool
    findings: tuple[KitFinding, ...] = ()

    @property
    def errors(self) -> tuple[KitFinding, ...]:
        """The findings that make the kit invalid."""
        return tuple(finding for finding in self.findings if finding.severity == "error")

    @property
    def warnings(self) -> tuple[KitFinding, ...]:
        """The findings that leave the kit valid."""
        return tuple(finding for finding in self.findings if finding.severity == "warning")


class Notes:
    """Collects findings of one kit; after a few of one code and file it only counts."""

    LIMIT = 5

    def __init__(self) -> None:
        self._found: list[KitFinding] = []
        self._counts: dict[tuple[str, str], int] = {}

    def error(self, code: str, file: str, message: str, remedy: str) -> None:
        """Note what makes the kit invalid."""
        self._add("error", code, file, message, remedy)

    def warning(self, code: str, file: str, message: str, remedy: str) -> None:
        """Note what is weak but usable."""
        self._add("warning", code, file, message, remedy)

    def extend(self, findings: Iterable[KitFinding]) -> None:
        """Take findings made elsewhere."""
        for finding in findings:
            self._add(finding.severity, finding.code, finding.file, finding.message, finding.remedy)

    @property
    def total(self) -> int:
        """How many findings were noted so far, the merely counted ones too."""
        return sum(self._counts.values())

    @property
    def failed(self) -> bool:
        """Whether an error was noted."""
        return any(finding.severity == "error" for finding in self._found)

    def report(self, *, kit: Path, name: str) -> KitReport:
        """Close the list: errors first, and a count where a code occurred too often to list."""
        found = sorted(self._found, key=lambda finding: finding.severity)
        for (code, file), count in self._counts.items():
            if count > self.LIMIT:
                last = next(f for f in reversed(found) if (f.code, f.file) == (code, file))
                more = last.model_copy(update={"message": f"and {count - self.LIMIT} more of the same kind"})
                found.insert(found.index(last) + 1, more)
        return KitReport(id=name, path=kit.as_posix(), valid=not self.failed, findings=tuple(found))

    def _add(self, severity: Severity, code: str, file: str, message: str, remedy: str) -> None:
        assert code in CODES, code
        count = self._counts[code, file] = self._counts.get((code, file), 0) + 1
        if count <= self.LIMIT:
            finding = KitFinding(severity=severity, code=code, file=file, message=message, remedy=remedy)
            self._found.append(finding)
