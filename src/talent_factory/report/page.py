"""Write the page: one HTML file that holds pictures, style and script and asks the network for nothing."""

from __future__ import annotations

import base64
import hashlib
from importlib.resources import files
from pathlib import Path

from jinja2 import Environment, FunctionLoader, StrictUndefined
from markupsafe import Markup

from talent_factory import __version__
from talent_factory.core.files import write_text
from talent_factory.core.plan import duration
from talent_factory.report.content import ChoiceContent, ReportContent
from talent_factory.report.curve import loss_curve
from talent_factory.report.persona import PersonaContent
from talent_factory.report.pictures import embed, embed_cell
from talent_factory.report.speaking import SpeakingContent, embed_video, mouth_curve


def write_report(content: ReportContent, target: Path) -> Path:
    """Render `content` to `target` atomically and return it.

    Raises FileError when a picture cannot be read, DiskFull when there is no room.
    """
    write_text(target, render_page(content))
    return target


def render_page(content: ReportContent) -> str:
    """The page as text. All of `content` is escaped; only our own style, script and curve are not."""
    style, script = _asset("page.css"), _asset("page.js")
    return (
        _environment()
        .get_template("page.html.j2")
        .render(
            c=content,
            x=content.choice,
            curve=loss_curve(content.loss, content.validation),
            slowest=max((timing.seconds for timing in content.timings), default=0.0) or 1.0,
            total=sum(timing.seconds for timing in content.timings),
            style=Markup(style),
            script=Markup(script),
            policy=_policy(style, script),
        )
    )


def write_choice_page(content: ChoiceContent, target: Path) -> Path:
    """Render the choice of one run as a page of its own and return `target`; raises as `write_report`."""
    style, script = _asset("page.css"), _asset("page.js")
    text = (
        _environment()
        .get_template("choice_page.html.j2")
        .render(
            x=content,
            curve=loss_curve(content.loss, content.validation),
            style=Markup(style),
            script=Markup(script),
            policy=_policy(style, script),
            version=__version__,
        )
    )
    write_text(target, text)
    return target


def write_persona_page(content: PersonaContent, target: Path) -> Path:
    """Render the page of a persona and return `target`; raises as `write_report`."""
    style, script = _asset("page.css") + _asset("persona.css"), _asset("page.js")
    text = (
        _environment()
        .get_template("persona_page.html.j2")
        .render(
            x=content,
            style=Markup(style),
            script=Markup(script),
            policy=_policy(style, script),
            version=__version__,
        )
    )
    write_text(target, text)
    return target


def write_speaking_page(content: SpeakingContent, target: Path) -> Path:
    """Render the page of the lip-sync demo and return `target`; raises as `write_report`."""
    style, script = _asset("page.css") + _asset("speaking.css"), _asset("page.js")
    text = (
        _environment()
        .get_template("speaking_page.html.j2")
        .render(
            x=content,
            curve=loss_curve(content.loss, ()),
            style=Markup(style),
            script=Markup(script),
            policy=_policy(style, script) + "; media-src data:",
            version=__version__,
        )
    )
    write_text(target, text)
    return target


def _environment() -> Environment:
    environment = Environment(
        loader=FunctionLoader(_asset),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals |= {
        "embed": embed,
        "embed_cell": embed_cell,
        "embed_video": embed_video,
        "mouth_curve": mouth_curve,
    }
    environment.filters["duration"] = duration
    return environment


def _policy(style: str, script: str) -> str:
    """A content security policy that allows this very style and script, inline pictures, and nothing else."""
    return (
        f"default-src 'none'; img-src data:; style-src {_source(style)}; script-src {_source(script)}; "
        "base-uri 'none'; form-action 'none'"
    )


def _source(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _asset(name: str) -> str:
    return files("talent_factory.report").joinpath(name).read_text(encoding="utf-8")
