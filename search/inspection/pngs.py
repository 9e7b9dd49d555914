"""An inspection as PNGs, one a picture, for folders and the MLflow UI."""

from __future__ import annotations

from functools import partial

from search.inspection.figure import blank
from search.inspection.measures import Inspection
from search.report.canvas import as_png


def inspection_pngs(inspection: Inspection, network: str) -> dict[str, bytes]:
    """A PNG by name of everything that applies to the network, which `network` describes."""
    return {
        picture.name: as_png(picture.plot(part, partial(blank, headline, network)))
        for picture, part, headline in inspection.pictures()
    }
