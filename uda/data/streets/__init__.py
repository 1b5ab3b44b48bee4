"""Streets: our own renderer of labelled street scenes, in several domains."""

from uda.data.streets.domain import Domain
from uda.data.streets.domains import CAMERA, GAME
from uda.data.streets.dusk import DUSK
from uda.data.streets.render import render

DOMAINS: dict[str, Domain] = {domain.name: domain for domain in (GAME, CAMERA, DUSK)}

__all__ = ["DOMAINS", "Domain", "render"]
