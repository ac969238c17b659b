"""Actor sets for programs: one portrait in, the addresses of finished training images out."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Unpack

from talent_factory.core.config import parse
from talent_factory.core.errors import TalentError
from talent_factory.core.files import sha256_bytes
from talent_factory.core.records import write_record
from talent_factory.core.workspace import exclusive
from talent_factory.datagen import debug_files
from talent_factory.datagen.access import opened_editor
from talent_factory.datagen.actor import CastOptions, cast_actor
from talent_factory.datagen.cast import CAST_FILE, SHEET_FILE, CastManifest, CastSlot, load_cast
from talent_factory.datagen.commission import Commission, bare_source, keep_order
from talent_factory.datagen.delivery import Delivery
from talent_factory.datagen.order import Picture
from talent_factory.datagen.planning import order_of
from talent_factory.datagen.prompts import actor_sex_of, get_actor_descriptor
from talent_factory.datagen.setting import Extras, Setting, make_setting
from talent_factory.datagen.source import Buffer, bring_picture
from talent_factory.providers.port import ImageEditor

__all__ = ["ActorExtras", "ActorTrainingDataGenerator"]

# Options of a cast that have names of their own in this interface.
_NAMED = {"actor_type", "sex", "in_flight"}


class ActorExtras(Extras, total=False):
    """The extras of an actor set: what `CastOptions` explains, besides `Extras`."""

    recipe: str
    aspect: str | None
    count: int | None
    keep: int | None
    pay_again: bool
    portrait_medium: str
    portrait_words: tuple[str, ...]
    provider_options: dict[str, str]


class ActorTrainingDataGenerator:
    """Makes the training images of an actor from one portrait and brings them to a store.

    `replicate_token` (default: REPLICATE_API_TOKEN from the environment or `.env`) pays; `debug_dir` gets
    each image, what was sent for it and a sheet of all; `batch_size` is how many images are under way at a
    time. `extras` hold for every call, see `ActorExtras`; above all `provider`, "replicate" unless named.
    """

    def __init__(
        self,
        replicate_token: str | None = None,
        debug_dir: str | Path | None = None,
        batch_size: int = 5,
        **extras: Unpack[ActorExtras],
    ) -> None:
        self._token = replicate_token
        self.debug_dir = Path(debug_dir).expanduser() if debug_dir else None
        self.batch_size = batch_size
        self._extras: dict[str, Any] = dict(extras)

    def __repr__(self) -> str:
        return f"ActorTrainingDataGenerator(batch_size={self.batch_size})"

    def generate_training_data(
        self,
        portrait_url: str | Path | None,
        user_id: str | int,
        actor_id: str | int,
        actor_type: str = "human",
        actor_sex: str | None = None,
        portrait_buffer: Buffer | None = None,
        **extras: Unpack[ActorExtras],
    ) -> dict[str, Any]:
        """Cast the actor and deliver every image; a second call goes on where the first one ended.

        A buffer comes first; the address serves when there is none or it cannot be read. Returns
        `training_image_urls` (in slot order), `total_training_images`, `target_training_images`, `failed`
        (slot, number, code, message), `cost` (dollars spent on this actor in all), `manifest_path`,
        `contact_sheet`, `provider`, `model`, `augmented` and `run_id`. Fewer images than the target are a
        success; not one is an error.

        Raises UsageError and ConfigError (ids, arguments, settings), PortraitError, ProviderRefused (no key,
        no credit), PolicyRefused (budget), StorageError, ProviderError, Cancelled, DiskFull: always with
        everything that was paid kept, and nothing paid when ids, key, store or portrait are unfit.
        """
        wanted = {**self._extras, **extras}
        offered = set(CastOptions.model_fields) - _NAMED
        setting = make_setting(wanted, kind="actor", user_id=user_id, actor_id=actor_id, options=offered)
        sex = actor_sex_of(actor_sex)
        get_actor_descriptor(actor_type, sex)  # refuses what it does not know, with a remedy
        chosen = {
            **setting.options,
            "actor_type": actor_type.strip().lower(),
            "sex": sex,
            "in_flight": self.batch_size,
        }
        options = parse(CastOptions, chosen, source="the arguments")
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
            setting.delivery.check()
            portrait = bring_picture(
                portrait_url,
                portrait_buffer,
                into=Path(scratch),
                allow_local=setting.allow_local,
                say=setting.reporter.message,
            )
            if isinstance(setting.provider, str):
                keep_order(_order(setting, options, portrait_url), setting.folder)
            run = _Run(setting, options, editor, self.debug_dir)
            return run.finish(run.cast(portrait))


def _order(setting: Setting, options: CastOptions, source: str | Path | None) -> Commission:
    """What the command line needs to go on with this cast."""
    recipe = str(Path(options.recipe).absolute()) if options.recipe.endswith(".toml") else options.recipe
    return Commission(
        token=setting.token,
        source=bare_source(str(source)) if source else "portrait_buffer",
        provider=str(setting.provider),
        model=setting.model,
        actor=options.model_copy(update={"recipe": recipe}),
        store=setting.store,
        user_id=setting.user_id,
        actor_id=setting.actor_id,
    )


class _Run:
    """One call: the cast, its delivery and its debug files."""

    def __init__(
        self, setting: Setting, options: CastOptions, editor: ImageEditor, debug_dir: Path | None
    ) -> None:
        self._setting, self._options, self._editor, self._debug = setting, options, editor, debug_dir
        self._delivery: Delivery = setting.delivery

    def cast(self, portrait: Path) -> CastManifest:
        setting = self._setting
        try:
            with setting.stoppable() as stop:
                return cast_actor(
                    portrait,
                    out=setting.folder,
                    token=setting.token,
                    options=self._options,
                    editor=self._editor,
                    reporter=setting.reporter,
                    stop=stop,
                    # the best of more are known at the end only; nothing else is worth a place in the store
                    deliver=None if self._options.keep else self._deliver,
                )
        finally:
            if self._debug is not None and (setting.folder / CAST_FILE).is_file():
                self._write_debug(load_cast(setting.folder), self._debug)

    def finish(self, cast: CastManifest) -> dict[str, Any]:
        """Deliver what earlier calls made, note the addresses, and say what there is."""
        self._delivery.put_rest({slot.number: self._setting.folder / slot.file for slot in cast.done})
        for slot in cast.made:
            if slot.url and not slot.kept:
                self._delivery.withdraw(slot.number)
        cast = self._noted(cast)
        urls, errors = self._delivery.urls, self._delivery.errors
        if errors and not urls:
            first = next(iter(errors.values()))
            first.message += f"; {len(cast.done)} images are made and kept in {self._setting.folder}"
            raise first
        return self._result(cast, urls, errors)

    def _deliver(self, picture: Picture) -> str:
        if self._debug is not None:
            # as they come: a look at the first image may save the price of the others
            number = int(picture.path.name.partition("_")[0])
            debug_files.write_image(self._debug, debug_files.output_file(number), picture.path)
            if picture.sent:
                debug_files.write_payload(self._debug, number, picture.sent)
        return self._delivery(picture)

    def _noted(self, cast: CastManifest) -> CastManifest:
        """The manifest with the addresses of this store, which may be another one than last time."""
        slots = tuple(self._noted_slot(slot) if slot.state == "done" else slot for slot in cast.slots)
        if slots != cast.slots:
            cast = cast.model_copy(update={"slots": slots})
            with exclusive(self._setting.folder):
                write_record(self._setting.folder / CAST_FILE, cast)
        return cast

    def _noted_slot(self, slot: CastSlot) -> CastSlot:
        error = self._delivery.errors.get(slot.number)
        said = f"made, but not delivered: {error.message}" if error else ""
        return slot.model_copy(update={"url": self._delivery.urls.get(slot.number, ""), "error": said})

    def _write_debug(self, cast: CastManifest, debug: Path) -> None:
        folder = self._setting.folder
        for slot in cast.made:
            debug_files.write_image(debug, debug_files.output_file(slot.number), folder / slot.file)
        orders = [(slot.number, order_of(slot, cast, folder)) for slot in cast.slots]
        sent = debug_files.sent_for(orders, folder=folder, editor=self._editor)
        for number, payload in sent.items():
            debug_files.write_payload(debug, number, payload)
        if (folder / SHEET_FILE).is_file():
            debug_files.write_if_new(debug / debug_files.GRID_FILE, (folder / SHEET_FILE).read_bytes())

    def _result(
        self, cast: CastManifest, urls: Mapping[int, str], errors: Mapping[int, TalentError]
    ) -> dict[str, Any]:
        folder = self._setting.folder
        failed = [
            {"slot": slot.name, "number": slot.number, "code": slot.code, "message": slot.error}
            for slot in cast.slots
            if slot.state != "done"
        ]
        failed += [
            {"slot": slot.name, "number": slot.number, "code": "NOT_DELIVERED", "message": slot.error}
            for slot in cast.done
            if slot.number in errors
        ]
        return {
            "training_image_urls": list(urls.values()),
            "total_training_images": len(urls),
            "target_training_images": cast.target,
            "failed": failed,
            "cost": debug_files.spent_usd(folder),
            "manifest_path": str(folder / CAST_FILE),
            "contact_sheet": str(folder / SHEET_FILE),
            "provider": cast.provider,
            "model": cast.model,
            "augmented": cast.augmented,
            "token": cast.token,
            # names the images that were asked for: a second call that goes on has the same one
            "run_id": sha256_bytes("\n".join(slot.key for slot in cast.slots).encode())[:16],
        }
