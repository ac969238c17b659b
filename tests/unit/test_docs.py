"""What the documents say holds: their links lead somewhere, their commands exist, and the cheap ones run."""

from __future__ import annotations

import importlib.util
import json
import re
import shlex
import subprocess
import sys
from itertools import takewhile
from pathlib import Path
from typing import Any

import pytest
import typer

from talent_factory.cli import reference
from talent_factory.cli.app import app
from talent_factory.core import errors
from talent_factory.core.workspace import Workspace
from talent_factory.kits.findings import CODES
from talent_factory.lipsync.config_files import PARTS
from talent_factory.training.config import TrainConfig, load_train_config

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted(
    [
        ROOT / "README.md",
        ROOT / "CONTRIBUTING.md",
        ROOT / "CHANGELOG.md",
        ROOT / "benchmarks" / "README.md",
        *(ROOT / "docs").glob("*.md"),
    ]
)
README = (ROOT / "README.md").read_text("utf-8")
_LINK = re.compile(r"\]\(([^)\s]+)\)")
_CODE = re.compile(r"^    (.+)$|`([^`\n]+)`", re.MULTILINE)


def code_in(text: str) -> list[str]:
    """Lines of indented code and pieces of inline code, without their comments."""
    found = (match[1] or match[2] for match in _CODE.finditer(text))
    return [line.split(" #")[0].strip() for line in found]


def talent_commands(text: str) -> list[str]:
    """The code that calls `talent`, placeholders such as CONFIG included."""
    return [line for line in code_in(text) if line.startswith("talent ")]


def _indented(page: Path) -> list[str]:
    """The lines that a reader copies, without their comments."""
    lines = re.findall(r"^    (.+)$", page.read_text("utf-8"), re.MULTILINE)
    return [line.split(" #")[0].strip() for line in lines]


def resolve(words: list[str]) -> tuple[str, Any]:
    """Let the real command line read `words` without running anything; returns the path and the context."""
    command: Any = typer.main.get_command(app)
    context = command.make_context("talent", list(words))
    while hasattr(command, "commands"):
        rest = [*context._protected_args, *context.args]
        assert rest, f"{context.command_path} needs a command"
        name, command, rest = command.resolve_command(context, rest)
        context = command.make_context(name, rest, parent=context)
    return context.command_path, context


def headings(page: Path) -> set[str]:
    """The anchors that a page offers, as GitHub makes them."""
    lines = [line.lstrip("#").strip() for line in page.read_text("utf-8").splitlines() if line[:1] == "#"]
    return {re.sub(r"[^\w\- ]", "", line.lower()).replace(" ", "-") for line in lines}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_every_relative_link_leads_somewhere(page: Path) -> None:
    for target in _LINK.findall(page.read_text("utf-8")):
        if re.match(r"[a-z]+:", target):
            continue
        name, _, anchor = target.partition("#")
        path = (page.parent / name).resolve() if name else page
        assert path.exists(), f"{page.name} links to {target}"
        assert not anchor or anchor in headings(path), f"{page.name} links to {target}"


@pytest.mark.parametrize("line", talent_commands(README))
def test_every_command_of_the_readme_is_one(line: str) -> None:
    resolve(shlex.split(line)[1:])


GUIDES = [ROOT / "docs" / f"{name}.md" for name in ("kits", "foundry", "lipsync", "service")]


@pytest.mark.parametrize(
    "line", sorted({line for page in GUIDES for line in _indented(page) if line.startswith("talent ")})
)
def test_every_command_of_these_guides_is_one(line: str) -> None:
    resolve(shlex.split(line)[1:])


@pytest.mark.parametrize("line", ["talent rune x", "talent train start c.yaml --freshly", "talent kit"])
def test_a_wrong_command_would_be_seen(line: str) -> None:
    with pytest.raises((AssertionError, typer.exceptions.TyperException)):
        resolve(shlex.split(line)[1:])


@pytest.mark.parametrize(
    "page", [page for page in PAGES if page.name != "README.md"], ids=lambda page: page.name
)
def test_every_command_in_the_documents_has_its_place(page: Path) -> None:
    known = {heading.removeprefix("talent ") for heading in _sections()}
    for line in talent_commands(page.read_text("utf-8")):
        said = (word for word in line.split()[1:] if not word.startswith("-"))
        words = list(takewhile(lambda word: re.fullmatch(r"[a-z]+", word), said))
        group = any(name.startswith(f"{words[0]} ") for name in known) if words else False
        assert not words or " ".join(words[: 1 + group]) in known, f"{page.name}: {line}"


def _sections() -> list[str]:
    return re.findall(r"^## (.+)$", reference.reference(), re.MULTILINE)


def test_the_modules_of_the_readme_take_the_options_they_are_shown_with() -> None:
    lines = [line for line in code_in(README) if line.startswith("python -m ")]
    assert len(lines) >= 3
    for line in lines:
        module, *words = line.split()[2:]
        spec = importlib.util.find_spec(module)
        assert spec is not None, line
        assert spec.origin is not None
        source = Path(spec.origin).read_text("utf-8")
        for option in (word for word in words if word.startswith("--")):
            assert f'"{option}"' in source, f"{module} takes no {option}"


def test_make_knows_every_target_that_the_documents_name() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))
    named = {
        line.split()[1]
        for page in PAGES
        for line in code_in(page.read_text("utf-8"))
        if re.fullmatch(r"make [a-z-]+", line)
    }
    assert named
    assert named <= targets


