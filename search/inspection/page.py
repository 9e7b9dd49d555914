"""One interactive page of what a trained network does; it needs nothing but itself, and works in a sandboxed frame."""

from __future__ import annotations

import re
from html import escape
from importlib.resources import files

from search.inspection.gates_over_training import Epochs, gates_over_training
from search.inspection.markup import Section
from search.inspection.measures import Inspection, subtitle


def inspection_html(inspection: Inspection, title: str, epochs: Epochs = ()) -> str:
    """The page; `epochs` are the gates' open rates by epoch."""
    sections = [
        Section(picture.name, picture.link, headline, picture.content(part))
        for picture, part, headline in inspection.pictures()
    ]
    if epochs and epochs[-1][1]:
        sections.append(gates_over_training(epochs))
    body = "\n".join(section.html() for section in sections)
    values = {
        "title": escape(title),
        "about": escape(subtitle(inspection)),
        "nav": "".join(f'<a href="#{section.name}">{section.link}</a>' for section in sections),
        "body": body or "<p>Nothing in this network depends on the image.</p>",
    }
    page = files("search.inspection").joinpath("page.html").read_text(encoding="utf-8")
    return re.sub("@(title|about|nav|body)@", lambda match: values[match[1]], page)
