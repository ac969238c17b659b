"""`talent sample`: write the sample portrait and the sample training data."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from talent_factory.cli.common import JsonOption, console, emit

if TYPE_CHECKING:
    from talent_factory.world.samples import Sample

app = typer.Typer(help="Write the sample portrait and sample data.", no_args_is_help=True)


@app.command()
def portrait(
    path: Annotated[Path, typer.Argument(help="The PNG to write.")] = Path("dot_kairo.png"),
    *,
    as_json: JsonOption = False,
) -> None:
    """Write the portrait of dot_kairo, a drawn character with marks that the base has never seen."""
    from talent_factory.world.samples import kairo_portrait

    _write_png(path, kairo_portrait())
    emit(
        {"portrait": path},
        as_json,
        lambda: console().print(f"{path}\nnext: talent run {path} --token dot_kairo"),
    )


@app.command()
def data(
    *,
    out: Annotated[Path, typer.Option(help="Folder that receives avatar/identity and avatar/style.")] = Path(
        "data"
    ),
    as_json: JsonOption = False,
) -> None:
    """Write the training data of configs/avatar/dot_kairo.yaml and anime_mecha.yaml: images with captions."""
    from talent_factory.world.samples import identity_samples, style_samples

    folders = {
        "identity": (out / "avatar" / "identity" / "dot_kairo" / "images", identity_samples()),
        "style": (out / "avatar" / "style" / "anime_mecha" / "images", style_samples()),
    }
    for folder, samples in folders.values():
        _write_samples(folder, samples)
    written = {
        name: {"folder": folder, "images": len(samples)} for name, (folder, samples) in folders.items()
    }
    lines = [f"{len(samples)} images with captions in {folder}" for folder, samples in folders.values()]
    lines.append("next: talent train configs/avatar/dot_kairo.yaml")
    emit(written, as_json, lambda: console().print("\n".join(lines)))


def _write_samples(folder: Path, samples: list[Sample]) -> None:
    from talent_factory.core.files import write_text

    for number, (picture, text) in enumerate(samples, start=1):
        _write_png(folder / f"{number:02d}.png", picture)
        write_text(folder / f"{number:02d}.txt", text + "\n")


def _write_png(path: Path, picture: object) -> None:
    import io

    from PIL import Image

    from talent_factory.core.files import write_bytes

    stream = io.BytesIO()
    Image.fromarray(picture).save(stream, format="PNG", optimize=True)  # type: ignore[arg-type]
    path.parent.mkdir(parents=True, exist_ok=True)
    write_bytes(path, stream.getvalue())
