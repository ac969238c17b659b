"""Write the photos that will do as a kohya folder: `30_name`, square on white, each with its caption."""

from __future__ import annotations

from pathlib import Path

from PIL import Image

from talent_factory.core.files import atomic_path
from talent_factory.dataset.captions import CaptionStyle, compose, with_trigger
from talent_factory.dataset.frame import fit
from talent_factory.dataset.layout import read_folder
from talent_factory.dataset.masks import write_mask
from talent_factory.dataset.photos import Photo, PhotoSet, open_photo
from talent_factory.dataset.picture_sheet import Tile, draw_sheet

REPEATS = 30
_SHOTS = {"close-up": "close-up", "portrait": "portrait", "body": ""}


def write_photo_folder(
    found: PhotoSet, out: Path, *, token: str, class_noun: str, resolution: int, medium: str = "photo"
) -> Path:
    """Write `out/30_token/NN.png` with `NN.txt` beside for each kept photo; returns that folder.

    Pictures are `resolution` x `resolution`, the whole photo on white. A caption that came along keeps its
    words and gets the trigger in front when it lacks it; the others say trigger, medium, framing and the
    colour of a plain background, and nothing of what never changes about the person.
    """
    sources = {source.name: source for source in read_folder(Path(found.folder), stray_texts=True)}
    place = out / f"{REPEATS}_{token}"
    place.mkdir(parents=True)
    kept = [photo for photo in found.photos if photo.name in found.kept]
    for number, photo in enumerate(kept, start=1):
        source = sources[photo.name]
        whole = open_photo(source.path)
        path = place / f"{number:02d}.png"
        fit(whole, resolution=resolution, mode="letterbox").save(path, format="PNG", compress_level=6)
        write_mask(source.mask, whole, path, resolution=resolution, mode="letterbox")
        text = photo_caption(photo, token=token, class_noun=class_noun, resolution=resolution, medium=medium)
        path.with_suffix(".txt").write_text(text + "\n", "utf-8")
    return place


def photo_caption(
    photo: Photo, *, token: str, class_noun: str, resolution: int, medium: str = "photo"
) -> str:
    """The caption of one photo, its own words first where it brought any."""
    if photo.caption:
        return with_trigger(photo.caption, token=token, class_noun=class_noun)[0]
    return compose(
        token=token,
        class_noun=class_noun,
        medium=medium,
        shot=_SHOTS.get(photo.framing, ""),
        scene=[photo.place],
        form=CaptionStyle().form_at(resolution),
    )


def write_photo_sheet(found: PhotoSet, place: Path, target: Path, *, title: str) -> Path:
    """One picture of all photos: the prepared ones with their remarks, those left out crossed out; JPEG."""
    sources = {source.name: source.path for source in read_folder(Path(found.folder), stray_texts=True)}
    prepared = iter(sorted(place.glob("[0-9]*.png")))
    prepared = (path for path in prepared if not path.name.endswith(".mask.png"))
    seen = any(photo.faces for photo in found.photos)
    tiles = []
    for photo in found.photos:
        kept = photo.name in found.kept
        path = next(prepared) if kept else sources[photo.name]
        said = "; ".join(photo.remarks)
        plain = "no face seen from the front" if seen and photo.faces == 0 else "fits"
        tiles.append(
            Tile(path, photo.name, said or plain, mark="cross" if not kept else "warn" if said else "")
        )
    sheet = draw_sheet(tiles, title=title, subtitle=f"{len(found.kept)} of {len(found.photos)} photos used")
    with atomic_path(target) as path:
        _save(sheet, path)
    return target


def _save(sheet: Image.Image, path: Path) -> None:
    sheet.save(path, format="JPEG", quality=88, subsampling=0)
