"""`[plugins]`: what is installed and is not to be used."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, Field

from plugrad.config.tables.table import Table


def _is_plugin(value: str) -> str:
    if not all(value.split("/")) or value.count("/") > 2 or value != value.strip() or ":" in value:
        raise ValueError('write a package, as "plugrad-broken", or a kind and a name, as "metric/slow"')
    return value


class PluginsTable(Table):
    """`[plugins]`: what is installed and is not to be used."""

    disable: list[Annotated[str, AfterValidator(_is_plugin)]] = Field(
        default=[],
        description='Never imported: packages, and components as `kind/name` or `kind/package/name`, such as "metric/slow".',
    )
