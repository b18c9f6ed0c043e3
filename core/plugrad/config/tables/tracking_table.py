"""`[tracking]`: experiment trackers that get the numbers and samples of a run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field, create_model, field_validator

from plugrad.config.tables.table import Table
from plugrad.errors import did_you_mean
from plugrad.shown import shown

Tracker = Literal["tensorboard", "wandb", "trackio", "mlflow", "swanlab", "clearml", "comet_ml", "aim"]
NAMES: tuple[str, ...] = Tracker.__args__  # type: ignore[attr-defined]

if TYPE_CHECKING:
    _With = Table
else:
    # A word of Python's own, so it cannot be written as a field.
    _WITH = Field(default=[], description="Trackers that get the run, by Accelerate's names. Several get all of it.")
    _With = create_model("_With", __base__=Table, **{"with": (list[Tracker], _WITH)})


class TrackingTable(_With):
    """`[tracking]`: experiment trackers that get the numbers and samples of a run."""

    secrets_belong: ClassVar[str] = "log in with the tracker's own command, or set its environment variable"

    project: str = Field(
        default="plugrad", min_length=1, description="The tracker's project: of MLflow and Aim the experiment."
    )
    name: str | None = Field(default=None, min_length=1, description="Name of the run. Default: that of the run folder.")
    tags: list[str] = Field(default=[], description="Tags of the run, where the tracker has them.")
    kwargs: dict[str, dict[str, Any]] = Field(
        default={},
        description="More for a tracker, in a table of its name: what it takes when a run is opened, such as "
        '`{ wandb = { entity = "us" } }`.',
    )

    @field_validator("kwargs", mode="after")
    @classmethod
    def _of_trackers(cls, kwargs: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
        unknown = next((name for name in kwargs if name not in NAMES), None)
        if unknown is not None:
            raise ValueError(
                f"no tracker is called {shown(unknown)}.{did_you_mean(unknown, NAMES)} There are {', '.join(NAMES)}"
            )
        return kwargs

    @property
    def trackers(self) -> list[str]:
        """The names under the key `with`, each once."""
        return list(dict.fromkeys(getattr(self, "with")))
