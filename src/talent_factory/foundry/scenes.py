"""The fixed scenes that every kit is shown in, so that two kits, or a kit and its base, can be compared."""

from __future__ import annotations

from talent_factory.core.records import Record


class Scene(Record):
    """One evaluation scene: a short title for people and a prompt with a `{subject}` to fill."""

    title: str
    template: str

    def prompt(self, subject: str) -> str:
        """The prompt for one subject, such as `dot_kairo woman`."""
        return self.template.replace("{subject}", subject)


# Each scene changes medium, mood and place at once: a kit that only memorised its training images fails here.
EVALUATION_SCENES: tuple[Scene, ...] = (
    Scene(title="Downtown, smiling", template="flat portrait of a {subject}, smiling, city background"),
    Scene(title="In the woods", template="watercolor portrait of a {subject}, surprised, forest background"),
    Scene(title="Ink on white", template="ink portrait of a {subject}, neutral, white background"),
    Scene(title="Angry at night", template="comic portrait of a {subject}, angry, night background"),
    Scene(title="Pencil by the sea", template="pencil portrait of a {subject}, smiling, beach background"),
    Scene(title="Full figure", template="flat full body of a {subject}, neutral, teal background"),
)

# The mix is judged on plain scenes: the style kit, not the prompt, has to bring the look.
MIX_SCENES: tuple[Scene, ...] = (
    Scene(title="Portrait", template="flat portrait of a {subject}, smiling, blue background"),
    Scene(title="Night", template="flat portrait of a {subject}, neutral, night background"),
)


def subject(token: str | None, class_noun: str) -> str:
    """What a prompt calls the actor: trigger first, then the class the base already knows."""
    return f"{token} {class_noun}" if token else class_noun
