"""Files with the names of modules, as a working directory may hold them: one that is imported leaves its name."""

import re
import sys
from functools import cache
from importlib.metadata import distributions, packages_distributions

OPTIONAL = [
    "apex",
    "bitsandbytes",
    "cupy",
    "datasets",
    "deepspeed",
    "dill",
    "flash_attn",
    "habana_frameworks",
    "intel_extension_for_pytorch",
    "kernels",
    "liger_kernel",
    "mlflow",
    "mlx",
    "msamp",
    "optimum",
    "orjson",
    "peft",
    "pynvml",
    "sagemaker",
    "sentencepiece",
    "sitecustomize",
    "tensorboard",
    "tensorflow",
    "timm",
    "torch_mlu",
    "torch_musa",
    "torch_npu",
    "torch_sdaa",
    "torch_xla",
    "torchao",
    "torchvision",
    "transformer_engine",
    "triton",
    "trl",
    "ujson",
    "usercustomize",
    "uvloop",
    "vllm",
    "wandb",
    "xformers",
]


@cache
def decoys():
    """Return the name of every module in the standard library, installed, or needed by an extra of what is installed."""
    needed = {
        re.split(r"[^\w.-]", requirement)[0]
        for each in distributions()
        for requirement in each.metadata.get_all("Requires-Dist") or []
    }
    names = {*sys.stdlib_module_names, *packages_distributions(), *OPTIONAL, *(name.replace("-", "_") for name in needed)}
    return sorted(name for name in names if name.isidentifier())


def plant(place, imported):
    """Write a decoy for every name. Those that are imported add their names to the file `imported`."""
    place.mkdir(exist_ok=True)
    for name in decoys():
        (place / f"{name}.py").write_text(f"open({str(imported)!r}, 'a').write('{name} ')\n")
