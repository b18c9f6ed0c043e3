"""Fake installed distributions: real metadata in a folder on `sys.path`, found by a real scan."""

import importlib
import sys

import pytest


@pytest.fixture
def install(tmp_path, write):
    """Install a distribution that offers `{group: {name: target}}`; return the folder that holds it."""

    def install_one(
        name,
        offers,
        code="def zigzag(inputs): ...",
        *,
        version="1.0",
        summary="",
        requires=(),
        folder="site",
        on_path=True,
        origin=None,
    ):
        info = tmp_path / folder / f"{name.replace('-', '_')}-{version}.dist-info"
        info.mkdir(parents=True)
        metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
        metadata += "".join(f"Requires-Dist: {requirement}\n" for requirement in requires)
        (info / "METADATA").write_text(metadata + (f"Summary: {summary}\n" if summary else ""))
        if origin is not None:
            (info / "direct_url.json").write_text(origin)
        lines = [f"[{group}]\n" + "".join(f"{k} = {v}\n" for k, v in points.items()) for group, points in offers.items()]
        (info / "entry_points.txt").write_text("\n".join(lines))
        for module in {target.partition(":")[0] for points in offers.values() for target in points.values()}:
            write(f"{folder}/{module}.py", code)
        if on_path and str(info.parent) not in sys.path:
            sys.path.insert(0, str(info.parent))
        importlib.invalidate_caches()
        return info.parent

    return install_one
