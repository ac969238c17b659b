"""What stands around the step: captions, batches and precision, how often is saved, and the labels."""

from __future__ import annotations

from talent_factory.training.kohya.sheet import Sheet, whole


def captions(sheet: Sheet) -> None:
    """What happens to captions; kohya leaves them alone unless told."""
    dropout = sheet.number("caption_dropout_rate")
    sheet.put("captions.dropout", whole(dropout or 0.0), source="caption_dropout_rate", raw=dropout)
    thinned = sheet.number("caption_tag_dropout_rate")
    if thinned:
        sheet.put("captions.tag_dropout", thinned, source="caption_tag_dropout_rate", raw=thinned)
    if sheet.flag("shuffle_caption"):
        sheet.put(
            "captions.shuffle",
            True,
            source="shuffle_caption",
            raw=True,
            text="captions.variants different orders of each",
        )
    kept = sheet.number("keep_tokens")
    sheet.quietly("captions.keep_tokens", int(kept or 0))
    if kept:
        sheet.say("mapped", "keep_tokens", int(kept), f"captions.keep_tokens: {int(kept)}")
    extension = sheet.take("caption_extension", sheet.take("caption_extention"))
    if extension not in (None, ".txt", ".caption"):
        sheet.say("differs", "caption_extension", extension, "captions are .txt or .caption files")
    skipped = sheet.number("clip_skip")
    if skipped and skipped > 1:
        if sheet.config.get("sdx_version") == "xl":
            sheet.say("needless", "clip_skip", int(skipped), "SDXL always reads the last layer but one")
        else:
            sheet.say("differs", "clip_skip", int(skipped), "the last layer of the text encoder is used")


def pace(sheet: Sheet, *, steps: int, per_epoch: int) -> None:
    """How often is saved and sampled; `per_epoch` steps make an epoch, 0 where nobody knows."""
    for name, key in (("save_every_n", "checkpoint_every"), ("sample_every_n", "sample_every")):
        epochs, count = sheet.number(f"{name}_epochs"), sheet.number(f"{name}_steps")
        if epochs and per_epoch:
            sheet.put(key, max(1, round(epochs * per_epoch)), source=f"{name}_epochs", raw=whole(epochs))
        elif count:
            sheet.put(key, max(1, round(count)), source=f"{name}_steps", raw=whole(count))
        elif epochs:
            sheet.say(
                "differs",
                f"{name}_epochs",
                whole(epochs),
                f"an epoch's steps are not known without the images: {key} stays as it is",
            )
    kept, recent = sheet.number("save_last_n_epochs"), sheet.number("save_last_n_steps")
    if kept:
        sheet.put("keep_checkpoints", min(100, int(kept)), source="save_last_n_epochs", raw=int(kept))
    elif recent:
        every = sheet.config.get("checkpoint_every", steps)
        sheet.put(
            "keep_checkpoints",
            max(1, min(100, 1 + int(recent) // int(every))),
            source="save_last_n_steps",
            raw=int(recent),
        )


def machine(sheet: Sheet) -> None:
    """Batch, accumulation, precision and memory."""
    batch = sheet.number("train_batch_size")
    sheet.put("batch_size", max(1, round(batch or 1)), source="train_batch_size", raw=batch)
    accumulated = sheet.number("gradient_accumulation_steps")
    if accumulated and accumulated > 1:
        sheet.put(
            "accumulation", int(accumulated), source="gradient_accumulation_steps", raw=int(accumulated)
        )
    if sheet.flag("gradient_checkpointing"):
        sheet.put("gradient_checkpointing", True, source="gradient_checkpointing", raw=True)
    mixed = str(sheet.take("mixed_precision", "no"))
    precision = {"fp16": "fp16", "bf16": "bf16"}.get(mixed, "fp32")
    small = [name for name in ("fp8_base", "fp8_base_unet") if sheet.flag(name)]
    sheet.put(
        "precision",
        "fp8" if small else precision,
        source=small[0] if small else "mixed_precision",
        raw=True if small else mixed,
    )
    seed = sheet.number("seed")
    if seed is None:
        sheet.say("differs", "seed", None, "sd-scripts draws one by chance; here it is seed: 0")
    else:
        sheet.put("seed", int(seed), source="seed", raw=int(seed))
    if sheet.flag("flip_aug"):
        sheet.put("flip", True, source="flip_aug", raw=True)


def labels(sheet: Sheet) -> None:
    """What the file will say of itself, and who is told of the training."""
    for source, key, longest in (
        ("metadata_author", "author", 200),
        ("metadata_license", "license", 200),
        ("metadata_description", "description", 2000),
    ):
        value = sheet.take(source)
        if value:
            sheet.put(key, str(value)[:longest], source=source, raw=value)
    tags = sheet.take("metadata_tags")
    if tags:
        sheet.put(
            "tags",
            [tag.strip() for tag in str(tags).split(",") if tag.strip()],
            source="metadata_tags",
            raw=tags,
        )
    reporter = str(sheet.take("log_with", "") or "").lower()
    project = sheet.take("log_tracker_name")
    if reporter in ("wandb", "all"):
        sheet.put("wandb", str(project or "network_train"), source="log_with", raw=reporter)
    if reporter in ("tensorboard", "all"):
        sheet.put("tensorboard", True, source="log_with", raw=reporter)
    share, every = sheet.number("validation_split"), sheet.number("validate_every_n_steps")
    if share:
        sheet.put("validation.share", min(0.5, share), source="validation_split", raw=share)
        if every:
            sheet.put("validation.every", int(every), source="validate_every_n_steps", raw=int(every))
