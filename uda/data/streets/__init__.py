"""Streets: our own renderer of labelled street scenes, in two domains."""

from uda.data.streets.domain import Domain
from uda.data.streets.domains import DOMAINS
from uda.data.streets.render import render

__all__ = ["DOMAINS", "Domain", "render"]
