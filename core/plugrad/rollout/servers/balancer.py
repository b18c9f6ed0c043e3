"""Which servers are asked: the one with the fewest requests in flight of those that are known to be well."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field

from plugrad.errors import EngineError

FAILURES_UNTIL_OUT = 3
"""One slow answer is no reason to give a server up; so many in a row are."""


@dataclass
class Place:
    """A server's place in the rotation."""

    address: str
    is_in: bool = False
    """Servers come in with their first weights."""
    num_in_flight: int = 0
    num_failures: int = 0
    """In a row."""
    last_said: str = "it has not been given weights yet"


@dataclass
class Rotation:
    """The servers and how they are. Used by the engine's event loop alone, so it needs no lock."""

    places: Sequence[Place] = field(default_factory=list)
    where_to_look: Callable[[], str] = lambda: ""
    """What is said after an error: where more is found."""

    @classmethod
    def of(cls, addresses: Sequence[str], where_to_look: Callable[[], str] = lambda: "") -> Rotation:
        """Return a rotation that no server has come into."""
        return cls([Place(address) for address in addresses], where_to_look)

    @property
    def inside(self) -> list[Place]:
        """The servers that are asked."""
        return [place for place in self.places if place.is_in]

    @property
    def outside(self) -> list[Place]:
        """The servers that are not."""
        return [place for place in self.places if not place.is_in]

    def pick(self, avoiding: Collection[str]) -> Place | None:
        """Return the server with the fewest requests in flight, one of `avoiding` only if there is no other."""
        return min(self.inside, key=lambda place: (place.address in avoiding, place.num_in_flight), default=None)

    def succeeded(self, place: Place) -> None:
        """Note a good answer."""
        place.num_failures = 0

    def failed(self, place: Place, said: str) -> None:
        """Note an answer that was refused, or none; after several in a row the server is out."""
        place.num_failures += 1
        place.last_said = said
        if place.num_failures >= FAILURES_UNTIL_OUT:
            place.is_in = False

    def out(self, place: Place, said: str) -> None:
        """Ask this server no more until it is found well."""
        place.is_in = False
        place.last_said = said

    def back(self, place: Place) -> None:
        """Ask this server again."""
        place.is_in, place.num_failures = True, 0

    def after_update(self, complaints: Mapping[str, str | None]) -> None:
        """Keep the servers that took the new weights: those without a complaint."""
        for place in self.places:
            complaint = complaints[place.address]
            if complaint is None:
                self.back(place)
            else:
                self.out(place, complaint)

    def nobody_answers(self, why: str) -> EngineError:
        """Return the error for a run whose servers are all out, with what each of them said last."""
        said = "".join(f"\n    {place.address}: {place.last_said}" for place in self.places)
        return EngineError(f"{why}{said}{self.where_to_look()}")
