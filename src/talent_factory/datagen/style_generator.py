"""Style sets for programs: one picture in, the addresses of square training images in its style out."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any, Literal, Unpack

from talent_factory.core.config import parse
from talent_factory.core.files import sha256_bytes
from talent_factory.datagen import debug_files
from talent_factory.datagen.access import base_url_of, key_of, opened_editor
from talent_factory.datagen.commission import Commission, bare_source, keep_order
from talent_factory.datagen.setting import Extras, Setting, make_setting
from talent_factory.datagen.source import Buffer, bring_picture
from talent_factory.datagen.style import StyleOptions, cast_style
from talent_factory.datagen.style_cast import STYLE_FILE, StyleCast, load_style
from talent_factory.datagen.style_sheet import SHEET_FILE
from talent_factory.providers.port import ImageEditor
from talent_factory.providers.vision.catalog import make_vision
from talent_factory.providers.vision.port import Vision

__all__ = ["StyleExtras", "TrainingDataGenerator"]

# Options of a style cast that have names of their own in this interface.
_NAMED = {"count", "max_sheets", "in_flight"}


class StyleExtras(Extras, total=False):
    """The extras of a style set: what `StyleOptions` explains, who looks at pictures, besides `Extras`."""

    mode: Literal["grid", "direct"]
    trigger: Literal["start", "end"]
    vision: str | Vision
    vision_model: str | None
    source_buffer: Buffer | None


class TrainingDataGenerator:
    """Makes square images of many subjects in the style of one picture and brings them to a store.

    `replicate_token` (default: REPLICATE_API_TOKEN) pays for the pictures. With `openai_api_key` (default:
    OPENAI_API_KEY) a model looks at the style and at every tile, else the embedded analyser does; `vision`
    says so outright. The attributes `target_training_images`, `max_generation_attempts` (sheets) and
    `batch_size` (under way at a time) may be set; `extras` hold for every call, see `StyleExtras`.
    """

    def __init__(
        self,
        replicate_token: str | None = None,
        openai_api_key: str | None = None,
        debug_dir: str | Path | None = None,
        **extras: Unpack[StyleExtras],
    ) -> None:
        self._token, self._openai_key = replicate_token, openai_api_key
        self.debug_dir = Path(debug_dir).expanduser() if debug_dir else None
        self.target_training_images = 20
        self.max_generation_attempts = 10
        self.batch_size = 3
        self._extras: dict[str, Any] = dict(extras)

    def __repr__(self) -> str:
        return f"TrainingDataGenerator(target_training_images={self.target_training_images})"

    def generate_training_data(
        self,
        source_image_url: str | Path | None,
        user_id: str | int,
        actor_id: str | int,
        **extras: Unpack[StyleExtras],
    ) -> dict[str, Any]:
        """Cast the style and deliver every kept image; a second call goes on where the first one ended.

        `source_buffer` comes first where it is given and readable. Returns `training_image_urls` (in the
        order of the images), `total_grids_generated`, `total_training_images`, `target_training_images`,
        `failed`, `cost` (dollars), `manifest_path`, `contact_sheet`, `provider`, `model`, `vision`, `token`
        and `run_id`. Fewer images than the target are a success; not one is an error. Raises what
        `ActorTrainingDataGenerator` raises.
        """
        wanted: dict[str, Any] = {**self._extras, **extras}
        setting = make_setting(
            wanted,
            kind="style",
            user_id=user_id,
            actor_id=actor_id,
            options=set(StyleOptions.model_fields) - _NAMED,
            others=("vision", "vision_model", "source_buffer"),
        )
        chosen = {
            **setting.options,
            "count": self.target_training_images,
            "max_sheets": self.max_generation_attempts,
            "in_flight": self.batch_size,
        }
        options = parse(StyleOptions, chosen, source="the arguments")
        key = self._token if setting.provider == "replicate" else None
        with (
            opened_editor(
                setting.provider,
                model=setting.model,
                key=key,
                base_url=setting.base_url,
                dotenv=setting.dotenv,
            ) as editor,
            tempfile.TemporaryDirectory(prefix="talent-") as scratch,
        ):
            vision = self._vision(wanted, setting)
            setting.delivery.check()
            picture = bring_picture(
                source_image_url,
                wanted.get("source_buffer"),
                into=Path(scratch),
                name="source",
                allow_local=setting.allow_local,
                say=setting.reporter.message,
            )
            if isinstance(setting.provider, str) and isinstance(wanted.get("vision", ""), str):
                keep_order(_order(setting, options, source_image_url, wanted, vision), setting.folder)
            cast = self._cast(picture, setting, options, editor, vision)
        return self._result(cast, setting)

    def _vision(self, wanted: dict[str, Any], setting: Setting) -> Vision:
        chosen = wanted.get("vision")
        if chosen is not None and not isinstance(chosen, str):
            return chosen  # type: ignore[no-any-return]
        key = self._openai_key or key_of("openai", dotenv=setting.dotenv)
        if chosen is None:
            # whoever paints offline does not expect that a picture leaves the machine for a look at it
            online = self._openai_key or (key and setting.provider != "embedded")
            chosen = "openai" if online else "embedded"
        return make_vision(
            chosen,
            model=wanted.get("vision_model"),
            key=key if chosen == "openai" else None,
            base_url=base_url_of("openai", dotenv=setting.dotenv) if chosen == "openai" else None,
            notice=setting.reporter.message,
        )

    def _cast(
        self, picture: Path, setting: Setting, options: StyleOptions, editor: ImageEditor, vision: Vision
    ) -> StyleCast:
        try:
            with setting.stoppable() as stop:
                return cast_style(
                    picture,
                    out=setting.folder,
                    token=setting.token,
                    options=options,
                    editor=editor,
                    vision=vision,
                    reporter=setting.reporter,
                    stop=stop,
                )
        finally:
            if (setting.folder / STYLE_FILE).is_file():
                self._keep(load_style(setting.folder), setting)

    def _keep(self, cast: StyleCast, setting: Setting) -> None:
        """Deliver what there is, also of a set that was cut short, and write the debug files."""
        setting.delivery.put_rest({tile.image: setting.folder / tile.file for tile in cast.kept})
        if self.debug_dir is None:
            return
        for sheet in cast.sheets:
            if sheet.state == "done":
                debug_files.write_image(
                    self.debug_dir, f"grid{sheet.number}.jpg", setting.folder / sheet.file
                )
        for tile in cast.kept:
            debug_files.write_image(
                self.debug_dir, f"training-image{tile.image}.jpg", setting.folder / tile.file
            )
        last = {
            attempt.key: attempt.sent for attempt in debug_files.read_attempts(setting.folder) if attempt.sent
        }
        for sheet in cast.sheets:
            if sheet.key in last:
                debug_files.write_payload(self.debug_dir, sheet.number, last[sheet.key])

    def _result(self, cast: StyleCast, setting: Setting) -> dict[str, Any]:
        urls, errors = setting.delivery.urls, setting.delivery.errors
        if errors and not urls:
            first = next(iter(errors.values()))
            first.message += f"; {len(cast.kept)} images are made and kept in {setting.folder}"
            raise first
        failed = [
            {"slot": f"sheet {sheet.number}", "code": sheet.code, "message": sheet.error}
            for sheet in cast.failed
        ]
        failed += [
            {"slot": f"image {number}", "code": "NOT_DELIVERED", "message": error.message}
            for number, error in errors.items()
        ]
        return {
            "training_image_urls": list(urls.values()),
            "total_grids_generated": sum(sheet.state == "done" for sheet in cast.sheets),
            "total_training_images": len(urls),
            "target_training_images": cast.target,
            "failed": failed,
            "cost": debug_files.spent_usd(setting.folder),
            "manifest_path": str(setting.folder / STYLE_FILE),
            "contact_sheet": str(setting.folder / SHEET_FILE),
            "provider": cast.provider,
            "model": cast.model,
            "vision": cast.vision,
            "token": cast.token,
            "run_id": sha256_bytes("\n".join(sheet.key for sheet in cast.sheets).encode())[:16],
        }


def _order(
    setting: Setting,
    options: StyleOptions,
    source: str | Path | None,
    wanted: dict[str, Any],
    vision: Vision,
) -> Commission:
    """What the command line needs to go on with this set."""
    return Commission(
        token=setting.token,
        source=bare_source(str(source)) if source else "source_buffer",
        provider=str(setting.provider),
        model=setting.model,
        style=options,
        vision=vision.name.partition(" ")[0],
        vision_model=wanted.get("vision_model"),
        store=setting.store,
        user_id=setting.user_id,
        actor_id=setting.actor_id,
    )
