"""The fixed scenes that every kit is shown in, so that two kits, or a kit and its base, can be compared."""

from __future__ import annotations

from talent_factory.core.records import Record


class Scene(Record):
    """One evaluation scene: a short title for people and a prompt with a `{subject}` to fill."""

    title: str
    template: str

    def prompt(self, subject: str) -> str:
        """The prompt for one subject, such as `a dot_kairo woman`."""
        return self.template.replace("{subject}", subject)


# Each scene changes medium, mood and place at once: a kit that only memorised its training images fails here.
EVALUATION_SCENES: tuple[Scene, ...] = (
    Scene(title="Downtown, smiling", template="flat portrait of {subject}, smiling, city background"),
    Scene(title="In the woods", template="watercolor portrait of {subject}, surprised, forest background"),
    Scene(title="Ink on white", template="ink portrait of {subject}, neutral, white background"),
    Scene(title="Angry at night", template="comic portrait of {subject}, angry, night background"),
    Scene(title="Pencil by the sea", template="pencil portrait of {subject}, smiling, beach background"),
    Scene(title="Full figure", template="flat full body of {subject}, neutral, teal background"),
)

# The mix is judged on plain scenes; the medium is the style's own trigger where it has one.
MIX_SCENES: tuple[Scene, ...] = (
    Scene(title="Blue room", template="{medium} portrait of {subject}, smiling, blue background"),
    Scene(title="Night", template="{medium} portrait of {subject}, neutral, night background"),
)

# Weights of identity and style on the rungs of the mix; the last rung shows the style alone.
MIX_LADDER: tuple[tuple[float, float], ...] = ((1.0, 0.0), (1.0, 0.4), (1.0, 0.7), (1.0, 1.0), (0.0, 1.0))


def subject(token: str | None, class_noun: str) -> str:
    """What a prompt calls the actor: trigger and class, as in captions; without a trigger, `a CLASS`."""
    return f"a {token} {class_noun}" if token else f"a {class_noun}"


class SceneShot(Record):
    """One evaluation image: the scene's title, the full prompt and the seed."""

    title: str
    prompt: str
    seed: int


def evaluation(token: str | None, class_noun: str, *, seeds: int, seed: int) -> tuple[SceneShot, ...]:
    """The images that a base and a kit are compared on: scenes in order, another seed for each image."""
    who = subject(token, class_noun)
    return tuple(
        SceneShot(title=scene.title, prompt=scene.prompt(who), seed=1000 * seed + 100 + 10 * index + copy)
        for index, scene in enumerate(EVALUATION_SCENES)
        for copy in range(seeds)
    )


def mix_shots(
    token: str | None, class_noun: str, style_token: str | None, *, seed: int
) -> tuple[SceneShot, ...]:
    """The images of one rung of the mix: the same seeds on every rung.

    `token` None leaves the actor out of the prompt, `style_token` None the style.
    """
    who, medium = subject(token, class_noun), style_token or "flat"
    return tuple(
        SceneShot(
            title=scene.title,
            prompt=scene.prompt(who).replace("{medium}", medium),
            seed=1000 * seed + 500 + index,
        )
        for index, scene in enumerate(MIX_SCENES)
    )
