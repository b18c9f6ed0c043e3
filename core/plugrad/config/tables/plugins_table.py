"""`[plugins]`: installed plugins that the run must not use."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, Field

from plugrad.config.tables.table import Table


def _is_plugin(value: str) -> str:
    if not all(value.split("/")) or value.count("/") > 2 or value != value.strip() or ":" in value:
        raise ValueError('write a package such as "plugrad-broken", or a kind and a name such as "metric/slow"')
    return value


class PluginsTable(Table):
    """`[plugins]`: installed plugins that the run must not use."""

    disable: list[Annotated[str, AfterValidator(_is_plugin)]] = Field(
        default=[],
        description="Packages and components that are never imported. A component is `kind/name` or `kind/package/name`, "
        'such as "metric/slow".',
    )