def test_the_generated_pages_are_true() -> None:
    reference.main(["--check", str(ROOT / "docs")])


def test_every_key_of_a_config_is_documented() -> None:
    page = (ROOT / "docs" / "config.md").read_text("utf-8")
    for name, field in TrainConfig.model_fields.items():
        assert field.description, f"{name} has no description"
        row = next((line for line in page.splitlines() if line.startswith(f"| `{name}`")), "")
        assert field.description in row, f"docs/config.md says nothing of {name}"


def test_every_key_of_a_lip_sync_training_is_documented() -> None:
    page = (ROOT / "docs" / "lipsync-config.md").read_text("utf-8")
    shipped = sorted((ROOT / "configs" / "lipsync").glob("*.yaml"))
    assert {path.stem for path in shipped} == set(PARTS)
    for part, record in PARTS.items():
        section = page.split(f"\n## {part}.yaml\n", 1)[1].split("\n## ", 1)[0]
        for name, field in record.model_fields.items():
            key = field.alias or name
            assert field.description, f"{part}.{name} has no description"
            row = next((line for line in section.splitlines() if line.startswith(f"| `{key}`")), "")
            assert " ".join(field.description.split()) in row, (
                f"docs/lipsync-config.md says nothing of {part}.{key}"
            )


def test_every_finding_and_every_error_is_documented() -> None:
    findings = (ROOT / "docs" / "findings.md").read_text("utf-8")
    assert all(f"| `{code}` |" in findings for code in CODES)
    design = (ROOT / "docs" / "design.md").read_text("utf-8")
    kinds = [value for value in vars(errors).values() if isinstance(value, type)]
    for kind in kinds:
        if issubclass(kind, errors.TalentError) and kind is not errors.TalentError:
            assert re.search(rf"`{kind.__name__}`[^|]*\|[^|]*\| {kind.exit_code} \|", design), kind.__name__


def talent(*words: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run the real command in `folder`."""
    command = [sys.executable, "-m", "talent_factory.cli.app", *words]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


@pytest.mark.slow
def test_sample_data_is_written_where_the_configs_look_for_it(tmp_path: Path) -> None:
    done = talent("sample", "data", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    for config in sorted((ROOT / "configs" / "avatar").glob("*.yaml")):
        line = next(line for line in config.read_text("utf-8").splitlines() if "train_data_dir" in line)
        folder = tmp_path / line.split(":")[1].strip()
        images = sorted(path.stem for path in folder.glob("*.png"))
        assert len(images) >= 20
        assert images == sorted(path.stem for path in folder.glob("*.txt"))


def test_the_shortest_config_of_the_guide_is_enough(tmp_path: Path) -> None:
    guide = (ROOT / "docs" / "training.md").read_text("utf-8")
    blocks = re.findall(r"^```yaml\n(.*?)^```", guide, re.MULTILINE | re.DOTALL)
    (text,) = [block for block in blocks if block.startswith("id:")]
    path = tmp_path / "ada.yaml"
    path.write_text(text, "utf-8")
    config = load_train_config(path, place=Workspace(tmp_path))
    assert (config.max_train_steps, config.lora_rank, config.batch_size) == (1200, 16, 1)


@pytest.mark.slow
def test_a_training_is_planned_and_one_of_kohya_read(tmp_path: Path) -> None:
    assert talent("sample", "data", folder=tmp_path).returncode == 0
    plan = talent("train", "plan", str(ROOT / "configs/avatar/dot_kairo.yaml"), folder=tmp_path)
    assert plan.returncode == 0, plan.stderr
    assert "memory: fits" in plan.stdout
    images = tmp_path / "img" / "10_ada_v woman"
    images.mkdir(parents=True)
    (tmp_path / "data/avatar/identity/dot_kairo/images/01.png").rename(images / "1.png")
    command = (
        f"accelerate launch train_network.py --train_data_dir {tmp_path}/img --resolution 512 "
        "--pretrained_model_name_or_path runwayml/stable-diffusion-v1-5 --output_name ada "
        "--network_module networks.lora --network_dim 16 --max_train_steps 500 --learning_rate 1e-4"
    )
    (tmp_path / "train_network.sh").write_text(command, "utf-8")
    done = talent("train", "import", "train_network.sh", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    (written,) = tmp_path.glob("*.yaml")
    config = load_train_config(written, place=Workspace(tmp_path))
    assert (config.token, config.class_noun, config.max_train_steps) == ("ada_v", "woman", 500)


@pytest.mark.slow
def test_validating_nothing_says_what_to_do(tmp_path: Path) -> None:
    done = talent("kit", "validate", folder=tmp_path)
    assert done.returncode == 1
    assert done.stdout == ""
    assert "error: talents/avatar is no folder of kits" in done.stderr
    assert "next: " in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_the_doctor_answers_with_a_verdict(tmp_path: Path) -> None:
    done = talent("doctor", "--json", folder=tmp_path)
    answer = json.loads(done.stdout)
    assert done.returncode == (1 if answer["verdict"] == "error" else 0)
    assert {"python", "torch", "base mini", "workspace"} <= {item["subject"] for item in answer["findings"]}
    assert all(item["remedy"] for item in answer["findings"] if item["severity"] != "ok")
